"""Complete songs as scores (General MIDI) that Debian packages carry: found, read, compared, split.

A score is a file. Whoever brings their own `.mid` files gives their folder as `root`. `lib.music.playing` plays them.
"""

import functools
import hashlib
import struct
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import extras
from lib.data import cache_dir, debian
from lib.runs import place, write_text

with extras():
    import mido

PACKAGES = {
    "openttd-openmsx": "GPL-2",
    "freedoom": "BSD-3-Clause",
}  # 31 songs of a railway game, and those in the WAD files of a shooter
DRUM_CHANNEL = 9  # General MIDI's tenth
BASS = range(32, 40)  # General MIDI's programs for bass
PHRASE = 5  # steps in pitch that make a phrase when scores are compared
FEWEST = 30  # phrases below which a score says too little to be compared
FACTS_VERSION = 1  # raise when what is read out of scores changes
ALIKE = 0.2  # share of the shorter score's phrases that another has, from which on the two count as one


class ScoreError(ValueError):
    """Scores or the SoundFont cannot be had or used; the message says which and what to do."""


# --- where scores come from


def load(root=None, least_seconds=40.0, least_notes=40):
    """A table with a row a score that has drums and something else to play: name, path, seconds, drums, bass, other,
    group.

    root: a folder of `.mid` files; default: the packages, fetched on first use (16 MB, no root needed). The counts are
    of notes. Scores
    with one `group` share phrases and belong into one split. Raises `ScoreError`.
    """
    paths = sorted(place(root).rglob("*.mid")) if root else _from_packages()
    if root and not paths:
        raise ScoreError(
            f"{root}: no .mid file here or below. Give the folder of your MIDI songs, or none for those of the"
            " packages."
        )
    key = hashlib.sha256(
        repr([FACTS_VERSION, [(str(path), path.stat().st_size) for path in paths]]).encode()
    ).hexdigest()[:10]
    kept = cache_dir() / "midi" / f"scores-{key}.csv"
    if not kept.is_file():  # parsing them all takes some 20 s
        facts = [_facts(read(path)) for path in tqdm(paths, desc="reading scores")]
        table = pd.DataFrame(
            [
                {"name": path.stem, "path": str(path), "seconds": seconds, **notes}
                for path, (notes, _, seconds) in zip(paths, facts)
            ]
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, table.assign(group=groups([phrases for _, phrases, _ in facts])).to_csv(index=False))
    table = pd.read_csv(kept)
    table = table[
        (table["seconds"] >= least_seconds) & (table["drums"] >= least_notes) & (table["other"] >= least_notes)
    ].reset_index(drop=True)
    if not len(table):
        raise ScoreError(
            f"none of {len(paths)} scores lasts {least_seconds:g} s and has {least_notes} notes of drums and of others."
            " Bring other songs."
        )
    return table


def _from_packages():
    folder = cache_dir() / "midi"
    for package in PACKAGES:
        if not (folder / package / "complete").is_file():
            try:
                _unpack(debian.fetch(package, cache_dir() / "debian" / "packages"), folder / package)
            except debian.VoicesError as error:
                raise ScoreError(
                    f"scores come with the Debian package {package}, which cannot be had: {str(error).splitlines()[0]}"
                    " Give a folder of your own .mid files (parameter midi_root), or songs in stems (data/README.md"
                    " shows the layouts)."
                ) from error
    return sorted(path for package in PACKAGES for path in (folder / package).glob("*.mid"))


def _unpack(deb, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with debian.open_deb(deb) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.isfile() and name.suffix in (".mid", ".wad"):
                content = tar.extractfile(member).read()
                found = (
                    {name.stem: content}
                    if name.suffix == ".mid"
                    else {f"{name.stem}_{lump}": data for lump, data in wad_songs(content).items()}
                )
                for song, data in found.items():
                    (folder / f"{song}.mid").write_bytes(data)
    (folder / "complete").touch()


def wad_songs(content):
    """The songs in MIDI form inside a WAD file, dict name -> bytes.

    A WAD is a list of named lumps; those called D_... are music.
    """
    count, directory = struct.unpack_from("<ii", content, 4)
    songs = {}
    for entry in range(count):
        start, size, name = struct.unpack_from("<ii8s", content, directory + 16 * entry)
        if name.startswith(b"D_") and content[start : start + 4] == b"MThd":
            songs[name.rstrip(b"\0").decode("ascii").lower()] = content[start : start + size]
    return songs


@functools.lru_cache(4)
def read(path):
    """The score in a MIDI file, not to be changed. Raises `ScoreError`, naming it, when it is none."""
    try:
        return mido.MidiFile(str(path), clip=True)
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise ScoreError(
            f"{path}: not a MIDI file that can be read ({type(error).__name__}: {error}). Remove or replace it."
        ) from error


def merged(score):
    """All messages of a score in the order of their time."""
    return mido.merge_tracks(score.tracks, skip_checks=True)


def stem_of(channel, program):
    return "drums" if channel == DRUM_CHANNEL else "bass" if program in BASS else "other"


def _facts(score):
    """({stem: notes}, phrases, seconds) of a score. A phrase is some steps in pitch in a row in one channel, so blind
    to key and tempo.
    """
    notes, programs, melodies = dict.fromkeys(("drums", "bass", "other"), 0), {}, {}
    for message in merged(score):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity:
            notes[stem_of(message.channel, programs.get(message.channel, 0))] += 1
            if message.channel != DRUM_CHANNEL:
                melodies.setdefault(message.channel, []).append(message.note)
    steps = [np.diff(melody) for melody in melodies.values()]
    phrases = {
        tuple(part[k : k + PHRASE])
        for part in steps
        for k in range(len(part) - PHRASE + 1)
        if len(set(part[k : k + PHRASE])) > 2
    }
    return notes, phrases, score.length


def groups(phrases, alike=ALIKE):
    """A number for each score, `(scores,)`: equal where two share `alike` or more of the phrases of the one that has
    fewer.
    """
    number = list(range(len(phrases)))
    for one in range(len(phrases)):
        for other in range(one):
            fewer = min(len(phrases[one]), len(phrases[other]))
            if fewer >= FEWEST and len(phrases[one] & phrases[other]) >= alike * fewer and number[one] != number[other]:
                number = [number[other] if value == number[one] else value for value in number]
    return number


def split(table, seed=0, validation=8, test=12):
    """`table` with a column `split` (train, validation, test): whole groups, drawn by `seed`, until each has its number
    of scores.
    """
    rng = np.random.default_rng(seed)
    wanted, chosen = {"test": test, "validation": validation}, {}
    for group in rng.permutation(table["group"].unique()):
        size = int((table["group"] == group).sum())
        place = next((name for name, left in wanted.items() if 0 < size <= left), "train")
        chosen[group] = place
        wanted[place] = wanted.get(place, 0) - size
    return table.assign(split=table["group"].map(chosen))
