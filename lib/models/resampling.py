"""Change of sample rate in PyTorch alone: a windowed sinc, band-limited to the lower of the two rates.

Source: J. O. Smith, "Digital Audio Resampling" (https://ccrma.stanford.edu/~jos/resample/). Other rooms use
`lib.audio.resample`; `lib.models` has this one, so that `extract` takes any rate on a machine with PyTorch and nothing
else.
"""

import math

import numpy as np
import torch

ZEROS = 64  # zero crossings of the sinc on each side: as many as the best setting of resampy
ROLLOFF = 0.945  # of the lower Nyquist frequency, where the filter falls to half
BETA = 14.77  # of the Kaiser window: what would alias lies under -100 dB
FINEST = 4096  # of an input sample: rates without a small ratio are placed to this fraction of one (-80 dB)
BLOCK = 1 << 15  # output samples at a time, which bounds memory at any length


def to_rate(wave, sr_from, sr_to):
    """numpy float32 `(samples,)` at `sr_from` Hz -> the same at `sr_to` Hz, `ceil(samples * sr_to / sr_from)` long."""
    if sr_from == sr_to:
        return wave
    wave = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
    common = math.gcd(sr_from, sr_to)
    up, down = sr_to // common, sr_from // common
    cutoff = ROLLOFF * min(1.0, sr_to / sr_from)  # of the input's Nyquist frequency
    half = math.ceil(ZEROS / cutoff)
    count = math.ceil(len(wave) * up / down)
    padded = torch.nn.functional.pad(wave, (half, half + down))
    made = _repeating if up * (2 * half + down) <= 1 << 24 else _anywhere
    return made(padded, up, down, half, cutoff, count).numpy()


def _repeating(padded, up, down, half, cutoff, count):
    """Every `down` input samples give `up` output samples, by the same `up` filters each time."""
    at = torch.arange(up, dtype=torch.float64) * down / up
    filters = _filter(torch.arange(-half, half + down, dtype=torch.float64) - at[:, None], half, cutoff)[:, None]
    groups, reach, out = math.ceil(count / up), filters.shape[-1], []
    at_once = max(1, BLOCK // up)
    for first in range(0, groups, at_once):
        last = min(first + at_once, groups)
        piece = padded[first * down : (last - 1) * down + reach]
        piece = torch.nn.functional.pad(piece, (0, (last - 1 - first) * down + reach - len(piece)))
        out.append(torch.nn.functional.conv1d(piece[None, None], filters, stride=down)[0].T.flatten())
    return torch.cat(out)[:count]


def _anywhere(padded, up, down, half, cutoff, count):
    """Each output sample by the filter for its own place between two input samples, out of `FINEST`."""
    places = torch.arange(FINEST, dtype=torch.float64)[:, None] / FINEST
    filters = _filter(torch.arange(-half, half + 1, dtype=torch.float64) - places, half, cutoff)
    taps, out = torch.arange(2 * half + 1), []
    for first in range(0, count, BLOCK):
        at = torch.arange(first, min(first + BLOCK, count)) * down  # in units of 1 / up of an input sample
        pieces = padded[at.div(up, rounding_mode="floor")[:, None] + taps]
        out.append((pieces * filters[(at % up * FINEST).div(up, rounding_mode="floor")]).sum(1))
    return torch.cat(out)


def _filter(distance, half, cutoff):
    """What an input sample counts for an output sample at `distance` (input samples, any shape, float64)."""
    window = torch.special.i0(BETA * (1 - (distance / half).square()).clamp_min(0).sqrt()) / torch.special.i0(
        torch.tensor(BETA, dtype=torch.float64)
    )
    return (cutoff * torch.sinc(cutoff * distance) * window * (distance.abs() <= half)).float()
