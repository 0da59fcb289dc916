"""Recorded music without voices that Debian packages carry, to train with: dense, distorted, mixed by people.

None of it is a stem of a song here: it is accompaniment, in training alone. Files are 16-bit wav at 22,050 Hz, stereo.
"""

import io
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir, debian
from lib.music.songs import Song

SR = 22050
PACKAGES = {  # package: (what of it is taken, licence, by whom)
    "fretsonfire-songs-sectoid": (("song.ogg", "guitar.ogg"), "MIT", "Carlos Viola Iborra"),
    "fretsonfire-songs-muldjord": (("guitar.ogg",), "CC-BY-SA-3.0", "El Senator of Muldjord"),
}


def load(progress=True):
    """A list of `Song`s with the one stem `other`: rock bands and their guitars from `PACKAGES` (fetched on first use,
    58 MB), and the music on hold of `lib.data.debian`. Raises `VoicesError` where a package cannot be had.
    """
    folder = cache_dir() / "music"
    for package, (wanted, *_) in tqdm(PACKAGES.items(), desc="recorded music", disable=not progress):
        if not (folder / package / "complete").is_file():
            _unpack(debian.fetch(package, cache_dir() / "debian" / "packages"), folder / package, wanted)
    paths = [path for package in PACKAGES for path in sorted((folder / package).glob("*.wav"))]
    paths += [Path(path) for path in debian.background_music(progress)]
    return [Song(path.stem, "train", {"other": [path]}) for path in paths]


def _unpack(deb, folder, wanted):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with debian.open_deb(deb) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.isfile() and name.name in wanted:
                wave, rate = soundfile.read(io.BytesIO(tar.extractfile(member).read()), dtype="float32", always_2d=True)
                wave = np.stack([audio.resample(channel, rate, SR) for channel in wave.T[:2]], axis=1)
                wave = np.clip(wave, -1, 1 - 2**-15)
                soundfile.write(folder / f"{name.parent.name}_{name.stem}.wav", wave, SR, subtype="PCM_16")
    (folder / "complete").touch()
