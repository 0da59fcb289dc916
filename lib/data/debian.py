"""Human recordings that Debian packages carry: fetched, unpacked, decoded to 16 kHz mono FLAC, trimmed of silence; in
the cache.

`voices_debian.csv` beside this file says which files of which package are whose voice (`data/README.md`: how it was
made). Waves are float32 `(samples,)` in [-1, 1] at 16 kHz.
"""

import fnmatch
import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import time
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir
from lib.data.containers import CONTAINERS, inside

TABLE = Path(__file__).with_name("voices_debian.csv")
ACTED = Path(__file__).with_name(
    "voices_acted.csv"
)  # actors in two games: pretraining hears them too, nothing else does
MUSIC_PACKAGE = "asterisk-moh-opsound-g722"
DECODE_VERSION = 2  # raise when trimming or decoding changes, so that caches made before are not used
LEFT_OUT = "-"  # stands for the speaker in the committed table where a file is to be left out
SR = 16000
COLUMNS = ["speaker", "path", "seconds", "source", "language", "licence", "sex", "split", "content", "origin"]
OWN_SOURCES = (
    "use your own recordings (source `folder`: speaker_name/*.wav) or a ready-made Dataset/ folder; "
    "data/README.md shows the layouts"
)
OTHER_SOURCES = f"use the source `librispeech` (downloaded, or a local copy), or {OWN_SOURCES}"


class VoicesError(RuntimeError):
    """Voices cannot be had from a source; the message says why and what to do."""


# --- one recording


def frame_levels(wave, frame=320):
    """Level in dBFS of each 20 ms frame of `wave`, `(frames,)`; of the first difference, which is blind to hum and DC
    offset.
    """
    steps = np.diff(wave, prepend=wave[:1]).astype(np.float64)
    count = len(steps) // frame
    return 10 * np.log10(np.square(steps[: count * frame]).reshape(count, frame).mean(axis=1) + 1e-12)


def trim(wave, below=35.0, floor=-75.0, pad=5, longest_pause=25, frame=320):
    """Cut silence from `wave` `(samples,)` at 16 kHz: at both ends, and inside where a pause lasts over `longest_pause`
    frames.

    A 20 ms frame is speech when it lies less than `below` dB under the loud frames (95th percentile) and above `floor`
    dBFS. `pad` frames on both sides of speech are kept, so that soft consonants stay. Returns an empty wave where
    nothing is speech.
    """
    levels = frame_levels(wave, frame)
    if not len(levels):
        return wave[:0]
    speech = levels > max(np.percentile(levels, 95) - below, floor)
    if speech.sum() < 5:  # a tenth of a second: a click, or silence
        return wave[:0]
    kept = _widened(speech, pad)
    pauses = ~kept
    for start, end in _runs(~kept):
        inside = start > 0 and end < len(kept)
        pauses[start:end] = not inside or end - start + 2 * pad > longest_pause
    return np.concatenate([wave[start * frame : end * frame] for start, end in _runs(~pauses)])


def _widened(mask, pad):
    """`mask` with `pad` more frames set on both sides of each run."""
    return np.convolve(mask, np.ones(2 * pad + 1), mode="full")[pad : len(mask) + pad] > 0.5


def _runs(mask):
    """(start, end) of each run of True in `mask`."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)))


def content_hash(wave):
    """A short name for what is heard in a recording: equal for equal 16-bit samples, whatever the file is called."""
    return hashlib.sha1(np.round(np.asarray(wave) * 32767).astype("<i2").tobytes()).hexdigest()[:16]


def decode(source, out):
    """Decode the file `source` to the FLAC `out`.

    Returns (seconds, content hash), or (0, reason) where it holds no speech.
    """
    try:
        wave = trim(audio.read(source, SR))
    except audio.AudioError as error:
        return 0.0, type(error).__name__ + ": " + str(error).split(": ", 1)[-1]
    if not len(wave):
        return 0.0, "silent"
    wave = wave / max(1.0, np.abs(wave).max())  # lossy codecs overshoot full scale by a little
    audio.write(out, wave, SR)
    return len(wave) / SR, content_hash(wave)


# --- one package


def fetch(package, folder):
    """Path of the package's .deb in `folder`, downloaded with `apt-get download` (no root needed) where it is not there
    yet.
    """
    there = sorted(Path(folder).glob(f"{package}_*.deb"))
    if there:
        return there[-1]
    if not shutil.which("apt-get"):
        raise VoicesError(
            f"the source `debian` needs apt-get, which this system does not have. Instead, {OTHER_SOURCES}."
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        own = _own_lists(Path(folder).parent / "apt")
        for options, update in (((), False), (own, False), (own, True)):  # the system's lists may be missing or old
            if update:
                _apt_get([*own, "update"], part)
            done = _apt_get([*options, "download", package], part)
            if not done.returncode:
                break
        found = list(Path(part).glob("*.deb"))
        if done.returncode or not found:
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("E:")] or [
                "it gave no reason"
            ]
            raise VoicesError(
                f"`apt-get download {package}` failed: {said[0]}\nIf the network failed, run again: what is already"
                " here is kept. If the package is unknown, this system's package sources lack it. Otherwise,"
                f" {OTHER_SOURCES}."
            )
        return Path(shutil.move(found[0], Path(folder) / found[0].name))


def _apt_get(arguments, folder):
    return subprocess.run(["apt-get", *arguments], cwd=folder, capture_output=True, text=True)


def _own_lists(folder):
    """Options that make apt-get keep its package lists in `folder`, where no root is needed to update them."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]


@contextmanager
def open_deb(deb):
    """The files inside a .deb as a tar stream; through dpkg-deb where it is there (it knows every compression), else by
    itself.
    """
    if shutil.which("dpkg-deb"):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield tar
            process.stdout.read()  # the padding after the archive's end, so that dpkg-deb does not die of a closed pipe
        return
    with open(deb, "rb") as file:  # an ar archive: 8 bytes of magic, then members behind headers of 60 bytes
        file.seek(8)
        while header := file.read(60):
            if header[:16].startswith(b"data.tar"):
                with tarfile.open(fileobj=file, mode="r|*") as tar:
                    yield tar
                return
            size = int(header[48:58])
            file.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("no data.tar inside")


def unpack(deb, patterns, folder):
    """Write the files of `deb` that match one of `patterns` into `folder`, one at a time.

    Yields (number of the first pattern that matches, name inside the package, path); recordings inside a container
    (`lib.data.containers`) are files of their own. Raises `VoicesError` for a damaged .deb.
    """
    regexes = [re.compile(fnmatch.translate(pattern)) for pattern in patterns]

    @functools.cache
    def first(name):
        return next((row for row, regex in enumerate(regexes) if regex.match(name)), None)

    try:
        with open_deb(deb) as tar:
            for number, member in enumerate(tar):
                outer = "/" + member.name.removeprefix("./")
                if not member.isfile() or (first(outer) is None and not outer.endswith(CONTAINERS)):
                    continue
                for inner, (name, data) in enumerate(inside(outer, tar.extractfile(member).read())):
                    if (row := first(name)) is not None:
                        path = Path(folder) / f"{number}-{inner}{PurePosixPath(name).suffix}"
                        path.write_bytes(data)
                        yield row, name, path
    except (tarfile.TarError, zipfile.BadZipFile, struct.error, EOFError, ValueError) as error:
        raise VoicesError(f"{deb}: the package is damaged ({error}). Delete this file and run again.") from error


def package_key(rows):
    """A short hash of all that decides what is decoded from a package: its patterns, its labels, the decoder's
    version.
    """
    text = rows[["speaker", "pattern"]].to_csv(index=False, lineterminator="\n") + str(DECODE_VERSION)
    return hashlib.sha1(text.encode()).hexdigest()[:10]


def package_folder(package, rows):
    """Where the decoded recordings of `package` lie, with their table `recordings.csv`."""
    return cache_dir() / "debian" / f"{package}-{package_key(rows)}"


def decode_package(package, rows, pool):
    """Fetch and decode one package on the executor `pool`; returns its table: row, path in its folder, seconds,
    content, origin.

    The table is written last: a second call reads it, and after an interruption the package starts anew.
    """
    folder = package_folder(package, rows)
    marker = folder / "recordings.csv"
    if not marker.is_file():
        deb = fetch(package, cache_dir() / "debian" / "packages")
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=deb.parent) as unpacked:
            jobs, speakers = [], rows["speaker"].tolist()
            for row, name, path in unpack(deb, rows["pattern"], unpacked):
                if (speaker := speakers[row]) != LEFT_OUT:
                    file = f"{speaker}/{flac_name(name)}"
                    jobs.append((row, name, file, pool.submit(decode, path, folder / file)))
            table = pd.DataFrame(
                [(row, file, *job.result(), name) for row, name, file, job in jobs],
                columns=["row", "path", "seconds", "content", "origin"],
            )
        write_table(table.sort_values("origin"), marker)
    return pd.read_csv(marker, dtype={"content": str})


def flac_name(origin):
    """The name of the decoded file: readable, plain ASCII, and another one for each path inside the package."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "", PurePosixPath(origin).stem)[:40]
    return f"{readable}-{hashlib.sha1(origin.encode()).hexdigest()[:8]}.flac"


def write_table(table, path):
    """Write `table` as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    table.to_csv(part, index=False)
    part.replace(path)


# --- all of them


def curated(path=TABLE):
    """The committed table: speaker, package, pattern, language, sex, licence, split, note. The first row that matches a
    file has it.
    """
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def table_file(table=TABLE):
    """The file of the cache with all voices of the committed `table`; another one for another table or decoder."""
    text = curated(table).to_csv(index=False, lineterminator="\n") + str(DECODE_VERSION)
    return cache_dir() / "debian" / f"voices-{hashlib.sha1(text.encode()).hexdigest()[:10]}.csv"


def load(progress=True, table=TABLE, workers=None):
    """The voices of the committed `table` as a DataFrame (`COLUMNS`), fetched and decoded where they are not yet in the
    cache.

    Raises `VoicesError` when a package is neither in the cache nor to be downloaded.
    """
    rows, marker = curated(table), table_file(table)
    if not marker.is_file() or _forget_incomplete(rows, _read(marker)):
        write_table(_collect(rows, progress, workers), marker)
    return _read(marker)


def _read(marker):
    voices = pd.read_csv(marker, dtype={"content": str}, keep_default_na=False)
    return voices.assign(path=[str(marker.parent / path) for path in voices["path"]])


def _forget_incomplete(rows, voices):
    """Remove the tables of packages of which a recording was deleted from the cache, so that they are decoded again.

    True if any.
    """
    gone = {Path(path).parents[1] for path in voices["path"] if not os.path.isfile(path)}
    for folder in gone:
        (folder / "recordings.csv").unlink(missing_ok=True)
    return bool(gone)


def _collect(rows, progress, workers):
    """Decode every package and join what was found with what the committed table says; one row a recording, no content
    twice.
    """
    parts = []
    _sweep(cache_dir() / "debian")
    with (
        ProcessPoolExecutor(workers) as pool,
        tqdm(rows["package"].unique(), unit="package", disable=not progress) as bar,
    ):
        for package in bar:
            bar.set_description(f"voices, {package}")
            own = rows[rows["package"] == package].reset_index(drop=True)
            found = decode_package(package, own, pool)
            if missing := sorted(set(own["speaker"]) - {LEFT_OUT} - set(own["speaker"].iloc[found["row"]])):
                said = f"{package}: this version of the package has no recording of {', '.join(missing)}."
                warnings.warn(said, stacklevel=2)
            known = own.loc[found["row"], ["speaker", "language", "licence", "sex", "split"]].reset_index(drop=True)
            parts.append(
                pd.concat([found, known], axis=1).assign(path=package_folder(package, own).name + "/" + found["path"])
            )
    voices = pd.concat(parts, ignore_index=True).assign(source="debian")
    return voices[voices["seconds"] > 0].drop_duplicates("content")[COLUMNS]


def _sweep(folder):
    """Remove what killed processes left half done in `folder`: hidden files and folders that are over an hour old."""
    for left in list(folder.rglob(".*")):
        if left.name.startswith((".part-", ".unpacked-")) and time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def background_music(progress=True):
    """Paths of the music on hold (16 kHz mono FLAC, about 16 minutes in 5 pieces), fetched and decoded on the first
    call.
    """
    rows = pd.DataFrame([dict(speaker="music", pattern="*.g722")])
    with ProcessPoolExecutor() as pool:
        found = decode_package(MUSIC_PACKAGE, rows, pool)
    return [str(package_folder(MUSIC_PACKAGE, rows) / path) for path in found.loc[found["seconds"] > 0, "path"]]
