"""What a microphone and the line behind it do to a sound: frequency response, a reflection off the table, a codec.

Waves are float32 `(samples,)` in [-1, 1] at 16 kHz; a device delays nothing, so a target stays aligned with its mix.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import signal

SR = 16000
TAPS = 513  # of the filter that has the device's frequency response
CODECS = ("", "mu-law")


@dataclass(frozen=True)
class Device:
    """curve: (Hz, dB) pairs of the frequency response, straight lines between them. comb_ms, comb_gain: a copy so much
    later and so loud, as a table top gives it. codec: "" or "mu-law" (8 bits at 8 kHz, a telephone line).
    clip_dbfs: peaks above are cut; 0: none. floor_dbfs: RMS of the device's own white noise; 0: none.
    """

    curve: tuple = ()
    comb_ms: float = 0.0
    comb_gain: float = 0.0
    codec: str = ""
    clip_dbfs: float = 0.0
    floor_dbfs: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "curve", tuple(tuple(map(float, point)) for point in self.curve))
        if self.codec not in CODECS:
            raise ValueError(f"device: unknown codec {self.codec!r}; known are: {', '.join(map(repr, CODECS))}.")
        if any(len(point) != 2 for point in self.curve) or list(self.curve) != sorted(self.curve):
            raise ValueError("device: curve is a list of [Hz, dB] with rising Hz, such as [[100, -20], [300, 0]].")

    @property
    def linear(self):
        """Whether a sum through the device is the sum of its parts through it."""
        return not self.codec and not self.clip_dbfs

    def response(self):
        """The impulse response `(taps,)`, symmetric about its middle but for the comb."""
        return _response(self)

    def __call__(self, wave):
        """`wave` as the device passes it on, of the same length."""
        if self == Device():
            return wave
        heard = signal.oaconvolve(wave, self.response())[TAPS // 2 :][: len(wave)]
        if self.clip_dbfs:
            heard = np.clip(heard, -(10 ** (self.clip_dbfs / 20)), 10 ** (self.clip_dbfs / 20))
        return (mu_law(heard) if self.codec else heard).astype(np.float32)


@functools.cache
def _response(device):
    impulse = np.zeros(TAPS)
    impulse[TAPS // 2] = 1.0
    if device.curve:
        hz, decibels = map(np.array, zip(*device.curve))
        grid = np.linspace(0, SR / 2, 129)
        gains = 10 ** (np.interp(grid, hz, decibels) / 20)
        impulse = signal.firwin2(TAPS, grid / (SR / 2), gains)
    late = round(device.comb_ms * SR / 1000)
    combed = impulse.copy()
    if late:
        combed[late:] += device.comb_gain * impulse[:-late]
    combed.setflags(write=False)  # every call gets the same one
    return combed


def own_noise(device, rng, samples):
    """The noise that `device` itself adds, `(samples,)`: what it passes on more faintly cannot be had back."""
    level = 10 ** (device.floor_dbfs / 20) if device.floor_dbfs else 0.0
    return (level * rng.standard_normal(samples)).astype(np.float32)


def mu_law(wave, levels=255):
    """8 kHz, companded and rounded to 8 bits and back (ITU-T G.711, mu-law), at 16 kHz again."""
    narrow = np.clip(signal.resample_poly(wave, 1, 2), -1, 1)
    companded = np.sign(narrow) * np.log1p(levels * np.abs(narrow)) / np.log1p(levels)
    companded = np.round(companded * 127) / 127
    narrow = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(levels)) / levels
    return np.pad(signal.resample_poly(narrow, 2, 1), (0, 1))[: len(wave)]
