"""The speaker encoder of ConVoiFilter: SincNet, a time-delay network, statistics pooling, one Linear: the x-vector.

Waves are float32 `(batch, samples)` at 16 kHz in [-1, 1]; hidden maps are `(batch, channels, frames)`.
Sources: Snyder et al., "X-vectors" (ICASSP 2018); Ravanelli and Bengio, "Speaker recognition from raw waveform with
SincNet" (arXiv 1808.00158); Pariente et al., arXiv 1910.10400, for the sine filters; pyannote.audio's arrangement of
the parts.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

MIN_LOW_HZ = 50.0
MIN_BAND_HZ = 50.0


class SincFilters(nn.Module):
    """Band-pass filters whose only parameters are the lower edge and the width of each band, in Hz.

    Half of the filters are even (cosine phase), half odd (sine phase), so that their magnitudes are blind to phase.
    """

    def __init__(self, filters=80, taps=251, sr=16000):
        super().__init__()
        self.sr, half = sr, taps // 2

        def mel(hz):
            return 2595 * math.log10(1 + hz / 700)

        steps = torch.linspace(mel(30), mel(sr / 2 - MIN_LOW_HZ - MIN_BAND_HZ), filters // 2 + 1, dtype=torch.float64)
        edges = 700 * (10 ** (steps / 2595) - 1)
        self.low_hz_ = nn.Parameter(edges[:-1, None].float())
        self.band_hz_ = nn.Parameter(edges.diff()[:, None].float())
        window = torch.hamming_window(taps, periodic=False, dtype=torch.float64)[:half]
        self.register_buffer("window_", window.float())
        self.register_buffer("n_", 2 * math.pi * (torch.arange(-half, 0.0)[None] / sr))

    def forward(self):
        """Return the filters `(filters, 1, taps)`, each divided by twice its bandwidth."""
        low = MIN_LOW_HZ + self.low_hz_.abs()
        high = (low + MIN_BAND_HZ + self.band_hz_.abs()).clamp(MIN_LOW_HZ, self.sr / 2)
        band = high - low
        # The ideal band-pass is the difference of two low-passes. Only its left half is computed, the rest is symmetry;
        # the
        # order of operations is that of the filters the public checkpoint was trained with, to the last float32 digit.
        low_phase, high_phase = low @ self.n_, high @ self.n_
        even = ((high_phase.sin() - low_phase.sin()) / (self.n_ / 2)) * self.window_
        odd = ((low_phase.cos() - high_phase.cos()) / (self.n_ / 2)) * self.window_
        even = torch.cat([even, 2 * band, even.flip(1)], dim=1) / (2 * band)
        odd = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], dim=1) / (2 * band)
        return torch.cat([even, odd])[:, None]


class SincConv(nn.Module):
    """Convolve with `SincFilters`, stride 10. (The nesting keeps the names of the public checkpoint.)"""

    def __init__(self, filters=80, taps=251, stride=10, sr=16000):
        super().__init__()
        self.filterbank, self.stride = SincFilters(filters, taps, sr), stride

    def forward(self, wave):
        """`(batch, 1, samples)` -> `(batch, filters, frames)`."""
        return F.conv1d(wave, self.filterbank(), stride=self.stride)


class SincNet(nn.Module):
    """Three convolutions with max-pooling by 3 and normalisation: one frame every 270 samples.

    front: "public" normalises each channel by itself over time (InstanceNorm), which takes the long-term spectrum away;
    "log" takes the
    logarithm of the first layer's magnitudes and normalises all channels of a wave together, which keeps it.
    """

    def __init__(self, sr=16000, front="public"):
        super().__init__()
        if front not in ("public", "log"):
            raise ValueError(f"xvector_front must be 'public' or 'log', got {front!r}")
        self.front = front
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList([SincConv(80, 251, 10, sr), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(width, affine=True) for width in (80, 60, 60)])

    def forward(self, wave):
        """`(batch, samples)` -> `(batch, 60, frames)`."""
        x = self.wav_norm1d(wave[:, None])
        if self.front == "log":
            return self._log_front(x)
        for layer, (conv, norm) in enumerate(zip(self.conv1d, self.norm1d)):
            x = conv(x)
            x = x.abs() if layer == 0 else x
            x = F.leaky_relu(norm(F.max_pool1d(x, 3)))
        return x

    def _log_front(self, x):
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 the loud bands would leak into the quiet ones
            x = (F.max_pool1d(self.conv1d[0](x.float()).abs(), 3) + 1e-3).log()  # the log of the largest
        for layer, (conv, norm) in enumerate(zip(self.conv1d, self.norm1d)):
            x = F.max_pool1d(conv(x), 3) if layer else x
            x = F.group_norm(x.float(), 1, norm.weight, norm.bias)  # one group: all channels of a wave together
            x = F.leaky_relu(x) if layer else x
        return x


class XVector(nn.Module):
    """SincNet -> five TDNN layers -> mean and standard deviation over time -> Linear.

    channels: width of TDNN layers 1 to 4 (512 in the public checkpoint); pool: width of layer 5 (1500); dim: of the
    embedding. front: see `SincNet`.
    """

    def __init__(self, dim=512, channels=512, pool=1500, sr=16000, front="public"):
        super().__init__()
        self.sincnet = SincNet(sr, front)
        widths = [60, channels, channels, channels, channels, pool]
        layers = []
        for i, (kernel, dilation) in enumerate(zip((5, 3, 3, 1, 1), (1, 2, 3, 1, 1))):
            layers += [
                nn.Conv1d(widths[i], widths[i + 1], kernel, dilation=dilation),
                nn.LeakyReLU(),
                nn.BatchNorm1d(widths[i + 1]),
            ]
        self.tdnns = nn.ModuleList(layers)
        self.embedding = nn.Linear(2 * pool, dim)

    def statistics(self, wave):
        """`(batch, samples)` -> `(batch, 2 * pool)`: mean and unbiased standard deviation over time of the last
        layer.
        """
        x = self.sincnet(wave)
        for layer in self.tdnns:
            x = layer(x)
        return torch.cat([x.mean(-1), x.std(-1)], dim=-1)

    def forward(self, wave):
        """`(batch, samples)` -> `(batch, dim)`."""
        return self.embedding(self.statistics(wave))
