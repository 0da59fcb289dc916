"""The door to a Dataset: checked, and opened whether its mixtures lie in folders (`folders.py`) or in shards
(`shards.py`).
"""

from pathlib import Path

import numpy as np
import torch

from lib.data.folders import SPLITS, SR, DatasetError, MixtureDataset, check_dataset, check_speakers, collate

__all__ = ["SPLITS", "SR", "DatasetError", "check_dataset", "collate", "open_dataset", "part", "spread"]


def open_dataset(folder, split, segment_seconds=None, skip_bad=False):
    """The mixtures of one split as a `torch.utils.data.Dataset`; an item is a dict of `mix`, `target`, `enrollment`
    (float32 tensors `(samples,)` at 16 kHz) and `index` (the number in the file names).

    Shards are read where the split has them (`lib.data.shards`), and it is said where files changed since.
    `segment_seconds` cuts mix and target to their first seconds. Raises `DatasetError` as `check_dataset` does; a file
    that turns out damaged when it is read is named then.
    """
    if (Path(folder) / f"{split}_Dataset" / "shards" / "index.csv").is_file():
        from lib.data.shards import ShardedMixtures, say_if_stale, shard_folder  # needs soundfile, so only here

        check_speakers(Path(folder))
        say_if_stale(folder, split)
        return ShardedMixtures(shard_folder(folder, split), segment_seconds)
    return MixtureDataset(check_dataset(folder, [split], skip_bad, deep=skip_bad), segment_seconds)


def spread(count, limit=None):
    """Up to `limit` places out of `count`, evenly spaced, so that a subset holds all speakers and not the first ones
    alone.
    """
    limit = count if limit is None else min(limit, count)
    return np.unique(np.linspace(0, count - 1, limit).round().astype(int)).tolist() if limit else []


def part(folder, split, limit=None):
    """The mixtures of one split of the Dataset `folder`, or `limit` of them spread evenly over it."""
    data = open_dataset(folder, split)
    return torch.utils.data.Subset(data, spread(len(data), limit))
