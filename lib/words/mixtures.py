"""Overlapped words: which words, how loud, where in the clip; fixed for validation and test, new in every epoch for
training.

A clip is float32 `(16000,)`, one second at 16 kHz; its label `shares` `(words,)` are the words' shares of its energy,
which sum to 1.
"""

from dataclasses import dataclass

import numpy as np
import torch

from lib import audio
from lib.words.recordings import SR
from lib.words.vocabularies import WordsError

SAMPLES = SR  # one second
CLIP_DB = -26.0  # dBFS of a finished clip


@dataclass
class Plan:
    """What one clip is made of: places in the pool, variant of each, share of the energy of each, and where each starts
    (0 to 1).
    """

    numbers: np.ndarray
    variants: np.ndarray
    shares: np.ndarray
    starts: np.ndarray


def draw(pool, random, words=(2, 4), spread_db=6.0, one_voice=False):
    """A `Plan`: `words` (least, most) different words, levels uniform within ± `spread_db`, all else at random.

    one_voice: all words of a clip are said by one person, drawn anew for each clip.
    """
    own = np.arange(len(pool))
    if one_voice:
        own = np.flatnonzero(pool.speaker == random.choice(np.unique(pool.speaker)))
    classes = np.unique(pool.word[own])
    count = int(random.integers(words[0], words[1] + 1))
    chosen = random.choice(classes, count, replace=False)
    numbers = np.array([random.choice(own[pool.word[own] == word]) for word in chosen])
    power = 10 ** (random.uniform(-spread_db, spread_db, count) / 10)
    variants = np.array([random.integers(len(pool.waves(number))) for number in numbers])
    return Plan(numbers, variants, power / power.sum(), random.uniform(0, 1, count))


def mix(pool, plan, level_db=CLIP_DB):
    """`(clip, parts, shares)`: clip `(16000,)` is the sum of parts `(words, 16000)`; shares `(classes,)`.

    Each word gets the share of energy that the plan says *after* it was placed, so that a word cut at the second's end
    is not overrated.
    """
    parts = np.zeros((len(plan.numbers), SAMPLES), np.float32)
    for part, number, variant, share, start in zip(parts, plan.numbers, plan.variants, plan.shares, plan.starts):
        wave = place(pool.waves(number)[variant], start)
        part[:] = wave * np.sqrt(share / max(float(np.square(wave).sum()), 1e-12))
    clip = parts.sum(0)
    gain = 10 ** (level_db / 20) / max(float(np.sqrt(np.square(clip).mean())), 1e-9)
    gain = min(gain, 0.99 / max(float(np.abs(clip).max()), 1e-9))
    shares = np.zeros(len(pool.words), np.float32)
    np.add.at(shares, pool.word[plan.numbers], plan.shares)
    return clip * gain, parts * gain, shares


def place(wave, start):
    """`wave` inside one second: from `start` of the room that is left (0 to 1); of a longer one that part of a
    second.
    """
    room, out = SAMPLES - len(wave), np.zeros(SAMPLES, np.float32)
    if room < 0:
        first = int(-room * start)
        return wave[first : first + SAMPLES]
    first = int(room * start)
    out[first : first + len(wave)] = wave
    return out


class Mixtures(torch.utils.data.Dataset):
    """`count` clips of `pool`: dicts of `clip` `(16000,)` and `shares` `(classes,)`.

    fresh: other clips in every epoch (`lib.training.fit` calls `set_epoch`), still decided by `seed` alone; else always
    the same. shift: seconds by which the whole clip is moved at most (what leaves on one side is lost). how: see
    `draw`.
    """

    def __init__(self, pool, count, seed=0, fresh=False, shift=0.0, **how):
        fewest, most = how.get("words", (2, 4))
        if not 1 <= fewest <= most <= len(np.unique(pool.word)):
            raise WordsError(
                f"words={how.get('words')}: give (least, most) between 1 and the {len(np.unique(pool.word))} words of"
                " this pool."
            )
        if how.get("one_voice"):
            _check_voices(pool, most)
        self.pool, self.count, self.seed, self.fresh, self.shift, self.how, self.round = (
            pool,
            count,
            seed,
            fresh,
            shift,
            how,
            0,
        )

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        """The clips of this epoch, where they are fresh."""
        self.round = int(epoch) if self.fresh else 0

    def random(self, number):
        return np.random.default_rng((self.seed, self.round, number))

    def plan(self, number):
        """The `Plan` of one clip."""
        return draw(self.pool, self.random(number), **self.how)

    def __getitem__(self, number):
        if not 0 <= number < self.count:
            raise IndexError(number)
        clip, _, shares = mix(self.pool, self.plan(number))
        if self.shift:
            clip = moved(
                clip,
                int(np.random.default_rng((self.seed, self.round, number, 1)).uniform(-self.shift, self.shift) * SR),
            )
        return {"clip": clip, "shares": shares}

    def stacked(self):
        """All clips at once: clips `(count, 16000)` and shares `(count, classes)`, numpy."""
        items = [self[number] for number in range(self.count)]
        return np.stack([item["clip"] for item in items]), np.stack([item["shares"] for item in items])


def _check_voices(pool, most):
    for name in np.unique(pool.speaker):
        if (said := len(np.unique(pool.word[pool.speaker == name]))) < most:
            raise WordsError(
                f"{name} says {said} words, and a clip may hold {most} of one voice. Leave this person out, or ask for"
                " fewer words."
            )


def moved(clip, samples):
    """`clip` later by `samples` (earlier where negative), silence where nothing is left."""
    out = np.zeros_like(clip)
    if samples >= 0:
        out[samples:] = clip[: len(clip) - samples]
    else:
        out[:samples] = clip[-samples:]
    return out


class Stored(torch.utils.data.Dataset):
    """Arrays of equal length as a dataset of dicts: `Stored(features=..., shares=...)`.

    visits: items an epoch, where it is not all of them; epoch after epoch they go round through the whole.
    """

    def __init__(self, visits=None, **arrays):
        if len({len(values) for values in arrays.values()}) != 1:
            raise WordsError(
                f"arrays of one length are needed; got { ({name: len(values) for name, values in arrays.items()}) }."
            )
        self.arrays, self.total, self.first = arrays, len(next(iter(arrays.values()))), 0
        self.visits = self.total if visits is None else visits

    def __len__(self):
        return self.visits

    def set_epoch(self, epoch):
        """The items of this epoch."""
        self.first = int(epoch) * self.visits

    def __getitem__(self, number):
        if not 0 <= number < self.visits:
            raise IndexError(number)
        place = (self.first + number) % self.total
        return {name: np.asarray(values[place], np.float32) for name, values in self.arrays.items()}


def fit_second(wave, sr=SR):
    """`(clip, what was done)`: mono, 16 kHz, one second; a longer wave keeps its middle, a shorter one is padded on
    both sides.
    """
    wave = np.asarray(wave, np.float32)
    done = [f"{sr} Hz resampled"] if sr != SR else []
    wave = audio.resample(wave, sr, SR)
    if len(wave) != SAMPLES:
        done.append("cut to its middle second" if len(wave) > SAMPLES else "padded to one second")
    return place(wave, 0.5), done
