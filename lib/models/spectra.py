"""Waves to spectra and back: the short-time Fourier transform, centred, with a Hann window, and its inverse.

Waves are float32 `(batch, samples)`, spectra complex64 `(batch, frames, bins)`. The inverse is that of `torch.istft`
(overlap-add, divided by the sum of the squared windows), without its question to the device in the middle whether that
sum is zero somewhere: a GPU need not be waited for, so a whole step can be replayed as one CUDA graph. Source: Griffin
and Lim, IEEE Trans. ASSP 32(2), 1984.
"""

import torch
import torch.nn.functional as F


def stft(wave, size, hop, tables):
    """`(batch, samples)` -> complex `(batch, samples // hop + 1, size // 2 + 1)`; `size` and `hop` in samples."""
    return torch.stft(
        wave.float(), size, hop, window=_window(size, wave.device, tables), return_complex=True
    ).transpose(1, 2)


def istft(spectrum, samples, size, hop, tables):
    """Complex `(batch, frames, bins)` -> `(batch, samples)`. RuntimeError where hop and size leave gaps."""
    frames = torch.fft.irfft(spectrum, size, dim=-1) * _window(size, spectrum.device, tables)
    total = tables.get(
        ("overlap", size, hop, frames.shape[1]),
        spectrum.device,
        lambda device: _overlap(size, hop, frames.shape[1], device),
    )
    wave = overlap_add(frames, hop)[:, size // 2 : size // 2 + samples] / total[: min(samples, len(total))]
    return F.pad(wave, (0, samples - wave.shape[-1]))


def overlap_add(frames, hop):
    """`(batch, frames, size)`, each `hop` after the one before, summed: `(batch, size + hop * (frames - 1))`."""
    batch, count, size = frames.shape
    if size % hop:
        shape = dict(output_size=(1, size + hop * (count - 1)), kernel_size=(1, size), stride=(1, hop))
        return F.fold(frames.transpose(1, 2), **shape)[:, 0, 0]
    parts = frames.view(batch, count, size // hop, hop)
    last = size // hop - 1
    return sum(F.pad(parts[:, :, i], (0, 0, i, last - i)) for i in range(last + 1)).flatten(1)


def _window(size, device, tables):
    return tables.get(("window", size), device, lambda device: torch.hann_window(size, device=device))


def _overlap(size, hop, count, device):
    """What the squared windows of `count` frames sum to, from the middle of the first one on."""
    window = torch.hann_window(size, device=device).square()
    total = overlap_add(window.expand(1, count, size), hop)[0, size // 2 :]
    inner = total[: max(1, hop * (count - 1))]
    if float(inner.min()) < 1e-11:
        raise RuntimeError(f"windows of {size} samples every {hop} leave gaps; hop_length must be smaller")
    return total
