"""Training mixtures as unlike each other as songs are: `Remixes`, with levels, effects and accompaniment drawn anew.

Beside what a remix does, an example has its target at a drawn level re the rest, a faster or slower tape, an equaliser
on each stem, distortion, more than one song on top of each other, recorded music (`lib.music.backing`), at times a
second target, and at times none at all. Some keep a song's own accompaniment under its target: there a voice sings the
notes that the instruments play, which is the hardest case and that of every real song.
"""

import numpy as np
from scipy import signal

from lib import audio
from lib.music import effects
from lib.music.remixing import Remixes

LEVEL_DB = {"vocals": (-10.0, 3.0), "drums": (-12.0, 2.0), "bass": (-14.0, 0.0), "other": (-8.0, 4.0)}  # re the rest
OWN = 0.3  # share of examples with the target's own accompaniment, in time and in key with it
TOGETHER = 0.15  # ... with all the accompaniment of one other song
SECOND = 0.15  # ... with a second target, as a choir or a duet has
NONE = 0.05  # ... without a target
RECORDED = 0.35  # ... with recorded music in the rest
STACKED = 0.3  # ... with another song's `other` on top
DISTORTED = 0.35  # share of `other` stems that go through an overdriven amplifier
SPEED = (0.88, 1.14)  # of the tape, in half of the examples: pitch and tempo
QUIET_DB = -50.0  # dBFS under which an excerpt of the target is a pause, and keeps its song's level


class Mixes(Remixes):
    """`Remixes` with all of that. backing: songs with a stem `other`, as `backing.load` gives; may be empty."""

    def __init__(self, songs, target="vocals", items=256, seconds=2.0, backing=(), **settings):
        super().__init__(songs, target, items, seconds, **settings)
        self.backing = list(backing)
        self.backing_lengths = [song.seconds() for song in self.backing]

    def remixed(self, rng):
        """One example."""
        speed = float(rng.uniform(*SPEED)) if rng.random() < 0.5 else 1.0
        self.reading = self.seconds * speed
        place = self._place(rng) if rng.random() < OWN else None
        target = self._stem(rng, self.target, range(len(self.songs))) if place is None else self._at(place, self.target)
        if rng.random() < SECOND:
            target = target + 0.6 * self._stem(rng, self.target, range(len(self.songs)))
        rest = self._rest(rng, place)
        target, rest = (_tape(wave, int(self.seconds * self.sr)) for wave in (target, rest))
        if rng.random() < 0.3:
            rest = effects.compress(rest, self.sr, rng.uniform(-20, -8), rng.uniform(1.5, 6))
        target = np.zeros_like(target) if rng.random() < NONE else self._levelled(rng, target, rest)
        return self._finished(rng, target, rest)

    def _rest(self, rng, place=None):
        """The accompaniment `(samples,)`: of one song, of several, recorded, or all of these. place: where one song's
        own is taken; None: drawn.
        """
        recorded = self.backing and rng.random() < RECORDED
        if place is None and rng.random() < TOGETHER / (1 - OWN):
            place = self._place(rng)
        if place is not None:
            parts = [self._at(place, part) for part in self.songs[place[0]].parts(self.target)]
            parts = [self._shaped(rng, wave, "together") for wave in parts]
        else:
            left_out = rng.random() < 0.5 and recorded  # recorded music has drums and bass of its own
            names = [part for part in self.sources if not left_out or part == "other"]
            parts = [self._shaped(rng, self._stem(rng, part, self.having[part]), part) for part in names]
        if rng.random() < STACKED and "other" in self.having:
            parts.append(self._shaped(rng, self._stem(rng, "other", self.having["other"]), "other"))
        if recorded:
            wave = audio.set_level(self._recorded(rng), -20.0)
            parts.append(self._shaped(rng, wave * np.float32(10 ** (rng.uniform(-6, 4) / 20)), "recorded"))
        return sum(parts)

    def _place(self, rng):
        """(number of a song, s) of an excerpt."""
        k = int(rng.integers(len(self.songs)))
        return k, self._start(rng, self.lengths[k])

    def _at(self, place, part):
        k, start = place
        where = dict(start=start, seconds=self.reading, sr=self.sr)
        song = self.songs[k]
        return song.read(part, **where) if part == self.target else song.read_part(part, self.target, **where)

    def _recorded(self, rng):
        k = int(rng.integers(len(self.backing)))
        start = self._start(rng, self.backing_lengths[k])
        return self.backing[k].read("other", start, self.reading, self.sr, str(rng.choice(["left", "right", "mid"])))

    def _shaped(self, rng, wave, part):
        if part == "other" and rng.random() < DISTORTED:
            wave = effects.distort(wave, rng.uniform(0, 30))
        return effects.equalise(wave, self.sr, rng, 6.0) if rng.random() < 0.3 else wave

    def _levelled(self, rng, target, rest):
        level = audio.rms_db(target)
        if level < QUIET_DB:
            return target
        wanted = audio.rms_db(rest) + rng.uniform(*LEVEL_DB[self.target])
        return target * np.float32(10 ** ((max(wanted, -60.0) - level) / 20))

    def _finished(self, rng, target, rest):
        """dict(mix, target), with what mastering does to both alike."""
        both = np.stack([target + rest, target])
        if rng.random() < 0.3:
            both = np.ascontiguousarray(effects.equalise(both.T, self.sr, rng, 4.0).T)
        if rng.random() < 0.1:  # an old or a small file
            sos = signal.butter(4, rng.uniform(6000, 10000), fs=self.sr, output="sos")
            both = signal.sosfilt(sos, both, axis=1).astype(np.float32)
        both = both * np.float32(10 ** (rng.uniform(-12, 0) / 20) / max(float(np.abs(both[0]).max()), 1e-4))
        return {"mix": both[0].astype(np.float32), "target": both[1].astype(np.float32)}

    def _start(self, rng, length):
        return float(rng.uniform(0, max(length - self.reading, 0)))


def _tape(wave, samples):
    """The wave played faster or slower, so that it lasts `samples`."""
    if len(wave) == samples:
        return wave
    place = np.linspace(0, len(wave) - 1.001, samples)
    low = place.astype(np.int32)
    part = (place - low).astype(np.float32)
    return wave[low] * (1 - part) + wave[low + 1] * part
