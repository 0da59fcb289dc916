"""Voices made on the spot: each speaker a buzz of their own pitch, in syllables, so that tests need no recordings."""

import numpy as np
import pandas as pd

from lib import audio

SR = 16000


def syllables(rng, pitch, seconds):
    """A harmonic wave `(samples,)` at 16 kHz with a syllable-like envelope and a little breath noise."""
    time = np.arange(round(seconds * SR)) / SR
    wave = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(3, 5) * time + rng.uniform(0, 6))
    wave = wave * envelope + 0.02 * rng.standard_normal(len(time))
    return (wave * rng.uniform(0.02, 0.1)).astype(np.float32)


def make_voices(folder, train=6, val=3, test=3, recordings=8, seconds=(1.0, 4.0), seed=0):
    """A table of voices (speaker, path, seconds, split) with its recordings written below `folder`."""
    rng, rows = np.random.default_rng(seed), []
    for split, count in (("Train", train), ("Val", val), ("Test", test)):
        for number in range(count):
            speaker, pitch = f"{split.lower()}{number}", rng.uniform(80, 300)
            for take in range(recordings):
                length = float(rng.uniform(*seconds))
                path = folder / speaker / f"{take:03d}.flac"
                wave = syllables(rng, pitch, length)
                audio.write(path, wave)
                rows.append(dict(speaker=speaker, path=str(path), seconds=len(wave) / SR, split=split))
    return pd.DataFrame(rows)
