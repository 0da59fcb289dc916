"""Silence where the wanted person is not: a gate behind the extractor, for recordings in which nobody says who speaks.

An extractor asked for somebody who is silent gives somebody else, or (where it was taught silence) next to nothing. A
window of 1.6 s is let through where similarity and level together say that the person is there: the cosine of estimate
and enrollment, plus a little for every dB by which the estimate is not fainter than the mixture. `STUDIO` loses 5 % of
present speech of Val people in close, clean recordings (`python -m lib.evaluation.thresholds`). A room and a cheap
microphone change a voice so much that it loses nearly all there: `calibrate` finds the gate of a place on its Val
mixtures, and a recording in which nothing at all would pass is left as it is. Waves are float32 `(samples,)` at 16 kHz.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib import runs
from lib.evaluation.presence import FRAME, QUIET_DB, SR, WINDOW, Presence, stretches, without_short
from lib.models.config import check_gate


class Gate(NamedTuple):
    """weight: of one dB of level beside the cosine. threshold: evidence from which on a window is let through."""

    weight: float
    threshold: float


STUDIO = Gate(0.01, 0.59)
WEIGHTS = (0.0, 0.003, 0.01, 0.02, 0.04)  # that `calibrate` tries
CONFIG = "config.json"  # of a model's folder, which `keep` writes into
LOWEST_DB = -40.0  # fainter than this counts as this
SHORTEST = 5  # frames of 0.1 s: a shorter opening or closing of the gate is none
LOST = 0.05  # share of windows with the person's speech that a gate may lose on Val


def of(model):
    """The `Gate` that goes with `model`: its place's own (`keep`), else `STUDIO`; None for a model that was made for a
    place whose gate nobody has calibrated, since `STUDIO` may lose all speech there.
    """
    config = model.config
    if config.gate:
        return Gate(*config.gate)
    return None if config.equaliser or config.adapters else STUDIO


def keep(folder, gate):
    """Let `gate` go with the model in `folder`, whose config says so from now on."""
    numbers = [float(number) for number in gate]
    check_gate(numbers)
    path = Path(folder) / CONFIG
    runs.write_json(path, {**runs.read_json(path), "gate": numbers})


def evidence(similarities, levels, weight=STUDIO.weight):
    """How much says that the person is in each window, `(windows,)`, of cosines and levels in dB over the mixture."""
    return np.asarray(similarities) + weight * np.clip(levels, LOWEST_DB, 0.0)


def heard(est, mix, enrollment):
    """The `Presence` of a whole estimate."""
    presence = Presence(enrollment)
    presence.hear(np.asarray(mix, np.float32), np.asarray(est, np.float32))
    presence.hear(np.zeros(0, np.float32), np.zeros(0, np.float32), last=True)
    return presence


def gains(presence, gate=STUDIO):
    """What to multiply each frame of 0.1 s with, `(frames,)` of 0 and 1."""
    found = evidence(presence.similarities, presence.levels, gate.weight)
    centres = (np.arange(len(found)) * presence.hop + WINDOW / 2) / FRAME
    there = np.interp(np.arange(len(presence.est_db)) + 0.5, centres, found) >= gate.threshold
    there &= presence.est_db > QUIET_DB  # silence is nobody, whatever the threshold
    return without_short(~without_short(~there, SHORTEST), SHORTEST).astype(np.float32)


def apply(wave, frames, first=0):
    """`wave` `(samples,)`, which begins at sample `first` of the recording, times the gains `frames`, with ramps of 0.1
    s between them.
    """
    at = (np.arange(first, first + len(wave)) + 0.5) / FRAME - 0.5
    return (wave * np.interp(at, np.arange(len(frames)), frames)).astype(np.float32)


def gated(est, mix, enrollment, gate=STUDIO, whole=False):
    """`(wave, turns)`: the estimate `est` with silence where the person of `enrollment` is not, and where it was let
    through, `(start, end)` in seconds.

    whole: silence also a recording in which nothing passes; else that one is left as it is, with no turns.
    """
    frames = gains(heard(est, mix, enrollment), gate)
    if not whole and not frames.any():
        return np.asarray(est, np.float32), []
    turns = [(start * FRAME / SR, min(end * FRAME, len(est)) / SR) for start, end in stretches(frames > 0)]
    return apply(est, frames), turns  # the last frame may be begun only


def calibrate(answers, lost=LOST):
    """The `Gate` that loses the share `lost` of the windows of those who are there, and of those tried the one that
    silences most of those who are not.

    answers: `(est, mix, enrollment, there)` each, of people who speak all the time or not at all. Raises ValueError
    where either kind is missing.
    """
    windows = {True: [], False: []}
    for est, mix, enrollment, there in answers:
        presence = heard(est, mix, enrollment)
        windows[bool(there)].append((presence.similarities, presence.levels))
    if not windows[True] or not windows[False]:
        raise ValueError("a gate is calibrated on answers about people who are there and about people who are not.")
    tried = []
    for weight in WEIGHTS:
        threshold = np.quantile(np.concatenate([evidence(*one, weight) for one in windows[True]]), lost)
        silenced = np.mean([evidence(*one, weight).max() < threshold for one in windows[False]])
        tried.append((silenced, Gate(weight, float(threshold))))
    return max(tried, key=lambda one: one[0])[1]
