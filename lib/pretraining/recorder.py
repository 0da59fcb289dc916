"""How a batch of voices is recorded: microphones, rooms, noise floors, band limits and codecs, all made up, where the
model computes.

Waves are float32 `(..., samples)` at 16 kHz, spectra `(..., bins)`.
"""

import math

import numpy as np
import torch
from scipy.fft import next_fast_len

SR, TAIL = 16000, 8000  # Hz; samples of the longest room


class Recorder:
    """Recordings of waves of the given `lengths` (samples), on `device`; what is drawn comes from `generator`, which
    whoever makes a batch sets first. direct_db: by how much a room's tail is weaker than the direct sound, between two
    levels.
    """

    def __init__(self, lengths, device, direct_db=(0.0, 12.0)):
        self.device, self.generator, self.direct_db = device, None, direct_db
        knots = np.linspace(0, SR / 2, 8)
        self.hz = {n: torch.fft.rfftfreq(n, 1 / SR, device=device) for n in lengths}
        self.knots = {
            n: torch.tensor(
                np.stack([np.interp(hz.cpu().numpy(), knots, row) for row in np.eye(8)]),
                dtype=torch.float32,
                device=device,
            )
            for n, hz in self.hz.items()
        }

    def responses(self, rows):
        """What makes a microphone's response: knots in dB `(rows, 8)`, upper and lower edge in Hz `(rows, 1)`."""
        some = self.yes((rows, 1), 0.7)
        return [
            self.uniform((rows, 8), -9, 9) * some,
            torch.where(some & self.yes((rows, 1), 0.4), self.uniform((rows, 1), 3200, 7500), torch.inf),
            self.uniform((rows, 1), 60, 350) * (some & self.yes((rows, 1), 0.3)),
        ]

    def respond(self, own, shared, over, samples):
        """Responses `(size, persons, bins)`: of `shared` where `over`, else of `own`."""
        size, persons = over.shape
        knots, top, bottom = (
            torch.where(over[..., None], b[:, None], a.view(size, persons, -1)) for a, b in zip(own, shared)
        )
        hz = self.hz[samples]
        return 10 ** (knots @ self.knots[samples] / 20) / (1 + (hz / top) ** 24) / (1 + (bottom / hz.clamp_min(1)) ** 8)

    def shape(self, waves, responses, free, over, rooms, tails):
        """Through the microphone where `free`, with a noise floor where not `over` one line, and in a room where
        `rooms`; masks `(size, persons)`.
        """
        responses = torch.where(free[..., None], responses, 1.0)
        waves = torch.fft.irfft(torch.fft.rfft(waves) * responses, waves.shape[-1])
        waves = self.floor(waves, free & ~over)
        fft = next_fast_len(waves.shape[-1] + TAIL, real=True)
        heard = torch.fft.irfft(torch.fft.rfft(waves, fft) * torch.fft.rfft(tails, fft), fft)
        return torch.where(rooms[..., None], heard[..., : waves.shape[-1]], waves)

    def floor(self, waves, where):
        """A noise floor 18 to 40 dB below `waves` in three of ten rows `where`."""
        level = (
            rms(waves)
            * 10 ** (-self.uniform((*where.shape, 1), 18, 40) / 20)
            * (self.yes(where.shape, 0.3) & where)[..., None]
        )
        return waves + level * unit(self.coloured(where.shape, waves.shape[-1]))

    def rooms(self, rows):
        """Impulse responses of made-up rooms `(rows, TAIL)`: direct sound and an exponentially falling tail."""
        t = torch.arange(TAIL, device=self.device)
        last = self.uniform((rows, 1), 0.12, 0.5) * SR
        tail = (
            torch.randn(rows, TAIL, device=self.device, generator=self.generator)
            * torch.exp(-6.9 * t / last)
            * ((t > 0.002 * SR) & (t < last))
        )
        tail *= 10 ** (-self.uniform((rows, 1), *self.direct_db) / 20) / tail.square().sum(-1, keepdim=True).sqrt()
        tail[:, 0] = 1.0
        return tail

    def coloured(self, shape, samples):
        """Noise whose spectrum falls by 0 to 6 dB an octave, `(*shape, samples)`."""
        bins = samples // 2 + 1
        spectrum = (
            torch.randn(*shape, bins, dtype=torch.complex64, device=self.device, generator=self.generator)
            * samples**0.5
        )
        return torch.fft.irfft(
            spectrum / torch.arange(bins, device=self.device).clamp_min(20) ** self.uniform((*shape, 1), 0, 1), samples
        )

    def channel(self, waves, free):
        """`(rows, waves, samples)` with a band limit in a fifth of the rows that are `free`, and 8-bit mu-law on the
        first wave in a tenth.
        """
        shape, samples = (len(waves), 1), waves.shape[-1]
        top = torch.where(self.yes(shape, 0.2) & free[:, None], self.uniform(shape, 3300, 7000), torch.inf)
        waves = torch.fft.irfft(torch.fft.rfft(waves) / (1 + (self.hz[samples] / top[:, None]) ** 24), samples)
        first = waves[:, 0]
        peak = first.abs().amax(-1, keepdim=True) + 1e-9
        coded = (first / peak).sign() * torch.log1p(255 * first.abs() / peak) / math.log(256)
        coded = (coded * 127).round() / 127
        coded = coded.sign() * (256 ** coded.abs() - 1) / 255 * peak
        return torch.cat([torch.where(self.yes(shape, 0.1) & free[:, None], coded, first)[:, None], waves[:, 1:]], 1)

    def uniform(self, shape, low, high):
        shape = (shape,) if isinstance(shape, int) else shape
        return low + (high - low) * torch.rand(shape, device=self.device, generator=self.generator)

    def yes(self, shape, chance):
        return self.uniform(shape, 0, 1) < chance


def rms(waves):
    return waves.square().mean(-1, keepdim=True).sqrt()


def unit(waves):
    return waves / (rms(waves) + 1e-6)
