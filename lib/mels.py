"""Log-mel spectrograms as pretrained networks want them: pictures for those of ImageNet, windows for Resemblyzer.

Waves are float32 `(batch, samples)` at 16 kHz in [-1, 1].
"""

import numpy as np
import torch
import torch.nn.functional as F

SR = 16000
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, in [0, 1]
RANGE_DB = 60.0  # from the loudest point of a log-mel image down to black


def mel_filters(bands, n_fft, low=0.0, high=SR / 2):
    """Triangles on Slaney's mel scale, each of unit area in Hz: `(bands, n_fft // 2 + 1)`. Source: Slaney, Auditory
    Toolbox, 1998.
    """

    def to_mel(hz):
        return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4))

    def to_hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = to_hz(np.linspace(to_mel(low), to_mel(high), bands + 2))
    lower, centre, upper, bins = (
        edges[:-2, None],
        edges[1:-1, None],
        edges[2:, None],
        np.arange(n_fft // 2 + 1) * SR / n_fft,
    )
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    return torch.from_numpy((np.maximum(0, np.minimum(rise, fall)) * 2 / (upper - lower)).astype(np.float32))


def mel_power(waves, bands, n_fft, hop, low=0.0, high=SR / 2):
    """Mel power spectra of `(batch, samples)`: `(batch, frames, bands)`, Hann window, centred frames."""
    window = torch.hann_window(n_fft, device=waves.device)
    spectra = torch.stft(waves, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return spectra.abs().square().transpose(1, 2) @ mel_filters(bands, n_fft, low, high).to(waves).T


def log_mel_image(waves, size=224):
    """A log-mel picture of each wave for an ImageNet network: `(batch, 3, size, size)`, low frequencies at the bottom.

    128 mel bands from 60 to 7,600 Hz, 60 dB from white to black measured from each picture's loudest point, resized,
    the same in the three colours, normalised as ImageNet's pictures are.
    """
    decibels = 10 * torch.log10(mel_power(waves, 128, 512, 160, 60.0, 7600.0) + 1e-10)
    grey = ((decibels - decibels.amax((1, 2), keepdim=True)) / RANGE_DB + 1).clamp(0, 1).transpose(1, 2).flip(1)
    grey = F.interpolate(grey[:, None], (size, size), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values, device=waves.device)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return (grey - mean) / std


def mel_windows(waves, frames=160, hop=80):
    """Mel spectra in windows of 1.6 s, half overlapping, as Resemblyzer was trained on: `(batch, windows, 160, 40)`.

    Waves are brought to -30 dBFS; one under 1.6 s is repeated.
    """
    waves = waves * 10 ** (-30 / 20) / waves.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
    shortest = frames * 160
    waves = waves.repeat(1, -(-shortest // waves.shape[1])) if waves.shape[1] < shortest else waves
    return mel_power(waves, 40, 400, 160).unfold(1, frames, hop).transpose(2, 3)
