"""A song in stems: which files hold what, and their sound. `lib.music.layouts` finds songs, `lib.music.checks` looks
whether they are whole.

Waves are float32 mono `(samples,)` in [-1, 1] at the rate asked for; stereo and other rates are converted as they are
read.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from lib import audio

STEMS = ("vocals", "drums", "bass", "other")
SR = 22050
APART = 0.002  # s by which a song's files may differ in length: encoders and exports at a block's border


class SongError(ValueError):
    """Songs or stems cannot be used; the message names folder or file and says what to do."""


@dataclass(frozen=True)
class Song:
    """One song: its split, the files of each stem (a stem may be the sum of several), and its mixture, None where it is
    the stems' sum.
    """

    name: str
    split: str
    stems: dict
    mixture: Path | None = None

    @property
    def info(self):
        """(rate in Hz, samples at that rate, channels) of the file that a reader sees first."""
        rate, channels, samples = audio.facts(self.mixture or next(iter(self.stems.values()))[0])
        return rate, samples, channels

    def seconds(self):
        """Length by the header."""
        rate, frames, _ = self.info
        return frames / rate

    def read(self, stem, start=0.0, seconds=None, sr=SR, channel="mid"):
        """`stem` (or "mixture") from `start` s on for `seconds` s (default:

        to the end) as `(samples,)`; channel: left, right, mid (their mean).
        """
        paths = [self.mixture] if stem == "mixture" and self.mixture else self._paths(stem)
        common = self._common()
        if seconds is None and common is not None:  # so that stems a few samples apart are equally long
            seconds = max(common - start, 0)
        waves = [_read(path, start, seconds, sr, channel) for path in paths]
        samples = min(map(len, waves))
        return np.sum([wave[:samples] for wave in waves], axis=0)

    def files(self):
        """All its files, the mixture's last."""
        return [*(path for paths in self.stems.values() for path in paths), *([self.mixture] if self.mixture else [])]

    def _common(self):
        """Seconds of the shortest of its files, where they differ by at most `APART`; None otherwise, or equal."""
        lengths = [length(path) for path in self.files()]
        return min(lengths) if 0 < max(lengths) - min(lengths) <= APART else None

    def _paths(self, stem):
        if stem == "mixture":
            return [path for paths in self.stems.values() for path in paths]
        if stem not in self.stems:
            raise SongError(f"{self.name}: has no stem {stem!r}; it has {', '.join(self.stems) or 'none'}.")
        return self.stems[stem]

    def parts(self, target):
        """Names of what lies beside the target: the other stems, or "rest" (the mixture less the target) where they are
        not all there.
        """
        others = [stem for stem in self.stems if stem != target]
        return others if self.mixture is None or set(STEMS) <= set(self.stems) else ["rest"]

    def read_part(self, part, target, **where):
        """Like `read`, for a name that `parts` gave."""
        return (
            self.read("mixture", **where) - self.read(target, **where) if part == "rest" else self.read(part, **where)
        )


def _read(path, start, seconds, sr, channel):
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate), file.frames))
            wave = file.read(-1 if seconds is None else round(seconds * rate), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise SongError(f"{path}: cannot be read as audio ({error}). Is it damaged? Copy it again.") from error
    wave = wave.mean(axis=1) if wave.shape[1] == 1 or channel == "mid" else wave[:, 0 if channel == "left" else 1]
    wave = audio.resample(wave, rate, sr)
    samples = len(wave) if seconds is None else round(seconds * sr)
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


@functools.lru_cache(4096)
def _frames(path, changed):
    """(samples, rate) by the header of a file that was last `changed` at that time."""
    try:
        rate, _, samples = audio.facts(path)
    except audio.AudioError as error:
        raise SongError(str(error)) from error
    return samples, rate


def length(path):
    """Seconds of a file by its header."""
    samples, rate = _frames(path, path.stat().st_mtime_ns if path.is_file() else 0)
    return samples / rate
