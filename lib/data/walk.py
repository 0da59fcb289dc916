"""One walk through a folder that a person brought: every recording in it, and what was passed over and why."""

import os
import unicodedata
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from lib import audio

SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"}


class Walk(NamedTuple):
    """What a walk found: `files` in order of name, and `passed`, each other name with the reason it was passed over."""

    files: list
    passed: list


def sounds(folder, suffixes=audio.SUFFIXES, below=True, error=audio.AudioError, say=True):
    """The recordings in `folder`, and where `below` in the folders in it too, as a `Walk`.

    Links are followed. Hidden and system names are passed over without a word; what has another suffix is counted and
    said where `say`. Raises `error`, naming it, for a link that leads nowhere, and for a folder that is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise error(f"{folder}: no such folder. Check the path and its spelling.")
    files, passed, seen = [], [], set()
    _look(folder, tuple(suffixes), below, error, files, passed, seen)
    found = Walk(sorted(files, key=lambda path: unicodedata.normalize("NFC", str(path))), passed)
    if say:
        tell(folder, found)
    return found


def hidden(name):
    """Whether a name is the system's and not the user's: hidden, a Mac's shadow, a cache of thumbnails."""
    return name.startswith((".", "~$")) or name.lower() in SYSTEM


def _look(folder, suffixes, below, error, files, passed, seen):
    real = os.path.realpath(folder)
    if real in seen:  # a link back to a folder above
        return
    seen.add(real)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if audio.printable(entry.name) != entry.name:
            raise error(
                f"{audio.printable(path)}: a name in another encoding than this system's, which no table can hold."
                " Rename it; a whole folder with `convmv -r --notest -f shift-jis -t utf-8 FOLDER`, or `-f macroman`."
            )
        if hidden(entry.name):
            passed.append((path, "hidden or the system's"))
        elif entry.is_symlink() and not path.exists():
            raise error(
                f"{path}: a link to {os.readlink(path)}, which is not there. Copy the file itself, or remove it."
            )
        elif entry.is_dir():
            if below:
                _look(path, suffixes, below, error, files, passed, seen)
            else:
                passed.append((path, "a folder"))
        elif path.suffix.lower() in suffixes:
            files.append(path)
        else:
            passed.append((path, f"no recording by its suffix {path.suffix or '(none)'}"))


def tell(folder, found):
    """Warn of what was passed over, by reason, where there is more than hidden names."""
    reasons = Counter(reason for _, reason in found.passed)
    if set(reasons) - {"hidden or the system's"}:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        warnings.warn(
            f"{folder}: {len(found.files)} recordings; passed over {len(found.passed)} other names: {told}.",
            stacklevel=4,
        )
