"""Voices that nobody has: recordings of real people with the pitch and the vocal tract changed, apart from each other.

Few speakers teach an extractor those speakers; made-up ones fill the space between and around them (pretraining uses
Train only). Waves are float32 `(samples,)` at 16 kHz in [-1, 1]. Pitch, tract and tempo move together by resampling;
then the spectral envelope alone is stretched along frequency (the source-filter model: Oppenheim and Schafer's liftered
cepstrum is the envelope).
"""

import numpy as np
import pandas as pd
import soxr

from lib import audio

SR, N_FFT, HOP, LIFTER = (
    16000,
    512,
    128,
    30,
)  # 30 cepstral coefficients: formants, not the harmonics of voices below some 500 Hz


def change(wave, pitch, tract):
    """`wave` `(samples,)` with the pitch times `pitch` and the formants times `tract`; the tempo follows the pitch."""
    wave = soxr.resample(wave, SR * pitch, SR, quality="MQ").astype(np.float32)
    return stretch_envelope(wave, tract / pitch)


def stretch_envelope(wave, factor):
    """`wave` with its spectral envelope moved up (`factor` > 1) or down, its harmonics left where they are."""
    if abs(factor - 1) < 0.02 or len(wave) < N_FFT:
        return wave
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)
    padded = np.pad(wave, (N_FFT, N_FFT + (-len(wave)) % HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP] * window
    spectrum = np.fft.rfft(frames).astype(np.complex64)
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-4))  # the floor keeps silence from being raised
    cepstrum[:, LIFTER : N_FFT - LIFTER + 1] = 0
    envelope = np.fft.rfft(cepstrum).real
    bins = np.arange(N_FFT // 2 + 1) / factor  # bin k of the new envelope is bin k / factor of the old one
    low = np.minimum(bins.astype(int), N_FFT // 2 - 1)
    part = np.minimum(bins - low, 1.0)
    moved = envelope[:, low] * (1 - part) + envelope[:, low + 1] * part
    frames = np.fft.irfft(spectrum * np.exp(np.clip(moved - envelope, -3, 3))).astype(np.float32) * window
    out = np.zeros(len(padded), np.float32)
    for k in range(N_FFT // HOP):  # overlap-add; each k-th frame of four lies beside the next, without overlap
        rows = frames[k :: N_FFT // HOP]
        out[k * HOP : k * HOP + rows.size] += rows.reshape(-1)
    return out[N_FFT : N_FFT + len(wave)] / 1.5  # squared Hann windows at a hop of a quarter sum to 1.5


def make_voices(voices, copies, seconds=150.0, seed=0):
    """A table like `voices` (speaker, path, sex) of made-up people: each speaker `copies` times, from recordings of
    some `seconds`.

    Adds the columns pitch and tract, the factors of `change`; a speaker's made-up names end in ~1, ~2 and so on. Pitch
    is spread
    evenly over 0.75 to 1.33 (log), the tract over 0.85 to 1.18.
    """
    rng, tables = np.random.default_rng(seed), [voices.iloc[:0].assign(pitch=np.nan, tract=np.nan)]
    for name, group in voices.groupby("speaker"):
        for copy in range(1, copies + 1):
            chosen = group.iloc[rng.permutation(len(group))]
            chosen = chosen[chosen.seconds.cumsum() - chosen.seconds < seconds]
            tables.append(
                chosen.assign(
                    speaker=f"{name}~{copy}",
                    pitch=round(float(np.exp(rng.uniform(-0.288, 0.288))), 3),
                    tract=round(float(np.exp(rng.uniform(-0.165, 0.165))), 3),
                )
            )
    return pd.concat(tables, ignore_index=True)


def read(row):
    """The wave of a row of a table of voices, changed where the row says so (columns pitch and tract, else NaN)."""
    wave = audio.read(row.path)
    pitch = getattr(row, "pitch", np.nan)
    return wave if np.isnan(pitch) else change(wave, pitch, row.tract)
