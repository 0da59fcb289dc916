"""Songs in stems, in the layouts that people have: one list of `Song`s for this workbook's own, MUSDB18-HQ, MoisesDB
and Slakh2100.

    <root>/{train,validation,test}/<song>/{mixture,vocals,drums,bass,other}.wav     a mixture and the target are enough

Waves are float32 mono `(samples,)` in [-1, 1] at the rate asked for; stereo and other rates are converted as they are
read.
"""

import functools
import hashlib
import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from lib import audio, extras
from lib.data.walk import hidden
from lib.runs import place

with extras():
    import yaml

STEMS = ("vocals", "drums", "bass", "other")
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
SR = 22050
APART = 0.002  # s by which a song's files may differ in length: encoders and exports at a block's border
SILENT_DB = -80.0  # dBFS under which a whole stem counts as silent
QUIET_DB = -60.0  # dBFS under which a stretch does not tell one song from another
SHARE = 0.1  # of the songs, for validation (and test) where a data set does not say


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
        lengths = [_length(path) for path in self.files()]
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


# --- layouts


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


# --- checks


def check_disjoint(songs):
    """Raise `SongError` when one song, by name or by what its mixture holds, stands in two splits."""
    seen = {}
    for song in songs:
        for key in (song.name, *_content(song)):
            if key in seen and seen[key].split != song.split:
                raise SongError(
                    f"{song.name} ({song.split}) is {seen[key].name} ({seen[key].split}): the same song in two splits."
                    " Remove it from one."
                )
            seen.setdefault(key, song)


def _content(song):
    """A hash of 2 s of the mixture where it sounds, in a list; an empty list where it is silent at each place tried."""
    seconds = song.seconds()
    for start in (min(5.0, seconds / 2), *(share * seconds for share in (0.3, 0.45, 0.6, 0.75, 0.15, 0.9))):
        wave = song.read("mixture", start=start, seconds=2.0)
        if audio.rms_db(wave) > QUIET_DB:
            return [hashlib.sha1(wave.tobytes()).hexdigest()]
    return []


def heard(songs, target="vocals"):
    """The songs in which `target` sounds at all, and the names of those in which it does not: a score may have no
    bass.
    """
    sounds = [audio.rms_db(song.read(target)) >= SILENT_DB for song in songs]
    return [song for song, there in zip(songs, sounds) if there], [
        song.name for song, there in zip(songs, sounds) if not there
    ]


def check(songs, target="vocals", residual_db=-30.0):
    """Facts of each song, a row each: song, split, seconds, rate, channels, target_db, residual_db; warns of mixtures
    that are not the sum.

    residual_db: what the mixture less all stems leaves, relative to the mixture (NaN where stems are lacking). Raises
    `SongError` for stems
    of unequal length and for a silent mixture or target, naming the files.
    """
    rows, cut = [], []
    for song in songs:
        lengths = {
            path.name if len(paths) == 1 else f"{stem}/{path.name}": _length(path)
            for stem, paths in [*song.stems.items(), *([("mixture", [song.mixture])] if song.mixture else [])]
            for path in paths
        }
        spread = max(lengths.values()) - min(lengths.values())
        if spread > APART:
            told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in lengths.items())
            raise SongError(
                f"{song.name}: its files differ in length ({told}). Export them again from one session, all from the"
                " start."
            )
        if spread:
            longest, rate = max(lengths, key=lengths.get), song.info[0]
            cut.append(f"{song.name} ({longest} by {round(spread * rate)} samples at {rate} Hz)")
        _refuse_cancelling(song, target)
        waves = {stem: song.read(stem) for stem in [*song.stems, *(["mixture"] if song.mixture else [])]}
        mixture = waves.pop("mixture", None) if song.mixture else song.read("mixture")
        for name, wave in (("mixture", mixture), (target, waves[target])):
            if audio.rms_db(wave) < SILENT_DB:
                raise SongError(
                    f"{song.name}: its {name} is silent ({audio.rms_db(wave):.0f} dBFS). Take the song out, or export"
                    " it again."
                )
        whole = set(STEMS) <= set(song.stems) or song.mixture is None
        left = audio.rms_db(mixture - sum(waves.values())) - audio.rms_db(mixture) if whole else np.nan
        rate, frames, channels = song.info
        rows.append(
            dict(
                song=song.name,
                split=song.split,
                seconds=frames / rate,
                rate=rate,
                channels=channels,
                target_db=float(audio.rms_db(waves[target]) - audio.rms_db(mixture)),
                residual_db=float(left),
            )
        )
    table = pd.DataFrame(rows)
    if cut:
        warnings.warn(
            f"{len(cut)} songs have files that differ in length by up to {1000 * APART:.0f} ms, such as {cut[0]}: cut"
            " to the shortest.",
            stacklevel=2,
        )
    if len(odd := table[table["residual_db"] > residual_db]):
        told = ", ".join(f"{row.song} ({row.residual_db:.1f} dB)" for row in odd.head(5).itertuples())
        warnings.warn(
            f"{len(odd)} mixtures are not the sum of their stems; what is left, relative to the mixture: {told}."
            " Mastered mixtures are like this; for training their stems are added up.",
            stacklevel=2,
        )
    return table


@functools.lru_cache(4096)
def _frames(path, changed):
    """(samples, rate) by the header of a file that was last `changed` at that time."""
    try:
        rate, _, samples = audio.facts(path)
    except audio.AudioError as error:
        raise SongError(str(error)) from error
    return samples, rate


def _length(path):
    samples, rate = _frames(path, path.stat().st_mtime_ns if path.is_file() else 0)
    return samples / rate


def _refuse_cancelling(song, target):
    """Raise `SongError` where the channels of the mixture or the target cancel: their mean, which is used, is no
    sound.
    """
    for path in [*([song.mixture] if song.mixture else []), *song.stems[target]]:
        with soundfile.SoundFile(str(path)) as file:
            if file.channels == 1:
                continue
            file.seek(max(0, file.frames // 2 - 15 * file.samplerate))
            wave = file.read(30 * file.samplerate, dtype="float32")
        loudest = float(np.max(audio.rms_db(wave.T)))
        if loudest > SILENT_DB and audio.rms_db(wave.mean(axis=1)) < loudest - audio.CANCEL_DB:
            raise SongError(
                f"{path}: its channels cancel each other, so that their mean is next to silence. Turn the polarity of"
                " one channel around, or export it again."
            )
