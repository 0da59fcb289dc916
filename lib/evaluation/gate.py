"""Silence where the wanted person is not: a gate behind the extractor, for recordings in which nobody says who speaks.

An extractor asked for somebody who is silent gives somebody else, or (where it was taught silence) next to nothing. A
window of 1.6 s is let through where similarity and level together say that the person is there: the cosine of estimate
and enrollment, plus a little for every dB by which the estimate is not fainter than the mixture. The threshold is the
one that loses 5 % of present speech on Val people (`python -m lib.evaluation.thresholds`). Waves are float32
`(samples,)` at 16 kHz.
"""

import numpy as np

from lib.evaluation.presence import FRAME, SR, WINDOW, Presence, stretches, without_short

WEIGHT = 0.01  # of one dB of level beside the cosine
LOWEST_DB = -30.0  # fainter than this counts as this
THRESHOLD = 0.64  # evidence from which on a window is let through
SHORTEST = 5  # frames of 0.1 s: a shorter opening or closing of the gate is none


def evidence(similarities, levels):
    """How much says that the person is in each window, `(windows,)`, of cosines and levels in dB over the mixture."""
    return np.asarray(similarities) + WEIGHT * np.clip(levels, LOWEST_DB, 0.0)


def gains(presence):
    """What to multiply each frame of 0.1 s with, `(frames,)` of 0 and 1."""
    found = evidence(presence.similarities, presence.levels)
    centres = (np.arange(len(found)) * presence.hop + WINDOW / 2) / FRAME
    there = np.interp(np.arange(len(presence.est_db)) + 0.5, centres, found) >= THRESHOLD
    return without_short(~without_short(~there, SHORTEST), SHORTEST).astype(np.float32)


def apply(wave, frames, first=0):
    """`wave` `(samples,)`, which begins at sample `first` of the recording, times the gains `frames`, with ramps of 0.1
    s between them.
    """
    at = (np.arange(first, first + len(wave)) + 0.5) / FRAME - 0.5
    return (wave * np.interp(at, np.arange(len(frames)), frames)).astype(np.float32)


def gated(est, mix, enrollment):
    """`(wave, turns)`: the estimate `est` with silence where the person of `enrollment` is not, and where it was let
    through, `(start, end)` in seconds.
    """
    presence = Presence(enrollment)
    presence.hear(np.asarray(mix, np.float32), np.asarray(est, np.float32))
    presence.hear(np.zeros(0, np.float32), np.zeros(0, np.float32), last=True)
    frames = gains(presence)
    return apply(est, frames), [(start * FRAME / SR, end * FRAME / SR) for start, end in stretches(frames > 0)]
