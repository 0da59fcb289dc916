"""Mixtures in a few large files instead of three small ones each, for data that outgrows a folder of files.

    Dataset/Train_Dataset/shards/{index.csv, 00000.tar, 00001.tar, ...}

A shard is a plain tar of `000001.mix.wav, 000001.clean.wav, 000001.enrollment.wav, 000002...` (the layout that
webdataset reads too); index.csv holds where each file lies, so that reading stays random-access. `python -m
lib.data.shards Dataset Train` packs a split; `lib.data.dataset.open_dataset` then reads the shards. `--measure` says
what they bring on this disk.
"""

import argparse
import io
import os
import shutil
import tarfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from tqdm.auto import tqdm

from lib import audio
from lib.data.folders import PLACES, DatasetError, MixtureDataset, check_dataset, check_wave

SR, NAMES = 16000, {"mix": "mix", "target": "clean", "enrollment": "enrollment"}


def shard_folder(folder, split):
    """Where the shards of a split lie."""
    return Path(folder) / f"{split}_Dataset" / "shards"


def pack(folder, split, per_shard=1000, progress=True):
    """Pack the mixtures of a split into shards beside its folders; returns their folder. What is there already is
    replaced at the end.

    Links are followed, and each shard is read from before it counts. Raises `DatasetError` as `check_dataset` does. The
    files themselves stay; delete Clean, Mix and Target once you trust the shards.
    """
    out = shard_folder(folder, split)
    if out.is_dir() and not any((out.parent / place).is_dir() for place in PLACES.values()):
        raise DatasetError(f"{out.parent}: holds shards alone, so there is nothing to pack.")
    _tidy(out.parent)
    pairs = check_dataset(folder, [split])
    stage = out.with_name(f".shards-{os.getpid()}")
    stage.mkdir(parents=True)
    try:
        rows = []
        for first in tqdm(range(0, len(pairs), per_shard), desc=f"pack {split}", disable=not progress):
            rows += _pack_one(stage / f"{first // per_shard:05d}.tar", pairs.iloc[first : first + per_shard])
        pd.DataFrame(rows).to_csv(stage / "index.csv", index=False)
        packed = ShardedMixtures(stage)
        for place in range(0, len(packed), max(1, per_shard - 1)):
            packed[place]
        old = out.with_name(f".old-{os.getpid()}")
        if out.exists():
            os.replace(out, old)
        os.replace(stage, out)
        _remove(old)
    finally:
        _remove(stage)
    return out


def _pack_one(path, pairs):
    """Write the mixtures of `pairs` into the tar `path`; where each file lies in it, a row a mixture."""
    rows, quiet = [], "speaks" in pairs
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, dereference=True) as tar:
        for row in pairs.itertuples():
            found = {"index": row.index, "shard": path.name, **({"speaks": row.speaks} if quiet else {})}
            for kind in NAMES.values():
                source = getattr(row, kind)
                tar.add(source, f"{row.index:06d}.{kind}{source.suffix}")
                member = tar.getmembers()[-1]
                if member.size != source.stat().st_size:
                    raise DatasetError(f"{source}: changed while it was packed. Pack again.")
                size = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                found |= {f"{kind}_at": tar.offset - size, f"{kind}_bytes": member.size}
            rows.append(found)
    return rows


def _tidy(folder):
    """Remove what a packing that was killed left behind; shards that it had moved aside come back."""
    for left in folder.glob(".old-*"):
        if not (folder / "shards").exists():
            os.replace(left, folder / "shards")
        _remove(left)
    for left in folder.glob(".shards-*"):
        if not _runs(left.name.rpartition("-")[2]):
            _remove(left)


def _runs(process):
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()


def say_if_stale(folder, split):
    """Warn where files of the split were added, removed or changed after it was packed: the shards are read."""
    out = shard_folder(folder, split)
    packed, count = (out / "index.csv").stat().st_mtime, len(_index(out))
    for place in PLACES.values():
        if not (out.parent / place).is_dir():
            continue
        files = [entry for entry in os.scandir(out.parent / place) if audio.is_sound(entry.name)]
        newer = sum(entry.stat().st_mtime > packed for entry in files if entry.is_file())
        if len(files) != count or newer:
            warnings.warn(
                f"{out}: holds {count} mixtures and is what is read, but {out.parent / place} holds {len(files)} files,"
                f" {newer} of them newer. Pack again (python -m lib.data.shards {folder} {split}), or delete shards.",
                stacklevel=3,
            )
            return


def _index(folder):
    path = Path(folder) / "index.csv"
    try:
        table = pd.read_csv(path)
        lacking = [name for name in ["index", "shard", *(f"{kind}_at" for kind in NAMES.values())] if name not in table]
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}). Pack the split again: python -m lib.data.shards."
        ) from error
    if lacking:
        raise DatasetError(f"{path}: lacks {', '.join(lacking)}. Pack the split again: python -m lib.data.shards.")
    return table


class ShardedMixtures(torch.utils.data.Dataset):
    """Items as of `lib.data.folders.MixtureDataset`, out of shards, held to the same checks. `pairs`: index a row."""

    def __init__(self, folder, segment_seconds=None):
        self.folder, self._open = Path(folder), {}
        self.pairs = _index(self.folder)
        self.rows = self.pairs.to_dict("records")
        self.samples = None if segment_seconds is None else round(segment_seconds * SR)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = self.rows[place]
        waves = {name: self._wave(row, kind) for name, kind in NAMES.items()}
        if len(waves["mix"]) != len(waves["target"]):
            raise DatasetError(
                f"{self.folder / row['shard']}: mix and clean of index {row['index']} differ in length"
                f" ({len(waves['mix'])} and {len(waves['target'])} samples). Export them again, and pack."
            )
        return dict(
            mix=waves["mix"][: self.samples],
            target=waves["target"][: self.samples],
            enrollment=waves["enrollment"],
            index=int(row["index"]),
        )

    def __getstate__(self):
        return {**self.__dict__, "_open": {}}

    def _wave(self, row, kind):
        key = (os.getpid(), row["shard"])  # a file opened before a fork would share its position
        if key not in self._open:
            try:
                self._open[key] = open(self.folder / row["shard"], "rb", buffering=0)  # noqa: SIM115  (stays open)
            except OSError as error:
                raise DatasetError(
                    f"{self.folder / row['shard']}: cannot be opened ({error.strerror}). Pack the split again: "
                    "python -m lib.data.shards."
                ) from error
        file = self._open[key]
        file.seek(row[f"{kind}_at"])
        data, name = file.read(row[f"{kind}_bytes"]), f"{self.folder / row['shard']}: {kind} of index {row['index']}"
        if len(data) < row[f"{kind}_bytes"]:
            raise DatasetError(f"{name} is cut off. Pack the split again: python -m lib.data.shards.")
        try:
            wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise DatasetError(
                f"{name} cannot be decoded ({error}). Check the file, and pack the split again: python -m"
                " lib.data.shards."
            ) from error
        try:
            wave = audio.resample(audio.mixdown(wave, name), rate, SR)
            check_wave(wave, kind, name, not row.get("speaks", True))
        except audio.AudioError as error:
            raise DatasetError(str(error)) from error
        return torch.from_numpy(wave)


def measure(folder, split, reads=2000, seed=0):
    """Mixtures a second, read one by one in random order, from files and from shards, in turns: a DataFrame."""
    sources = {
        "files": MixtureDataset(check_dataset(folder, [split], deep=False)),
        "shards": ShardedMixtures(shard_folder(folder, split)),
    }
    rng, rows = np.random.default_rng(seed), []
    for _turn in range(3):
        for name, data in sources.items():
            places, started = rng.integers(len(data), size=reads // 3), time.perf_counter()
            for place in places:
                data[int(place)]
            rows.append(
                {"from": name, "mixtures": len(data), "a_second": len(places) / (time.perf_counter() - started)}
            )
    return pd.DataFrame(rows).groupby(["from", "mixtures"], as_index=False)["a_second"].median()


def _remove(folder):
    shutil.rmtree(folder, ignore_errors=True)


def main(arguments=None):
    """The command line: pack, or measure."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.data.shards", description="Pack the mixtures of a split into shards."
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("split", choices=("Train", "Val", "Test"))
    parser.add_argument("--per-shard", type=int, default=1000, help="mixtures a shard")
    parser.add_argument("--measure", action="store_true", help="then read at random from both and say how fast each is")
    options = parser.parse_args(arguments)
    print(pack(options.dataset, options.split, options.per_shard))
    if options.measure:
        print(measure(options.dataset, options.split).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
