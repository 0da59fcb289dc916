"""Impulse responses from a folder of recordings: responses themselves, claps, or recordings of a sweep.

Responses are float32 `(taps,)` at 16 kHz, cut from just before the direct sound to where it has died away, peak 1.
"""

import numpy as np

from lib import audio
from lib.data.walk import sounds

SR = 16000
LONGEST = 5.0  # s; a longer file is no response
BEFORE = round(0.002 * SR)  # kept before the direct sound
FLOOR_DB = -35.0  # below the peak: where a response is cut, unless its own noise ends it earlier


class ResponseError(ValueError):
    """A recording gives no impulse response; the message names it and says what to record instead."""


def read_responses(folder):
    """Name of file -> response, of every audio file in `folder`; with a `sweep.wav`, the others are recordings of
    it.
    """
    files = sounds(folder, below=False, error=ResponseError).files
    sweep = next((path for path in files if path.stem.lower() == "sweep"), None)
    played = audio.read(sweep, SR) if sweep else None
    return {path.name: _response(path, played) for path in files if path != sweep}


def _response(path, sweep):
    wave = audio.read(path, SR)
    if np.abs(wave).max() >= 0.999 and np.sum(np.abs(wave) >= 0.999) > 3:
        raise ResponseError(
            f"{path}: the recording clips, so it is no response. Record it again, quieter or further away."
        )
    if sweep is not None:
        wave = deconvolve(wave, sweep)
    elif len(wave) > LONGEST * SR:
        raise ResponseError(
            f"{path}: {len(wave) / SR:.1f} s is too long for a response (at most {LONGEST:g} s). Cut out one clap or"
            " response, or put the sweep that was played beside it as sweep.wav."
        )
    return trim(wave, path)


def deconvolve(recorded, sweep):
    """What a room did to `sweep`, from what was `recorded` of it: division of spectra, weak bins held down."""
    length = len(recorded) + len(sweep)
    played, heard = np.fft.rfft(sweep, length), np.fft.rfft(recorded, length)
    power = np.abs(played) ** 2
    return np.fft.irfft(heard * played.conj() / (power + 1e-3 * power.max()), length).astype(np.float32)


def trim(wave, path="response"):
    """From just before the loudest point to where the decay reaches its floor, peak 1; else a `ResponseError`."""
    peak = int(np.argmax(np.abs(wave)))
    loudest = float(np.abs(wave[peak]))
    after = wave[peak:]
    width = round(0.01 * SR)
    levels = np.array([np.sqrt(np.mean(after[i : i + width] ** 2)) for i in range(0, len(after) - width + 1, width)])
    if not loudest or len(levels) < 5:
        raise ResponseError(
            f"{path}: no response can be seen (silent, or cut off right after the clap). Record it again."
        )
    floor = max(np.median(levels[-max(3, len(levels) // 5) :]) * 1.5, levels[0] * 10 ** (FLOOR_DB / 20))
    under = np.flatnonzero(levels < floor)
    end = int(under[0]) * width if len(under) else len(after)
    if end < 2 * width:
        raise ResponseError(
            f"{path}: the clap does not stand out of the noise. Clap louder, or nearer to the microphone."
        )
    cut = wave[max(0, peak - BEFORE) : peak + end].copy()
    ramp = min(width, len(cut) // 4)
    cut[-ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return cut / loudest
