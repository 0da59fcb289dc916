"""What of an enrollment counts: the stretches in which somebody speaks. A voice is averaged over time, so silence in a
file (a recorder started early, stopped late) would be averaged in.

Waves are numpy float32 `(samples,)` in [-1, 1].
"""

import itertools
import warnings

import numpy as np

SILENT = 1e-5  # a peak below this (-100 dBFS) is taken as silence
FRAME = 0.02  # s
SMOOTH = 5  # frames whose mean energy is looked at: low noise swings so far in single ones that it looks like speech
RANGE_DB = (8.0, 45.0)  # where, below the loud frames, the border between speech and the rest is looked for
FLOOR_DB = 60.0  # below the loud frames all is alike: digital silence must not draw the border down
NEAR = 0.25  # where between the means of what is no speech (0) and speech (1) the border lies
PAUSE = 0.5  # s: shorter gaps belong to speaking and stay
MARGIN = 0.1  # s kept on both sides of speech: soft beginnings and ends
EVEN_DB = 3.5  # between the fainter and the louder tenth of frames: noise has under 3, speech as loud as noise over 4
LEAST = 0.3  # s of speech without which there is no voice to know


def speech(wave, sr, near=NEAR):
    """`wave` without its long stretches of no speech, and the seconds of speech found in it.

    The energies of frames, in dB below the loud ones (the median of the loudest second, so that one click does not set
    the measure), are parted in two by Otsu's criterion: the border that leaves the two means furthest apart. So the
    rule needs neither a level nor a model. Source: Otsu, IEEE Trans. SMC 9(1), 1979.
    """
    size = max(1, int(FRAME * sr))
    count = len(wave) // size
    if count < 2:
        return wave, len(wave) / sr
    power = _power(wave, sr, "same")[:count]
    loud = np.median(np.sort(power)[-max(1, round(1 / FRAME)) :])
    level = np.maximum(10 * np.log10(power / max(loud, 1e-30) + 1e-30), -FLOOR_DB)
    found = _close(level > -_border(level, near), round(PAUSE / FRAME))
    seconds = float(found.sum() * size / sr)
    kept = np.convolve(found, np.ones(2 * round(MARGIN / FRAME) + 1), mode="same") > 0
    if kept.all():
        return wave, seconds
    mask = np.repeat(kept, size)
    mask = np.concatenate([mask, np.full(len(wave) - len(mask), kept[-1])])
    return wave[mask], seconds


def _power(wave, sr, mode):
    """The mean energy of frames, smoothed over `SMOOTH` of them."""
    size = max(1, int(FRAME * sr))
    count = len(wave) // size
    power = np.square(wave[: count * size], dtype=np.float64).reshape(count, size).mean(1)
    return np.convolve(power, np.ones(SMOOTH) / SMOOTH, mode=mode)


def even(wave, sr):
    """Whether the level of `wave`, of a second or more, changes as little as that of noise or of a tone."""
    faint, loud = np.percentile(10 * np.log10(_power(wave, sr, "valid") + 1e-30), [10, 90])
    return loud - faint < EVEN_DB


def _border(level, near):
    """dB below the loud frames, from `RANGE_DB`, that part `level` (frames) best into two; the lowest where all is
    speech.
    """
    best, border = 0.0, RANGE_DB[1]
    for below in np.arange(RANGE_DB[1], RANGE_DB[0] - 0.5, -1.0):
        under = level <= -below
        share = under.mean()
        if not 0 < share < 1:
            continue
        between = share * (1 - share) * (level[~under].mean() - level[under].mean()) ** 2
        if between > best:
            high, low = -level[~under].mean(), -level[under].mean()
            best, border = between, max(RANGE_DB[0], low - near * (low - high))
    return border


def _close(active, gap):
    """`active` with the gaps that are at most `gap` frames long filled, also those at the ends."""
    places = np.flatnonzero(np.r_[True, active, True]) - 1  # the ends of the wave count as active
    filled = active.copy()
    for first, second in itertools.pairwise(places):
        if 1 < second - first <= gap + 1:
            filled[max(first, 0) : second] = True
    return filled


def checked(wave, sr):
    """The speech of an enrollment. ValueError where it is silent, under 1 s, or holds next to no speech; a warning
    where less than 3 s of speech were found, or where it sounds like noise.
    """
    whole = len(wave) / sr
    if whole < 1:
        raise ValueError(
            f"enrollment: {whole:.2f} s is too short. Give at least 1 s, better 3 s or more, of the wanted person."
        )
    if np.ptp(wave) < 2 * SILENT:
        raise ValueError("enrollment: silent. Give a few seconds in which the wanted person speaks.")
    kept, seconds = speech(wave, sr)
    if seconds < LEAST:
        raise ValueError(
            f"enrollment: {seconds:.1f} s of speech found in {whole:.1f} s. Give 3 s or more in which the wanted person"
            " speaks."
        )
    if even(wave, sr):
        warnings.warn(
            "enrollment: its level changes as little as that of noise. Make sure that the wanted person speaks in it",
            stacklevel=4,
        )
    if seconds < 3:
        found = "" if len(kept) == len(wave) else f" of speech found in {whole:.1f} s"
        warnings.warn(
            f"enrollment: {seconds:.1f} s{found} is short; from 3 s on the voice is known better", stacklevel=4
        )
    return kept
