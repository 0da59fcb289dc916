"""Who sits where in a place, and what the microphone hears of them there.

Distances are in metres, waves and impulse responses float32 `(samples,)` at 16 kHz.
"""

import functools
import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import signal

from lib.data import cache_dir, rooms
from lib.data.devices import SR
from lib.data.places import FEW, PlaceError, responses_of

SPLITS = ("Train", "Val", "Test")


VERSION = 1  # raise when the same place comes to sound different


WALL = 0.3  # m between a seat and the nearest wall


APART = 0.25  # m between two seats


def seats(place, split):
    """Where people sit in `split`, {"target": (seats, 3), "other": (seats, 3)} in metres; other seats in each split."""
    rng = np.random.default_rng([place.seed, SPLITS.index(split), 7])
    taken, found = [], {}
    for who, (near, far) in (("target", place.target_distance), ("other", place.other_distance)):
        found[who] = []
        for _ in range(20000):
            if len(found[who]) == place.seats:
                break
            distance, angle, height = rng.uniform(near, far), rng.uniform(0, 2 * np.pi), rng.uniform(*place.heights)
            level = max(distance**2 - (height - place.microphone[2]) ** 2, 0.0) ** 0.5
            x, y, _ = place.microphone
            seat = np.array([x + level * np.cos(angle), y + level * np.sin(angle), height])
            inside = all(WALL < x < length - WALL for x, length in zip(seat, place.size))
            inside = inside and near <= np.linalg.norm(seat - place.microphone) <= far
            if inside and all(np.linalg.norm(seat - other) > APART for other in taken):
                found[who].append(seat)
                taken.append(seat)
        if len(found[who]) < place.seats:
            raise PlaceError(
                f"{place.name}: only {len(found[who])} of {place.seats} seats {near:g} to {far:g} m from the microphone"
                f" fit into the room of {place.size} m. Make the room larger, the distances wider or `seats` fewer."
            )
    return {who: np.round(places, 3) for who, places in found.items()}


_loaded = {}  # (key, split) -> responses, so that each process reads them once


def responses(place, split):
    """`{"target 0": response, ..., "other 0": ...}`, float32 `(taps,)`, of the seats of `split`; kept in the cache.

    Measured ones where the place has six or more, else simulated (half a minute once for 144 seats of an office).
    """
    if not place.rt60:
        return {}
    told = {name: value for name, value in asdict(place).items() if name not in ("name", "device", "mixtures")}
    key = hashlib.sha256(json.dumps([VERSION, told]).encode()).hexdigest()[:12], split
    if key not in _loaded:
        _loaded[key] = _measured(place, split) or _simulated(place, split, cache_dir() / "places" / "-".join(key))
    return _loaded[key]


def _measured(place, split):
    found = responses_of(place.folder) if place.folder else {}
    if len(found) < FEW:
        return {}
    names = sorted(found)[SPLITS.index(split) :: len(SPLITS)]
    return {f"{who} {n}": found[name] for who in ("target", "other") for n, name in enumerate(names)}


def _simulated(place, split, path):
    path = path.with_suffix(".npz")
    if not path.is_file():
        where = seats(place, split)
        names = [f"{who} {n}" for who in where for n in range(len(where[who]))]
        made = rooms.simulate(list(place.size), place.rt60, place.microphone, [*where["target"], *where["other"]], SR)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as part:
            np.savez(part, **dict(zip(names, made)))
        Path(part.name).replace(path)
    with np.load(path) as stored:
        return dict(stored)


def draw(rng, place, split, others):
    """Who sits where, as plain values for a recipe: the seat of the target and those of `others` people."""
    if not place.rt60:
        return None
    names = list(responses(place, split))
    own, free = ([name for name in names if name.startswith(who)] for who in ("target", "other"))
    target = own[int(rng.integers(len(own)))]
    if _measured(place, split):  # one recorded seat, one person
        free = [name for name in free if name.split()[1] != target.split()[1]]
    if len(free) < others:
        raise PlaceError(
            f"{place.name}: {1 + others} people need as many seats in {split}, and there are {1 + len(free)} responses."
            " Record more of them, or set interferers=(1, 1)."
        )
    chosen = [free[k] for k in rng.choice(len(free), others, replace=False)]
    return dict(split=split, target=target, others=chosen)


def place_voices(place, where, target, others):
    """`(reference, heard, others)`: the target as a model is to give it back, and all as they reach the microphone."""
    if where:
        found = responses(place, where["split"])
        heard = rooms.through(target, found[where["target"]])
        first = rooms.early(found[where["target"]], SR, place.early_ms) if place.early_ms else found[where["target"]]
        reference = rooms.through(target, first)
        others = [rooms.through(wave, found[name]) for wave, name in zip(others, where["others"])]
    else:
        heard = reference = target
    return high_pass(place, reference), high_pass(place, heard), [high_pass(place, wave) for wave in others]


def high_pass(place, wave):
    """`wave` without what lies under the place's lowest frequency (second-order Butterworth)."""
    if not place.high_pass_hz:
        return wave
    return signal.sosfilt(_sections(place.high_pass_hz), wave).astype(np.float32)


@functools.cache
def _sections(hz):
    return signal.butter(2, hz, "highpass", fs=SR, output="sos")
