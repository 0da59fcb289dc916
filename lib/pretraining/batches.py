"""Mixtures made a batch at a time where the model computes: for a GPU, which processor cores that mix
(`lib.pretraining.streaming`) would starve.

Batch `k` is a function of the seed, `k` and the kind of device, and but for rounding of nothing else (on a CPU a filter
is compiled from `WORTH` batches on). Waves are float32 `(rows, samples)` at 16 kHz in [-1, 1], spectra `(rows, bins)`.
What is drawn is what `EndlessMixtures` draws, but for three things: made-up voices (`voice_making`) are made anew for
each mixture, a person's enrollment comes from elsewhere in what they said (not always from another recording), and
there is no GSM telephone.
"""

import math

import numpy as np
import torch
from torch.utils.data import Dataset

from lib import audio
from lib.data.voice_making import HOP, LIFTER, N_FFT
from lib.pretraining import streaming
from lib.pretraining.recorder import Recorder, rms, unit

SR, TAPS = 16000, 16  # Hz; of the filter that resamples
WORTH = 100  # batches from which on compiling that filter pays on a CPU


class MixtureBatches(Dataset):
    """`count` batches of `size` mixtures; each a dict(mix `(size, samples)`, target and enrollment `(size, 2,
    samples)`), on `device`; with who speaks, as `EndlessMixtures` says it: people `(size, 3)` and sex `(size, 2)`.

    voices: a table as `voices.load`'s. made_up: share of persons whose pitch and tract are changed. one_line, plain,
    same_sex and the rest: as in `EndlessMixtures`. room: share of mixtures in which all speak in one room; direct_db:
    by how much its tail is weaker than the direct sound, between two levels. Raises `ValueError` where a sex has fewer
    than two voices with enough speech.
    """

    def __init__(
        self,
        voices,
        count,
        size,
        seed=0,
        seconds=2.4,
        enrollment_seconds=3.2,
        music=(),
        device="cuda",
        same_sex=0.6,
        one_line=0.0,
        plain=0.3,
        made_up=0.6,
        sir_db=(-5.0, 5.0),
        second_interferer=0.1,
        noise_share=0.3,
        noise_snr_db=(5.0, 20.0),
        room=0.12,
        direct_db=(0.0, 12.0),
    ):
        self.count, self.size, self.seed, self.device = count, size, seed, torch.device(device)
        self.length, self.enrollment_length = int(seconds * SR), int(enrollment_seconds * SR)
        self.same_sex, self.one_line, self.plain, self.made_up, self.second = (
            same_sex,
            one_line,
            plain,
            made_up,
            second_interferer,
        )
        self.sir_db, self.noise_share, self.noise_snr_db, self.room = sir_db, noise_share, noise_snr_db, room
        samples, index = streaming.pack(voices)
        index["package"] = index.speaker.str.split("-").str[0]
        index["order"] = index.sex.map({"F": 0, "M": 2}).fillna(1)
        enough = index.groupby("speaker").samples.transform("sum") > 1.2 * (self.length + self.enrollment_length)
        people = list(index[enough].groupby(["order", "package", "speaker"]))
        place = {key: k for k, (key, _) in enumerate(people)}
        self.sex, package = np.array([key[0] for key in place]), np.array([key[1] for key in place])
        self.persons = np.unique([streaming.person(key[2]) for key in place], return_inverse=True)[1]
        counts = [int((self.sex == sex).sum()) for sex in (0, 2)]
        if min(counts) < 2:
            raise ValueError(
                f"{counts[0]} women's and {counts[1]} men's voices have enough speech; two of each are needed. Bring"
                " more voices."
            )
        gap, parts = np.zeros(streaming.GAP, "<i2"), []
        for _, rows in people:
            for row in rows.itertuples():
                parts += [samples[row.first : row.first + row.samples], gap]
        self.samples = torch.from_numpy(np.concatenate(parts)).to(self.device)
        spoken = np.array([rows.samples.sum() for _, rows in people])
        self.lengths = spoken + np.array([len(rows) * streaming.GAP for _, rows in people])
        self.firsts = np.concatenate([[0], self.lengths.cumsum()[:-1]])
        self.edges = np.concatenate([[0], np.sqrt(spoken).cumsum()])
        self.women, self.men = (0, counts[0]), (len(people) - counts[1], len(people))
        # the voices of one's own package, of one's own sex and of the other: a range each, for they lie sorted
        self.near = np.array(
            [
                [_range((package == package[k]) & (self.sex == sex)) for sex in (self.sex[k], 2 - self.sex[k])]
                for k in range(len(people))
            ]
        )
        music = [(audio.read(path) * 32767).astype("<i2") for path in music]
        self.music = torch.from_numpy(np.concatenate(music)).to(self.device) if music else None
        self.recorder = Recorder((self.length, self.enrollment_length), self.device, direct_db)
        long = count >= WORTH or self.device.type == "cuda"
        self.resample = torch.compile(resample, dynamic=False) if long else resample

    def __len__(self):
        return self.count

    @torch.no_grad()
    def __getitem__(self, k):
        rng = np.random.default_rng([self.seed, int(k)])
        chain = self.recorder
        chain.generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        size, n = self.size, self.length
        line = rng.random(size) < self.one_line
        free = self._put(line | (rng.random(size) >= self.plain))  # not plain: augmented
        line, people = self._put(line), self._people(rng, line)
        mine, known = self._speech(rng, people, free)
        # microphones: a mixture's persons each have their own or (line) share one; half of the enrollments then are
        # over that one too
        shared = chain.responses(size)
        room, rooms = chain.yes(size, self.room) & free, chain.yes((size, 3), 0.25) & (free & ~line)[:, None]
        rooms = torch.where(room[:, None], True, rooms)
        tails = chain.rooms(size * 3).view(size, 3, -1)
        tails = torch.where(room[:, None, None], tails[:, :1], tails)
        over = line[:, None].expand(size, 3)
        waves = chain.shape(
            mine,
            chain.respond(chain.responses(size * 3), shared, over, n),
            free[:, None].expand(size, 3),
            over,
            rooms,
            tails,
        )
        del tails
        over = (line & chain.yes(size, 0.5))[:, None].expand(size, 2)
        responses = chain.respond(chain.responses(size * 2), shared, over, self.enrollment_length)
        known = chain.shape(
            known,
            responses,
            free[:, None].expand(size, 2),
            over,
            chain.yes((size, 2), 0.25) & free[:, None],
            chain.rooms(size * 2).view(size, 2, -1),
        )
        gains = 10 ** (-chain.uniform((size, 3, 1), *self.sir_db) / 20)
        gains[:, 0], gains[:, 2] = 1.0, gains[:, 2] * chain.yes((size, 1), self.second)
        waves = unit(waves) * gains
        mix = chain.floor(waves.sum(1), line)
        noisy, noise = chain.yes((size, 1), self.noise_share), self._noise(rng, size, n)
        mix = mix + noisy * noise * 10 ** (-chain.uniform((size, 1), *self.noise_snr_db) / 20)
        waves = chain.channel(torch.cat([mix[:, None], waves[:, :2]], 1), free)
        mix, targets = waves[:, 0], waves[:, 1:]
        level = torch.where(free[:, None], 10 ** (chain.uniform((size, 1), -32, -14) / 20), 0.1)
        gain = torch.minimum(level / (rms(mix) + 1e-9), 0.95 / (mix.abs().amax(-1, keepdim=True) + 1e-9))
        known = unit(known)
        noise = self._noise(rng, size * 2, self.enrollment_length).view(size, 2, -1) * 10 ** (
            -chain.uniform((size, 2, 1), 10, 25) / 20
        )
        known = known + noise * (chain.yes((size, 2, 1), 0.25) & free[:, None, None])
        known = chain.channel(known.flatten(0, 1)[:, None], free.repeat_interleave(2)).view(known.shape)
        level = torch.where(free[:, None, None], 10 ** (chain.uniform((size, 2, 1), -32, -14) / 20), 0.1)
        return {
            "mix": mix * gain,
            "target": targets * gain[:, None],
            "enrollment": (unit(known) * level).clamp(-1, 1),
            "people": self._put(self.persons[people]),
            "sex": self._put(self.sex[people[:, :2]]),
        }

    # --- who speaks, and what
    # ---------------------------------------------------------------------------------------------------

    def _people(self, rng, line):
        """Rows of voices `(size, 3)`: the two targets and the second interferer."""
        woman = rng.random(self.size) < 0.5
        own = np.where(woman[:, None], self.women, self.men)
        rest = np.where(woman[:, None], (self.women[1], self.men[1]), (0, self.men[0]))
        people = [self._draw(rng, own)]
        for _ in range(2):
            same = rng.random(self.size) < self.same_sex
            where = np.where(same[:, None], own, rest)
            near = self.near[people[0], np.where(same, 0, 1)]
            where = np.where((line & (near[:, 1] - near[:, 0] > same))[:, None], near, where)
            other = self._draw(rng, where)
            while (again := other == people[0]).any():
                other[again] = self._draw(rng, where[again])
            people.append(other)
        return np.stack(people, axis=1)

    def _draw(self, rng, ranges):
        low, high = self.edges[ranges[:, 0]], self.edges[ranges[:, 1]]
        found = np.searchsorted(self.edges, low + rng.random(len(ranges)) * (high - low), side="right") - 1
        return found.clip(ranges[:, 0], ranges[:, 1] - 1)

    def _speech(self, rng, people, free):
        """What each person says in the mixture `(size, 3, samples)`, and the first two elsewhere `(size, 2, samples)`,
        in one voice.
        """
        shape, n, m = people.shape, self.length, self.enrollment_length
        speed = np.where(free.cpu().numpy()[:, None], rng.choice(streaming.SPEEDS, shape), 1.0)
        made = rng.permuted(np.arange(self.size)[:, None].repeat(shape[1], 1), axis=0) < round(self.made_up * self.size)
        pitch, tract = (np.where(made, np.exp(rng.uniform(-width, width, shape)), 1.0) for width in (0.288, 0.165))
        ratio, spoken = speed * pitch, self.lengths[people]
        start = (rng.random(shape) * spoken).astype(int)
        slack = np.maximum(spoken - (n + m) * ratio - 100, 0)
        later = (start + n * ratio + 50 + rng.random(shape) * slack).astype(int)
        mine = self._cut(people, start, ratio, n)
        known = self._cut(people[:, :2], later[:, :2], ratio[:, :2], m)
        return self._stretch(mine, made, tract / pitch), self._stretch(known, made[:, :2], (tract / pitch)[:, :2])

    def _cut(self, people, start, ratio, length):
        rows = [self._put(value[people].ravel()) for value in (self.firsts, self.lengths)]
        out = self.resample(self.samples, *rows, self._put(start.ravel()), self._put(ratio.ravel()), length)
        return out.view(*people.shape, length)

    def _stretch(self, waves, made, factor):
        if made.any():
            rows = self._put(np.flatnonzero(made))
            flat = waves.flatten(0, 1)
            flat[rows] = stretch_envelope(flat[rows], self._put(factor[made]).float())
        return waves

    def _noise(self, rng, rows, samples):
        """Music, babble of five people, or coloured noise, RMS 1, `(rows, samples)`."""
        kind, noise = rng.random(rows), self.recorder.coloured((rows,), samples)
        which = np.flatnonzero(kind < 0.35 if self.music is not None else kind < 0)
        if len(which):
            starts = self._put(rng.integers(len(self.music), size=len(which)))
            places = (starts[:, None] + torch.arange(samples, device=self.device)) % len(self.music)
            noise[self._put(which)] = self.music[places].float()
        which = np.flatnonzero((kind >= 0.35) & (kind < 0.55))
        if len(which):
            people = rng.integers(len(self.lengths), size=(len(which), 5))
            start = (rng.random(people.shape) * self.lengths[people]).astype(int)
            places = (self._put(start)[..., None] + torch.arange(samples, device=self.device)) % self._put(
                self.lengths[people]
            )[..., None]
            noise[self._put(which)] = unit(
                self.samples[places + self._put(self.firsts[people])[..., None]].float()
            ).sum(1)
        return unit(noise)

    def _put(self, values):
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)


def resample(samples, first, spoken, start, ratio, length):
    """Rows `(rows, length)` of a person's speech from sample `start` on, `ratio` times as fast; where it ends it begins
    again.

    samples: all speech, int16; first, spoken: where the person's begins in it and how long it is `(rows,)`. A windowed
    sinc of `TAPS`.
    """
    at = torch.arange(length, device=samples.device, dtype=torch.float64) * ratio[:, None]
    whole, spoken = at.floor(), spoken[:, None].int()
    part, place = (at - whole).float(), ((start[:, None] + whole.long()) % spoken).int()
    cutoff = (1 / ratio).clamp_max(1.0).float()[:, None]
    out = torch.zeros_like(part)
    for tap in range(1 - TAPS // 2, TAPS // 2 + 1):
        away, at = part - tap, place + tap
        at = torch.where(at < 0, at + spoken, torch.where(at < spoken, at, at - spoken))
        weight = torch.sinc(away * cutoff) * cutoff * torch.cos(away * (math.pi / (TAPS + 1))) ** 2
        out = out + weight * samples[at + first[:, None]]
    return out / 32768


def stretch_envelope(waves, factor):
    """`voice_making.stretch_envelope` for rows: the spectral envelope of each of `waves` `(rows, samples)` moved by
    `factor` `(rows,)`.
    """
    window = torch.hann_window(N_FFT, device=waves.device)
    spectrum = torch.stft(
        waves, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True
    ).mT  # (rows, frames, bins)
    cepstrum = torch.fft.irfft((spectrum.abs() + 1e-4).log())
    cepstrum[..., LIFTER : N_FFT - LIFTER + 1] = 0
    envelope = torch.fft.rfft(cepstrum).real
    bins = torch.arange(N_FFT // 2 + 1, device=waves.device) / factor[:, None]
    low = bins.long().clamp_max(N_FFT // 2 - 1)
    part = (bins - low).clamp_max(1.0)[:, None]
    low = low[:, None].expand(envelope.shape)
    moved = envelope.gather(2, low) * (1 - part) + envelope.gather(2, low + 1) * part
    spectrum = spectrum * (moved - envelope).clamp(-3, 3).exp()
    return torch.istft(spectrum.mT, N_FFT, HOP, window=window, length=waves.shape[-1])


def _range(where):
    found = np.flatnonzero(where)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
