"""What one mixture is made of: `draw` chooses it. How that sounds is arithmetic (`lib.data.rendering`).

A recipe is a dict of plain values (it fits in a manifest row): which samples of which files, at which level ratios.
Waves are float32 `(samples,)` in [-1, 1] at 16 kHz. A file is named `root/path/below/it`, so that a dataset outlives a
moved cache.
"""

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib import audio
from lib.data import noises, rooms, seating

SR = 16000
SPLITS = ("Train", "Val", "Test")
MIN_PIECE = round(0.3 * SR)  # shorter recordings and cuts are clicks rather than speech
FADE = round(0.005 * SR)  # at both ends of each piece, so that a cut does not click
ENROLLMENT_GAP = round(0.1 * SR)
TRIES = 20
MADE = {"noise": noises.coloured, "fan": noises.fan}  # backgrounds made by formula from a seed
ABSENT = {  # what an absent person is like, and how often
    "stranger": 0.7,  # others speak; the enrollment is of somebody else, as often of the first one's sex as not
    "nobody": 0.15,  # nobody speaks, there is only the background
    "half": 0.15,  # the person is silent for half of the time
}
SILENT_DB = -50.0  # dBFS; a piece below it, or this far below its own recording, counts as silent:
SILENT_RELATIVE_DB = -25.0


class Piece(NamedTuple):
    """`samples` samples of `file` from `offset` on, put at sample `at` of a segment, times `gain`."""

    file: str
    offset: int
    samples: int
    at: int
    gain: float


class NotEnough(Exception):
    """The drawn recordings hold too little (audible) speech; the mixture is skipped and counted under this reason."""


class Library:
    """Waves by name, decoded at 16 kHz, the latest `limit` bytes kept in memory.

    `roots`: first word of a name -> folder. `place`: where its mixtures are heard, a `lib.data.places.Place` or None.
    """

    def __init__(self, roots, limit=2**28, place=None):
        self.place = place
        self.roots, self.limit = {name: Path(folder) for name, folder in roots.items()}, limit
        self.kept, self.bytes = OrderedDict(), 0

    def path(self, file):
        root, _, rest = file.partition("/")
        return self.roots[root] / rest

    def wave(self, file):
        """The whole recording `(samples,)` and its level in dBFS."""
        if file not in self.kept:
            wave = audio.read(self.path(file), SR)
            self.kept[file] = wave, float(audio.rms_db(wave))
            self.bytes += wave.nbytes
            while self.bytes > self.limit and len(self.kept) > 1:
                self.bytes -= self.kept.popitem(last=False)[1][0].nbytes
        self.kept.move_to_end(file)
        return self.kept[file]


# --- choice


def draw(settings, pools, library, split, index):
    """The recipe of mixture `index` (from 1) of `split`; depends on these and the seed alone, not on what was drawn
    before.

    Raises `NotEnough` where the speaker drawn cannot fill an audible segment.
    """
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    voices = pools.voices[split]
    speaker = pools.targets[split][(index - 1) % len(pools.targets[split])]
    enrollment, target = _enrollment_and_target(rng, voices[speaker], library, settings)
    others = [name for name in voices if name != speaker]
    count = min(int(rng.integers(settings.interferers[0], settings.interferers[1] + 1)), len(others))
    interferers = [others[k] for k in rng.choice(len(others), count, replace=False)]
    recipe = dict(
        index=index,
        speaker=speaker,
        interferers=interferers,
        target_pieces=target,
        enrollment_pieces=enrollment,
        interferer_pieces=[_talk(rng, voices[name], library, settings) for name in interferers],
        samples=settings.samples,
        level_dbfs=settings.level_dbfs,
    )
    recipe.update(_ratios(rng, settings, count))
    recipe.update(_background(rng, settings, pools, library, split, {speaker, *interferers}))
    recipe["room"] = rooms.draw(rng, 1 + count) if rng.random() < settings.room_share else None
    if settings.place is not None:
        recipe["room"] = seating.draw(rng, settings.place, split, count)
        recipe["place"] = settings.place.name
    chance = np.random.default_rng([settings.seed, SPLITS.index(split), index, 17])  # without it all stays as it was
    recipe.update(speaks="yes", absent="", quiet=None)
    if chance.random() < settings.absent_share:
        _make_absent(chance, recipe, settings, pools, library, split)
    return recipe


def _make_absent(rng, recipe, settings, pools, library, split):
    """Change a recipe so that its enrolled person is silent, in one of the ways of `ABSENT`.

    The levels still go by the person who was drawn as the target, whose pieces stay in `target_pieces`:
    `rendering.render` hears that person among the interferers, or nobody.
    """
    kind = str(rng.choice(list(ABSENT), p=list(ABSENT.values())))
    if kind == "nobody" and recipe["background"] in ("none", "babble"):
        kind = "stranger"  # there would be silence, or talk
    if kind == "half":
        start = int(rng.integers(settings.samples // 2 + 1))
        recipe.update(absent=kind, quiet=[start, start + settings.samples // 2])
        return
    drawn = recipe["speaker"]
    if kind == "stranger":
        free = [name for name in pools.targets[split] if name not in (drawn, *recipe["interferers"])]
        alike = rng.random() < 0.5
        fitting = [name for name in free if (pools.sexes.get(name) == pools.sexes.get(drawn)) == alike] or free
        if not fitting:
            return  # everybody speaks
        recipe["speaker"] = fitting[int(rng.integers(len(fitting)))]
        files = pools.voices[split][recipe["speaker"]]
        recipe["enrollment_pieces"] = _enrollment_and_target(rng, files, library, settings)[0]
    heard = [drawn, *recipe["interferers"]] if kind == "stranger" else []
    recipe.update(absent=kind, speaks="no", interferers=heard)


def _enrollment_and_target(rng, files, library, settings):
    """Pieces of the enrollment and of the target's segment, from disjoint recordings of one speaker."""
    names = list(files)
    for attempt in range(TRIES):
        order = [names[k] for k in rng.permutation(len(names))]
        if attempt >= TRIES // 2:  # a speaker with few recordings: the short ones make the enrollment
            order.sort(key=files.get)
        low, high = settings.enrollment_seconds
        enrollment = fill(
            rng, order, library, round(rng.uniform(low, high) * SR), (ENROLLMENT_GAP, ENROLLMENT_GAP), round(low * SR)
        )
        used = {piece.file for piece in enrollment or ()}
        rest = [name for name in (names[k] for k in rng.permutation(len(names))) if name not in used]
        target = enrollment and fill(rng, rest, library, settings.samples, settings.gap_samples)
        if target:
            return enrollment, target
    raise NotEnough("too little audible speech of the target")


def _talk(rng, files, library, settings):
    """Pieces of one speaker that cover a segment; a speaker with little speech says it again."""
    names = list(files)
    order = (names[k] for _ in range(settings.samples // MIN_PIECE + 1) for k in rng.permutation(len(names)))
    pieces = fill(rng, order, library, settings.samples, settings.gap_samples)
    if not pieces:
        raise NotEnough("too little audible speech of an interferer")
    return pieces


def fill(rng, order, library, samples, gaps, speech=0):
    """Pieces of the recordings in `order`, with `gaps` (low, high) samples between, until `samples` are covered.

    A recording that is longer than what is left gives a random cut. `speech`: at least so many samples besides the
    gaps. Returns None when the recordings do not suffice. Silent recordings and cuts are passed over.
    """
    pieces, at, spoken = [], 0, 0
    for file in order:
        left = max(samples - at, speech - spoken)
        if left < MIN_PIECE and spoken >= speech:
            break
        if piece := _cut(rng, file, library, max(left, MIN_PIECE), at):
            pieces.append(piece)
            spoken += piece.samples
            at += piece.samples + int(rng.integers(gaps[0], gaps[1] + 1))
    covered = samples - at < MIN_PIECE and spoken >= speech
    return pieces if pieces and covered else None


def _cut(rng, file, library, samples, at):
    """At most `samples` audible samples of `file` as a `Piece` with the gain that levels it to 0 dBFS RMS; None if
    silent.
    """
    wave, level = library.wave(file)
    samples = min(samples, len(wave))
    for _ in range(8 if samples < len(wave) else 1):
        offset = int(rng.integers(0, len(wave) - samples + 1))
        cut = float(audio.rms_db(wave[offset : offset + samples]))
        if samples and cut > max(SILENT_DB, level + SILENT_RELATIVE_DB):
            return Piece(file, offset, samples, at, 10 ** (-level / 20))
    return None


def _ratios(rng, settings, count):
    """How loud each interferer is: RMS over the target's RMS; with `sir_db` given, the ratio of the target to them
    all.
    """
    hard = bool(rng.random() < settings.hard_share)
    low, high = settings.hard_ratio if hard else settings.easy_ratio
    ratios = [float(rng.uniform(low, high)) for _ in range(count)]
    if settings.sir_db is None:
        return dict(difficulty="hard" if hard else "easy", ratios=ratios, wanted_sir_db=None)
    return dict(difficulty="", ratios=[1.0] * count, wanted_sir_db=float(rng.uniform(*settings.sir_db)))


def _background(rng, settings, pools, library, split, speakers):
    """Kind, pieces and level of the background; the kind is drawn by share among those there are files for."""
    kinds, shares = zip(*pools.backgrounds.items()) if pools.backgrounds else ((), ())
    recipe = dict(background="none", background_pieces=[], background_ratio=0.0, noise_seed=None)
    if rng.random() >= settings.background_share or not kinds:
        return recipe
    kind = str(rng.choice(kinds, p=np.array(shares) / sum(shares)))
    ratio = settings.background_ratio if settings.snr_db is None else 10 ** (-rng.uniform(*settings.snr_db) / 20)
    recipe.update(background=kind, background_ratio=float(ratio))
    if kind in MADE:
        recipe["noise_seed"] = int(rng.integers(2**31))
    elif kind == "babble":
        names = [name for name in pools.voices["Train"] if name not in speakers]
        talkers = rng.choice(len(names), min(int(rng.integers(4, 8)), len(names)), replace=False)
        recipe["background_pieces"] = [_talk(rng, pools.voices["Train"][names[k]], library, settings) for k in talkers]
    else:
        cuts = noises.cut(rng, pools.noises[kind][split], library, settings.samples)
        recipe["background_pieces"] = [[Piece(*cut) for cut in cuts]]
    return recipe
