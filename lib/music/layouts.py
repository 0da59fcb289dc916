"""Songs in stems, in the layouts that people have: one list of `Song`s for this workbook's own, MUSDB18-HQ, MoisesDB
and Slakh2100.

    <root>/{train,validation,test}/<song>/{mixture,vocals,drums,bass,other}.wav     a mixture and the target are enough
"""

import importlib.util
import json
from pathlib import Path

import numpy as np

from lib import extras
from lib.data.walk import hidden
from lib.music.checks import check_disjoint
from lib.music.songs import STEMS, Song, SongError
from lib.runs import place

with extras():
    import yaml

SPLITS = ("train", "validation", "test")
FOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
LAYOUTS = ("auto", "plain", "musdb18hq", "moisesdb", "slakh2100")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif")
MOISES = {
    "vocals": "vocals",
    "drums": "drums",
    "percussion": "drums",
    "bass": "bass",
}  # all its other stems count as "other"
SHARE = 0.1  # of the songs, for validation (and test) where a data set does not say


def open_songs(root, target="vocals", layout="auto", seed=0):
    """All songs below `root` as a list of `Song`, with splits. layout: `plain`, `musdb18hq`, `moisesdb`, `slakh2100`,
    or `auto`.

    Where a data set names no validation or test songs, a tenth each is drawn by `seed`. Raises `SongError` for no
    songs, an unknown layout,
    a song without the stem `target`, and a song that stands in two splits.
    """
    root = place(root)
    if layout not in LAYOUTS:
        raise SongError(f"unknown layout {layout!r}; known are: {', '.join(LAYOUTS)}.")
    if not root.is_dir():
        raise SongError(
            f"{root}: no such folder. It should hold train/<song>/mixture.wav and {target}.wav, or a data set in its"
            " own layout."
        )
    layout = _guess(root) if layout == "auto" else layout
    songs = {"plain": _plain, "musdb18hq": _plain, "moisesdb": _moisesdb, "slakh2100": _slakh}[layout](root)
    if not songs:
        raise SongError(f"{root}: no songs found in the layout {layout}. Expected {_EXPECTED[layout]}.")
    if lacking := [song.name for song in songs if target not in song.stems]:
        has = sorted({stem for song in songs for stem in song.stems})
        raise SongError(
            f"{root}: {len(lacking)} of {len(songs)} songs have no stem {target!r}, such as {lacking[0]} (stems there:"
            f" {', '.join(has)}). "
            + (
                "Slakh2100 holds no vocals; choose drums, bass or other."
                if layout == "slakh2100"
                else f"Put {target}.wav into its folder, take the song out, or choose another target."
            )
        )
    songs = _with_splits(songs, seed)
    check_disjoint(songs)
    return songs


_EXPECTED = {
    "plain": "{train,validation,test}/<song>/{mixture,vocals,drums,bass,other}.wav",
    "musdb18hq": "{train,test}/<Artist - Title>/{mixture,vocals,drums,bass,other}.wav",
    "moisesdb": "<id>/data.json with <id>/<stem>/<track>.wav",
    "slakh2100": "{train,validation,test}/Track00001/{metadata.yaml,mix.flac,stems/S00.flac}",
}


def _guess(root):
    if next(root.glob("*/*/metadata.yaml"), None):
        return "slakh2100"
    return "moisesdb" if next(root.glob("**/data.json"), None) else "plain"


def _plain(root):
    """Also MUSDB18-HQ, which has the same form and no folder for validation."""
    songs = []
    for folder in sorted(
        path for path in root.glob("*/*") if path.is_dir() and not hidden(path.name) and path.parent.name in FOLDERS
    ):
        files = {
            path.stem: path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in SUFFIXES and not hidden(path.name)
        }
        if files:
            stems = {stem: [files[stem]] for stem in STEMS if stem in files}
            if "mixture" not in files and len(stems) < 2:
                raise SongError(
                    f"{folder}: holds neither mixture.wav nor several stems to add up. Put the mixture beside"
                    f" {', '.join(stems) or 'it'}."
                )
            songs.append(Song(folder.name, FOLDERS[folder.parent.name], stems, files.get("mixture")))
    return songs


def _moisesdb(root):
    songs = []
    for file in sorted(root.glob("**/data.json")):
        about, stems = json.loads(file.read_text(encoding="utf-8")), {}
        for stem in about["stems"]:
            paths = [
                file.parent / stem["stemName"] / f"{track['id']}.{track.get('extension', 'wav')}"
                for track in stem["tracks"]
            ]
            stems.setdefault(MOISES.get(stem["stemName"], "other"), []).extend(path for path in paths if path.is_file())
        songs.append(
            Song(
                f"{about.get('artist', '?')} - {about.get('song', file.parent.name)}",
                "?",
                {name: paths for name, paths in stems.items() if paths},
            )
        )
    return songs


def _slakh(root):
    songs = []
    for file in sorted(root.glob("*/*/metadata.yaml")):
        about, stems = yaml.safe_load(file.read_text(encoding="utf-8")), {}
        for name, stem in (about.get("stems") or {}).items():
            path = next(
                (path for suffix in SUFFIXES if (path := file.parent / "stems" / f"{name}{suffix}").is_file()), None
            )
            if path is not None:  # a few of its stems were never rendered
                kind = "drums" if stem.get("is_drum") else "bass" if stem.get("inst_class") == "Bass" else "other"
                stems.setdefault(kind, []).append(path)
        mixture = next((path for suffix in SUFFIXES if (path := file.parent / f"mix{suffix}").is_file()), None)
        songs.append(Song(file.parent.name, FOLDERS.get(file.parent.parent.name, "?"), stems, mixture))
    return songs


def _with_splits(songs, seed):
    """Splits for what has none: MUSDB18's own 14 validation songs by name, else a tenth of the songs (of train) each,
    by `seed`.
    """
    by_name = _musdb_validation()
    songs = [
        Song(s.name, "validation", s.stems, s.mixture) if s.split == "train" and s.name in by_name else s for s in songs
    ]
    for split, source in (("test", "?"), ("validation", "?"), ("validation", "train")):
        pool = [song for song in songs if song.split == source]
        if any(song.split == split for song in songs) or len(pool) < 3:
            continue
        drawn = {
            pool[k].name
            for k in np.random.default_rng(seed).permutation(len(pool))[: max(1, round(SHARE * len(songs)))]
        }
        songs = [Song(s.name, split, s.stems, s.mixture) if s.split == source and s.name in drawn else s for s in songs]
    return [Song(s.name, "train", s.stems, s.mixture) if s.split == "?" else s for s in songs]


def _musdb_validation():
    """The names that the package musdb lists; read as a file, for importing it wants ffmpeg's programs on the path."""
    found = importlib.util.find_spec("musdb")
    file = Path(found.origin).parent / "configs" / "mus.yaml" if found else None
    return (
        set(yaml.safe_load(file.read_text(encoding="utf-8")).get("validation_tracks", []))
        if file and file.is_file()
        else set()
    )


def by_split(songs):
    """dict split -> its songs. Raises `SongError` where a split has none."""
    parts = {split: [song for song in songs if song.split == split] for split in SPLITS}
    if empty := [split for split, own in parts.items() if not own]:
        raise SongError(
            f"no songs in {' and '.join(empty)}, of {len(songs)} in all. Put at least one, which is in no other split,"
            f" into each of {', '.join(SPLITS)}."
        )
    return parts
