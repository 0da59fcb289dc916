"""Where voices come from: one table for all sources, one row a recording.

Columns of every source: `speaker, path, seconds, source, language, licence, sex` (F, M, C a child, ? unknown). The
committed table of the source `debian` also fixes `split`, and gives `content` (a hash of what is heard) and `origin`
(file in its package). `splits.split_by_speaker` adds `split` to the others.
"""

import shutil
import unicodedata
import warnings

import pandas as pd

from lib import audio
from lib.data import cache_dir, debian as _debian
from lib.data.debian import OWN_SOURCES, VoicesError
from lib.data.walk import sounds
from lib.runs import place

SOURCES = ("auto", "debian", "librispeech", "folder")
SUFFIXES = audio.SUFFIXES
COLUMNS = ["speaker", "path", "seconds", "source", "language", "licence", "sex"]
GIGABYTES = {
    "dev-clean": 0.34,
    "dev-other": 0.31,
    "test-clean": 0.35,
    "test-other": 0.33,
    "train-clean-100": 6.3,
    "train-clean-360": 23,
    "train-other-500": 30,
}


def load(source="auto", root=None, progress=True, **options):
    """The table of voices of `source`: `debian`, `librispeech`, `folder`, or `auto`.

    `auto` is `folder` where a `root` is given, else `debian` where apt is there, else `librispeech`. `root`: the folder
    of one's
    own recordings, or where LibriSpeech lies or is to be put. options: those of the source's function. Raises
    `VoicesError`.
    """
    if source not in SOURCES:
        raise VoicesError(f"unknown source of voices {source!r}; known are {', '.join(SOURCES)}.")
    if source == "auto":
        source = "folder" if root else "debian" if shutil.which("apt-get") or debian_is_cached() else "librispeech"
    if source == "debian":
        return debian(progress, **options)
    if source == "librispeech":
        return librispeech(root, progress=progress, **options)
    if root is None:
        raise VoicesError(
            "the source `folder` needs `root`: a folder that holds one folder of recordings for each speaker."
        )
    return folder(root, **options)


def debian(progress=True, workers=None):
    """Human recordings out of Debian packages, curated and split in `voices_debian.csv`; about 400 MB are fetched on
    first use.
    """
    return _debian.load(progress, workers=workers)


def debian_is_cached():
    """Whether the voices of `debian` are all in the cache, so that no apt is needed."""
    return _debian.table_file().is_file()


def background_music(progress=True):
    """Paths of music to mix in behind speech (16 kHz mono FLAC, CC-BY-SA-3.0), from a Debian package; an empty list
    without apt.
    """
    try:
        return _debian.background_music(progress)
    except VoicesError as error:
        warnings.warn(f"no background music: {error}", stacklevel=2)
        return []


# --- LibriSpeech


def librispeech(root=None, subset="dev-clean", progress=True):
    """Read English from audiobooks (LibriSpeech, Panayotov et al. 2015; CC-BY-4.0), one row an utterance.

    root: the folder that holds `LibriSpeech/<subset>/<speaker>/<chapter>/*.flac` (default: in the cache), downloaded
    through
    torchaudio where it is not there. Raises `VoicesError` when it can neither be found nor downloaded.
    """
    if subset not in GIGABYTES:
        raise VoicesError(f"unknown LibriSpeech subset {subset!r}; known are {', '.join(GIGABYTES)}.")
    base = place(root) if root else cache_dir() / "librispeech"
    found = _subset_folder(base, subset) or _download_librispeech(base, subset, progress)
    sexes = _librispeech_sexes(found.parent / "SPEAKERS.TXT")
    rows = []
    for path in sorted(found.glob("*/*/*.flac")):
        speaker = path.parts[-3]
        rows.append(
            (
                f"librispeech-{speaker}",
                str(path),
                _seconds(path),
                "librispeech",
                "en",
                "CC-BY-4.0",
                sexes.get(speaker, "?"),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _subset_folder(base, subset):
    """The folder of `subset` below `base`, whichever level of the layout `base` is; None where it is not there."""
    for candidate in (base / "LibriSpeech" / subset, base / subset, base):
        if next(candidate.glob("*/*/*.flac"), None) and candidate.name == subset:
            return candidate
    return None


def _download_librispeech(base, subset, progress):
    """Download and unpack into a folder of its own, then move into place: an interrupted download leaves no half of a
    subset.
    """
    from torchaudio.datasets import LIBRISPEECH

    import lib  # noqa: F401  (makes torchaudio importable)

    if progress:
        print(f"LibriSpeech {subset} is not in {base}; downloading {GIGABYTES[subset]} GB.")
    part = base / f".part-{subset}"
    part.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part / "LibriSpeech", ignore_errors=True)
    try:
        LIBRISPEECH(str(part), url=subset, download=True)
    except (OSError, RuntimeError) as error:  # no network, no space, a wrong checksum
        raise VoicesError(
            f"LibriSpeech {subset} is not in {base} and could not be downloaded ({error}). Run again with a network; or"
            f" download {subset}.tar.gz by hand (openslr.org/12), unpack it and give its folder as `root`; or"
            f" {OWN_SOURCES}."
        ) from error
    target = base / "LibriSpeech" / subset
    target.parent.mkdir(parents=True, exist_ok=True)
    (part / "LibriSpeech" / subset).replace(target)
    for extra in (part / "LibriSpeech").glob("*.TXT"):
        extra.replace(target.parent / extra.name)
    shutil.rmtree(part, ignore_errors=True)
    return target


def _librispeech_sexes(path):
    """speaker -> F or M from LibriSpeech's SPEAKERS.TXT (`id | sex | subset | ...`, comments after ;); empty where it
    is not there.
    """
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = [[field.strip() for field in line.split("|")] for line in lines if not line.startswith(";")]
    return {field[0]: field[1] for field in fields if len(field) > 2}


# --- one's own recordings


def folder(root, skip_bad=False, language="?", licence="?"):
    """One's own recordings: `root/speaker_name/*.{wav,flac,mp3,ogg,m4a,opus,...}`, any rate and channels, one row a
    file. The names of people are composed (NFC).

    Files are decoded when they are used; here their headers are read. Raises `VoicesError` naming each file that is
    empty or no
    audio; `skip_bad=True` leaves those out with a warning.
    """
    root = place(root)
    if not root.is_dir():
        raise VoicesError(f"{root}: no such folder. It should hold one folder of recordings for each speaker.")
    rows, bad, loose = [], [], []
    for path in sounds(root, error=VoicesError).files:
        parts = path.relative_to(root).parts
        if len(parts) < 2:
            loose.append(path.name)
            continue
        try:
            rate, _, samples = audio.facts(path)
        except audio.AudioError as error:
            bad.append(str(error))
            continue
        speaker = unicodedata.normalize("NFC", parts[0])
        rows.append((speaker, str(path), samples / rate, "folder", language, licence, "?"))
    if bad and not skip_bad:
        raise VoicesError(
            f"{' '.join(bad[:10])}{' ...' * (len(bad) > 10)} ({len(bad)} files.) Remove or replace them, or load with"
            " skip_bad=True."
        )
    if bad:
        warnings.warn(f"skipped {len(bad)} recordings: {'; '.join(bad[:10])}", stacklevel=2)
    if loose and rows:
        warnings.warn(
            f"{root}: passed over {len(loose)} recordings that lie in no folder of a speaker, such as {loose[0]}.",
            stacklevel=2,
        )
    if not rows:
        raise VoicesError(
            f"{root}: no recordings found. Expected speaker_name/*.{{wav,flac,mp3,ogg,m4a}}, one folder a speaker."
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _seconds(path):
    rate, _, samples = audio.facts(path)
    return samples / rate
