"""Weights and signals by rule, so that two implementations can be compared without a weight file."""

import zlib

import numpy as np
import torch


def fill_by_rule(state, low_hz, band_hz):
    """A state dict with the names, shapes and dtypes of `state`, every tensor a function of its own name and shape."""
    filled = {}
    for name, tensor in state.items():
        shape, rng = tuple(tensor.shape), np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
        if name.endswith("num_batches_tracked"):
            value = np.zeros(shape)
        elif (
            ".filterbank." in name
        ):  # the band edges come from the golden file; window_ and n_ the model computes itself
            value = {"low_hz_": low_hz, "band_hz_": band_hz}.get(name.rsplit(".", 1)[1], tensor.numpy())
        elif name.endswith("running_var"):
            value = 0.5 + rng.rand(*shape)
        elif name.endswith("running_mean"):
            value = 0.1 * rng.randn(*shape)
        elif len(shape) > 1:
            value = rng.randn(*shape) / np.sqrt(int(np.prod(shape[1:])))
        else:
            value = 1 + 0.1 * rng.randn(*shape) if name.endswith("weight") else 0.05 * rng.randn(*shape)
        filled[name] = torch.from_numpy(np.asarray(value, dtype=np.float32)).reshape(shape).to(tensor.dtype)
    return filled


def signals(seed=7, mix_seconds=7.3, enrollment_seconds=3.2, sr=16000):
    """(mix, target, enrollment), float32 torch `(samples,)`."""
    rng = np.random.RandomState(seed)
    t = np.arange(int(sr * mix_seconds)) / sr
    target = (0.1 * np.sin(2 * np.pi * 220 * t * (1 + 0.01 * np.sin(5 * t)))).astype(np.float32)
    mix = (target + 0.05 * np.sin(2 * np.pi * 331 * t) + 0.02 * rng.randn(len(t))).astype(np.float32)
    t = np.arange(int(sr * enrollment_seconds)) / sr
    enrollment = (0.1 * np.sin(2 * np.pi * 180 * t) + 0.02 * rng.randn(len(t))).astype(np.float32)
    return tuple(map(torch.from_numpy, (mix, target, enrollment)))
