"""Backgrounds that are not voices: coloured noise, and music or noise files from a folder, kept apart by split.

Waves are float32 `(samples,)` at 16 kHz.
"""

import functools
from pathlib import Path

import numpy as np

from lib import audio
from lib.data.walk import sounds

SR = 16000
SHARES = {"Train": (0.0, 0.8), "Val": (0.8, 0.9), "Test": (0.9, 1.0)}
BY_FILE = 10  # from so many files on, a file belongs to one split; fewer files are cut along their time axis


def coloured(rng, samples):
    """Noise whose power falls with frequency as 1/f^a, a drawn from 0 (white) to 2 (brown), `(samples,)`, RMS 1."""
    exponent = rng.uniform(0.0, 2.0)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(
        np.arange(len(spectrum)) / len(spectrum), 60 / 8000
    )  # flat below 60 Hz: no rumble that nobody hears
    wave = np.fft.irfft(spectrum * frequency ** (-exponent / 2), samples)
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def fan(rng, samples, hum_hz=100.0, whine_hz=1180.0):
    """A fan, made by formula, `(samples,)`, RMS 1: air of a fixed spectrum, a hum with harmonics, a whine that wanders.

    The mains' hum and the blades' whine keep their pitch; level, phase and wandering differ by `rng`.
    """
    air = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * _air(samples), samples)
    times = np.arange(samples) / SR
    second = times[:SR] if float(hum_hz).is_integer() else times  # a whole number of Hz begins anew each second
    hum = sum(np.sin(2 * np.pi * k * hum_hz * second + rng.uniform(0, 2 * np.pi)) / k for k in range(1, 6))
    hum = np.resize(hum, samples)
    wander = np.cumsum(np.interp(times, np.linspace(0, times[-1] + 1e-9, 12), rng.uniform(-6, 6, 12))) / SR
    whine = np.sin(2 * np.pi * (whine_hz * times + wander) + rng.uniform(0, 2 * np.pi))
    wave = _unit(air) + rng.uniform(0.25, 0.5) * _unit(hum) + rng.uniform(0.1, 0.2) * _unit(whine)
    return _unit(wave).astype(np.float32)


@functools.lru_cache(8)
def _air(samples):
    """The gain of a fan's air at each frequency of a wave of `samples`."""
    hz = np.fft.rfftfreq(samples, 1 / SR)
    return 10 ** (np.interp(hz, [0, 60, 150, 400, 1500, 4000, 8000], [-40, -12, 0, -3, -10, -22, -40]) / 20)


def _unit(wave):
    return wave / np.sqrt(np.mean(wave**2))


def music_folder(choice="auto"):
    """The folder of background music as text, or None.

    `auto`: the music on hold of the Debian voices, where it can be had.
    """
    if choice != "auto":
        return choice
    from lib.data import voices

    try:
        return str(Path(voices.background_music()[0]).parent)
    except voices.VoicesError as error:
        print(f"No background music: {str(error).splitlines()[0]}")
        return None


def files(folder, root):
    """Audio files anywhere below `folder` by name `root/path/below/it`, sorted.

    Raises `ValueError` where there is none.
    """
    folder = Path(folder)
    found = sounds(folder, error=ValueError).files
    if not found:
        raise ValueError(
            f"{folder}: no audio file here or below; expected {', '.join(sorted(audio.SUFFIXES))}. Check the path."
        )
    return [f"{root}/{path.relative_to(folder).as_posix()}" for path in found]


def by_split(names, seed):
    """`names` shared out 80/10/10 as split -> list of (name, from, to), with from and to as shares of the file's
    length.

    So no stretch of a background is heard in two splits: with many files by file, with few by time within each.
    """
    if len(names) < BY_FILE:
        return {split: [(name, *span) for name in names] for split, span in SHARES.items()}
    order = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    edges = {split: (round(low * len(names)), round(high * len(names))) for split, (low, high) in SHARES.items()}
    return {split: [(name, 0.0, 1.0) for name in order[low:high]] for split, (low, high) in edges.items()}


def cut(rng, spans, library, samples):
    """(file, offset, samples, at, gain) tuples that cover `samples` from one of `spans`; a short background is
    repeated.
    """
    for _ in range(20):
        name, low, high = spans[int(rng.integers(len(spans)))]
        wave, level = library.wave(name)
        first, last = int(low * len(wave)), int(high * len(wave))
        length = min(samples, last - first)
        if length < 160:
            continue
        offset = first + int(rng.integers(0, last - first - length + 1))
        if np.any(wave[offset : offset + length]):
            gain = 10 ** (-level / 20)
            return [(name, offset, min(length, samples - at), at, gain) for at in range(0, samples, length)]
    raise ValueError(
        f"{library.path(name)}: no sound to be found in these backgrounds after 20 tries. Take the silent files out."
    )
