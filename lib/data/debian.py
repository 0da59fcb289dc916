"""Human recordings that Debian packages carry: fetch, unpack, decode to 16 kHz mono FLAC, trim silence; all in the cache.

`voices_debian.csv` beside this file says which files of which package are whose voice (`data/README.md`: how it was made).
Waves are float32 `(samples,)` in [-1, 1] at 16 kHz.
"""
import fnmatch
import hashlib
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir

TABLE = Path(__file__).with_name("voices_debian.csv")
MUSIC_PACKAGE = "asterisk-moh-opsound-g722"
DECODE_VERSION = 1  # raise when trimming or decoding changes, so that older caches are made anew
SR = 16000
COLUMNS = ["speaker", "path", "seconds", "source", "language", "licence", "sex", "split", "content", "origin"]


class VoicesError(RuntimeError):
    """Voices cannot be had from a source; the message says why and what to do."""


# --- one recording -------------------------------------------------------------------------------------------------------

def frame_levels(wave, frame=320):
    """Level of each 20 ms frame of `wave` in dBFS, `(frames,)`, of the first difference: blind to hum and DC offset."""
    edges = np.diff(wave, prepend=wave[:1])
    count = len(edges) // frame
    power = np.square(edges[: count * frame].astype(np.float64)).reshape(count, frame).mean(axis=1)
    return 10 * np.log10(power + 1e-12)


def trim(wave, below=35.0, floor=-75.0, pad=5, longest_pause=25, frame=320):
    """Cut silence from `wave` `(samples,)` at 16 kHz: at both ends, and inside where a pause is over 0.5 s.

    A 20 ms frame is speech when it lies less than `below` dB under the loud frames (95th percentile) and above `floor` dBFS.
    `pad` frames are kept on both sides of speech, so that soft consonants stay. Returns an empty wave for silence.
    """
    levels = frame_levels(wave, frame)
    if not len(levels):
        return wave[:0]
    active = levels > max(np.percentile(levels, 95) - below, floor)
    if active.sum() < 5:
        return wave[:0]
    active = np.convolve(active, np.ones(2 * pad + 1), mode="same") > 0
    starts = np.flatnonzero(np.diff(active.astype(int), prepend=0) == 1)
    ends = np.flatnonzero(np.diff(active.astype(int), append=0) == -1) + 1
    kept, first = [], starts[0]
    for end, following in zip(ends, np.append(starts[1:], len(levels) + longest_pause)):
        if following - end >= longest_pause - 2 * pad or end == ends[-1]:
            kept.append(wave[first * frame: end * frame])
            first = following
    return np.concatenate(kept)


def content_hash(wave):
    """A short name for the content of a trimmed recording: equal for equal 16-bit samples, whatever the file is called."""
    return hashlib.sha1(np.round(np.asarray(wave) * 32767).astype("<i2").tobytes()).hexdigest()[:16]


def decode(task):
    """Decode one recording: `task` is (file, flac to write). Returns (seconds, content hash), or (0, reason) if it is unusable."""
    source, out = task
    try:
        wave = trim(audio.read(source, SR))
    except audio.AudioError as error:
        return 0.0, str(error)
    if not len(wave):
        return 0.0, "silent"
    wave = wave / max(1.0, np.abs(wave).max())  # lossy codecs overshoot full scale by a little
    audio.write(out, wave, SR)
    return len(wave) / SR, content_hash(wave)


# --- one package ---------------------------------------------------------------------------------------------------------

def fetch(package, folder):
    """Path of the package's .deb in `folder`, downloaded with `apt-get download` (no root needed) where it is not there yet."""
    there = sorted(Path(folder).glob(f"{package}_*.deb"))
    if there:
        return there[-1]
    if not shutil.which("apt-get"):
        raise VoicesError(
            "the source `debian` needs apt-get, which this system does not have. Use the source `librispeech`, "
            "your own recordings (source `folder`: speaker_name/*.wav) or a ready-made Dataset/ folder (data/README.md)."
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        done = subprocess.run(["apt-get", "download", package], cwd=part, capture_output=True, text=True)
        found = list(Path(part).glob("*.deb"))
        if done.returncode or not found:
            reason = (done.stderr.strip() or done.stdout.strip() or "apt-get gave no reason").splitlines()[-1]
            raise VoicesError(
                f"`apt-get download {package}` failed: {reason}\nWhere the package is not known, run `apt-get update` as root once; "
                "where the network failed, run again: what is already there is kept. Without network use the source "
                "`librispeech` with a local copy, `folder`, or a ready-made Dataset/ folder (data/README.md)."
            )
        target = Path(folder) / found[0].name
        found[0].replace(target)
    return target


def unpack(deb, patterns, folder):
    """Unpack those files of a .deb that match `patterns` into `folder`. Yields (index of the first matching pattern, name, path)."""
    regexes = [re.compile(fnmatch.translate(pattern)) for pattern in patterns]
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True, capture_output=True)
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        name = "/" + path.relative_to(folder).as_posix()
        row = next((index for index, regex in enumerate(regexes) if regex.match(name)), None)
        if row is not None:
            yield row, name, path


def package_key(rows):
    """A short hash of everything that decides what is decoded from a package: its patterns, labels and the decoder's version."""
    text = rows[["speaker", "pattern"]].to_csv(index=False) + str(DECODE_VERSION)
    return hashlib.sha1(text.encode()).hexdigest()[:10]


def decode_package(package, rows, progress=True, workers=None):
    """Fetch and decode the recordings of one package; returns its table (row, path, seconds, content, origin).

    The table is kept beside the recordings and written last: a second call reads it, an interrupted one starts this package anew.
    """
    folder = cache_dir() / "debian" / f"{package}-{package_key(rows)}"
    marker = folder / "recordings.csv"
    if marker.is_file():
        return pd.read_csv(marker, dtype={"content": str})
    deb = fetch(package, cache_dir() / "debian" / "packages")
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=deb.parent) as unpacked:
        files = [item for item in unpack(deb, rows["pattern"], unpacked) if rows["speaker"].iloc[item[0]] != "-"]
        outs = [folder / rows["speaker"].iloc[row] / f"{number:05d}.flac" for number, (row, _, _) in enumerate(files)]
        with ProcessPoolExecutor(workers) as pool:
            results = pool.map(decode, [(path, out) for (_, _, path), out in zip(files, outs)], chunksize=16)
            results = list(tqdm(results, total=len(files), desc=package, unit="rec", disable=not progress, leave=False))
    table = pd.DataFrame(
        [dict(row=row, path=out.relative_to(folder).as_posix(), seconds=seconds, content=content, origin=name)
         for (row, name, _), out, (seconds, content) in zip(files, outs, results)]
    )
    write_table(table, marker)
    return table


def write_table(table, path):
    """Write `table` as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    table.to_csv(part, index=False)
    part.replace(path)


# --- all of them ---------------------------------------------------------------------------------------------------------

def curated(path=TABLE):
    """The committed table: speaker, package, pattern, language, sex, licence, split, note. The first matching row takes a file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def load(progress=True, table=TABLE, workers=None):
    """The voices of the committed table as a DataFrame (`COLUMNS`), fetched and decoded where they are not yet in the cache.

    Raises `VoicesError` when a package can neither be found in the cache nor downloaded.
    """
    rows = curated(table)
    key = hashlib.sha1((Path(table).read_text(encoding="utf-8") + str(DECODE_VERSION)).encode()).hexdigest()[:10]
    marker = cache_dir() / "debian" / f"voices-{key}.csv"
    if not marker.is_file():
        write_table(_collect(rows, progress, workers), marker)
    voices = pd.read_csv(marker, dtype={"content": str}, keep_default_na=False)
    voices["path"] = [str(marker.parent / path) for path in voices["path"]]
    return voices


def _collect(rows, progress, workers):
    """Decode every package and join what was found with what the committed table says; one row a recording, no content twice."""
    parts = []
    for package in tqdm(rows["package"].unique(), desc="packages of voices", unit="package", disable=not progress):
        own = rows[rows["package"] == package].reset_index(drop=True)
        found = decode_package(package, own, progress, workers)
        found["path"] = f"{package}-{package_key(own)}/" + found["path"]
        known = own.loc[found["row"], ["speaker", "language", "licence", "sex", "split"]].reset_index(drop=True)
        parts.append(pd.concat([found, known], axis=1))
    voices = pd.concat(parts, ignore_index=True)
    voices = voices[voices["seconds"] > 0].drop_duplicates("content")
    return voices.assign(source="debian")[COLUMNS].reset_index(drop=True)


def background_music(progress=True):
    """Paths of the music on hold (16 kHz mono FLAC, about 16 minutes in 5 pieces), fetched and decoded on the first call."""
    rows = pd.DataFrame([dict(speaker="music", pattern="*.g722")])
    found = decode_package(MUSIC_PACKAGE, rows, progress)
    folder = cache_dir() / "debian" / f"{MUSIC_PACKAGE}-{package_key(rows)}"
    return [str(folder / path) for path in found.loc[found["seconds"] > 0, "path"]]
