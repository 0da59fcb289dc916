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
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from tqdm.auto import tqdm

from lib import audio
from lib.data.folders import DatasetError, MixtureDataset, check_dataset

SR, NAMES = 16000, {"mix": "mix", "target": "clean", "enrollment": "enrollment"}


def shard_folder(folder, split):
    """Where the shards of a split lie."""
    return Path(folder) / f"{split}_Dataset" / "shards"


def pack(folder, split, per_shard=1000, progress=True):
    """Pack the mixtures of a split into shards beside its folders; returns their folder. What is there already is
    replaced at the end.

    Raises `DatasetError` as `check_dataset` does. The files themselves stay; delete Clean, Mix and Target once you
    trust the shards.
    """
    pairs, out = check_dataset(folder, [split], deep=False), shard_folder(folder, split)
    stage, rows = out.with_name(f".shards-{os.getpid()}"), []
    stage.mkdir(parents=True)
    try:
        for first in tqdm(range(0, len(pairs), per_shard), desc=f"pack {split}", disable=not progress):
            name = f"{first // per_shard:05d}.tar"
            with tarfile.open(stage / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                for row in pairs.iloc[first : first + per_shard].itertuples():
                    found = {"index": row.index, "shard": name}
                    for kind in NAMES.values():
                        path = getattr(row, kind)
                        tar.add(path, f"{row.index:06d}.{kind}{path.suffix}")
                        member = tar.getmembers()[-1]
                        size = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                        found |= {f"{kind}_at": tar.offset - size, f"{kind}_bytes": member.size}
                    rows.append(found)
        pd.DataFrame(rows).to_csv(stage / "index.csv", index=False)
        old = out.with_name(f".old-{os.getpid()}")
        if out.exists():
            os.replace(out, old)
        os.replace(stage, out)
        _remove(old)
    finally:
        _remove(stage)
    return out


class ShardedMixtures(torch.utils.data.Dataset):
    """Items as of `lib.data.folders.MixtureDataset`, out of shards."""

    def __init__(self, folder, segment_seconds=None):
        self.folder, self._open = Path(folder), {}
        self.rows = pd.read_csv(self.folder / "index.csv").to_dict("records")
        self.samples = None if segment_seconds is None else round(segment_seconds * SR)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = self.rows[place]
        waves = {name: self._wave(row, kind) for name, kind in NAMES.items()}
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
            self._open[key] = open(self.folder / row["shard"], "rb", buffering=0)  # noqa: SIM115  (stays open)
        file = self._open[key]
        file.seek(row[f"{kind}_at"])
        data = file.read(row[f"{kind}_bytes"])
        try:
            wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise DatasetError(
                f"{self.folder / row['shard']}: {kind} of index {row['index']} cannot be decoded ({error}). Pack the"
                " split again: python -m lib.data.shards."
            ) from error
        wave = wave.mean(1)
        return torch.from_numpy(wave if rate == SR else audio.resample(wave, rate, SR))


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
