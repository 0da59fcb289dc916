"""Recordings of single words made ready to mix: read, cut to the word, brought to one band and level, and varied.

Waves are float32 `(samples,)` in [-1, 1] at 16 kHz.
"""

from dataclasses import dataclass, field

import numpy as np

from lib import audio, extras
from lib.data import debian, voice_making
from lib.words.vocabularies import WordsError

SR = 16000
TELEPHONE = (
    8000  # Hz, the rate of two of the voices; everything is brought to it and back, so that the band tells nothing
)
LEVEL_DB = -26.0  # dBFS of a single word


@dataclass
class Pool:
    """Recordings to mix from: `word[k]` is the class of the k-th, `waves(k)` its variants (the first as recorded)."""

    words: list
    word: np.ndarray
    speaker: np.ndarray
    paths: list
    telephone: bool = True
    variants: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.word)

    def waves(self, number):
        """The variants of one recording, trimmed and levelled; read from its file on the first call and kept."""
        if number not in self.variants:
            self.variants[number] = [prepare(audio.read(self.paths[number], SR), self.telephone)]
        return self.variants[number]

    def varied(self, count=12, pitch=5.0, speed=1.5, tract=1.0, seed=0):
        """A pool with `count` more variants a recording: pitch by up to ± `pitch` semitones, faster or slower by up to
        `speed` times.

        tract: the resonances alone up to so many times higher or lower, beside what the pitch does to them (1: not).
        """
        made = {}
        for number in range(len(self)):
            random = np.random.default_rng((seed, number))
            wave = self.waves(number)[0]
            made[number] = [wave] + [
                vary(wave, random.uniform(-pitch, pitch), speed ** random.uniform(-1, 1)) for _ in range(count)
            ]
            if tract > 1:
                made[number][1:] = [
                    voice_making.stretch_envelope(one, tract ** random.uniform(-1, 1)) for one in made[number][1:]
                ]
        return Pool(self.words, self.word, self.speaker, self.paths, self.telephone, made)

    def by(self, keep):
        """The recordings for which the boolean array `keep` is true."""
        places = np.flatnonzero(keep)
        variants = {new: self.variants[old] for new, old in enumerate(places) if old in self.variants}
        return Pool(
            self.words,
            self.word[places],
            self.speaker[places],
            [self.paths[place] for place in places],
            self.telephone,
            variants,
        )


def pool(table, split=None, telephone=True):
    """The recordings of one split (None: all) of a table of words as a `Pool`. Raises `WordsError` where there are
    none.
    """
    words, rows = table.attrs["words"], table if split is None else table[table["split"] == split]
    if not len(rows):
        raise WordsError(f"no word of the split {split}; the table has: {', '.join(sorted(table['split'].unique()))}.")
    return Pool(
        list(words),
        np.array([words.index(word) for word in rows["word"]]),
        rows["speaker"].to_numpy(),
        list(rows["path"]),
        telephone,
    )


def prepare(wave, telephone=True):
    """One word: its pauses at both ends cut, the telephone band if asked for, short fades, a level of -26 dBFS."""
    wave = trim(wave)
    if telephone:
        wave = audio.resample(audio.resample(wave, SR, TELEPHONE), TELEPHONE, SR)
    edge = min(80, len(wave) // 2)  # 5 ms
    wave[:edge] *= np.linspace(0, 1, edge, dtype=np.float32)
    wave[len(wave) - edge :] *= np.linspace(1, 0, edge, dtype=np.float32)
    return (wave * 10 ** ((LEVEL_DB - audio.rms_db(wave)) / 20)).astype(np.float32)


def trim(wave, below=18.0, frame=320, pad=2, click=5):
    """`wave` from its first to its last speech: 20 ms frames less than `below` dB under the loud ones; `click` or fewer
    alone are no speech.
    """
    levels = debian.frame_levels(wave, frame)
    if not len(levels):
        return wave.copy()
    loud = np.concatenate([[False], levels > np.percentile(levels, 95) - below, [False]])
    runs = np.flatnonzero(np.diff(loud.astype(int))).reshape(-1, 2)
    long = runs[np.diff(runs, axis=1)[:, 0] > click]
    runs = long if len(long) else runs
    return wave[max(0, runs[0, 0] - pad) * frame : (runs[-1, 1] + pad) * frame].copy()


def vary(wave, semitones=0.0, speed=1.0):
    """`wave` higher by `semitones` (the whole voice: pitch and resonances) and `speed` times as fast; librosa's phase
    vocoder and soxr.
    """
    with extras():
        import librosa

    factor = 2 ** (semitones / 12)
    stretched = librosa.effects.time_stretch(wave, rate=float(speed / factor), n_fft=512)
    return audio.resample(stretched, round(SR * factor), SR)
