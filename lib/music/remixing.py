"""Training examples out of songs: excerpts as they are, or mixtures made anew each time out of the stems of different
songs.

An item is dict(mix, target), float32 `(samples,)` at 22,050 Hz. Chance comes from PyTorch's global generator, which
`lib.training.fit` seeds and restores: each epoch brings new examples, and a resumed run the ones that the uninterrupted
run would have had.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from lib import audio
from lib.music.songs import SR, SongError

GAIN_DB = (-6.0, 6.0)  # of each stem, relative to its level in its song
ACTIVE_DB = -45.0  # dBFS: an excerpt of validation has at least this much of the target


class Remixes(Dataset):
    """`items` excerpts of `seconds` an epoch from the songs of one split.

    remix=True: each stem from a song of its own, at an offset of its own, with random gain, sign and channel (left,
    right, mid).
    remix=False: all stems from one song and one offset, as they were, the channels' mean: the song's own mixture.
    heard: a function called with 1 after each example, for a progress bar.
    """

    def __init__(self, songs, target="vocals", items=256, seconds=2.0, remix=True, sr=SR, heard=None):
        if not songs:
            raise SongError("no songs to train on. Check the split's folder.")
        self.songs, self.target, self.items, self.seconds, self.remix, self.sr, self.heard = (
            songs,
            target,
            items,
            seconds,
            remix,
            sr,
            heard,
        )
        self.lengths, self.reading = [song.seconds() for song in songs], seconds
        if min(self.lengths) < seconds:
            short = songs[int(np.argmin(self.lengths))]
            raise SongError(
                f"{short.name}: {min(self.lengths):.1f} s is shorter than an excerpt of {seconds:g} s. Take it out, or"
                " train on shorter excerpts."
            )
        self.sources = sorted({part for song in songs for part in song.parts(target)})
        self.having = {part: [k for k, song in enumerate(songs) if part in song.parts(target)] for part in self.sources}

    def __len__(self):
        return self.items

    def __getitem__(self, i):
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        item = self.remixed(rng) if self.remix else self.as_it_was(rng)
        if self.heard is not None:
            self.heard(1)
        return item

    def as_it_was(self, rng):
        """One song's own excerpt."""
        k = int(rng.integers(len(self.songs)))
        return excerpt(self.songs[k], self.target, self._offset(rng, k), self.seconds, self.sr)

    def remixed(self, rng):
        """The target of one song over parts of others."""
        target = self._stem(rng, self.target, range(len(self.songs)))
        rest = [self._stem(rng, part, self.having[part]) for part in self.sources]
        mix = target + sum(rest)
        scale = min(1.0, 0.99 / max(float(np.abs(mix).max()), 1e-6))
        return {"mix": mix * np.float32(scale), "target": target * np.float32(scale)}

    def _stem(self, rng, part, choice):
        k = int(rng.choice(list(choice)))
        where = dict(
            start=float(rng.uniform(0, max(self.lengths[k] - self.reading, 0))),
            seconds=self.reading,
            sr=self.sr,
            channel=str(rng.choice(["left", "right", "mid"])),
        )
        song = self.songs[k]
        wave = song.read(part, **where) if part == self.target else song.read_part(part, self.target, **where)
        return wave * np.float32(rng.choice([-1.0, 1.0]) * 10 ** (rng.uniform(*GAIN_DB) / 20))

    def _offset(self, rng, k):
        return float(rng.uniform(0, self.lengths[k] - self.seconds))


class Excerpts(Dataset):
    """Fixed excerpts for validation: `each` of `seconds` from every song, evenly spread, where the target is heard."""

    def __init__(self, songs, target="vocals", seconds=4.0, each=2, sr=SR):
        self.places, self.target, self.seconds, self.sr = [], target, seconds, sr
        for song in songs:
            starts = np.linspace(0, max(song.seconds() - seconds, 0), 4 * each)
            loud = [start for start in starts if audio.rms_db(song.read(target, start, seconds, sr)) > ACTIVE_DB]
            kept = [loud[k] for k in np.unique(np.linspace(0, len(loud) - 1, each).round().astype(int))] if loud else []
            self.places += [(song, float(start)) for start in kept]
        if not self.places:
            raise SongError(
                f"the stem {target!r} is silent in all {len(songs)} songs to validate on. Check the split's folder."
            )

    def __len__(self):
        return len(self.places)

    def __getitem__(self, i):
        song, start = self.places[i]
        return excerpt(song, self.target, start, self.seconds, self.sr)


def excerpt(song, target, start, seconds, sr=SR):
    """dict(mix, target) of one place of a song, mid channel; the mixture is the song's own."""
    wave = {"mix": song.read("mixture", start, seconds, sr), "target": song.read(target, start, seconds, sr)}
    return {name: value.astype(np.float32) for name, value in wave.items()}
