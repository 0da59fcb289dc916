"""Shards: the same items as the files, whichever order and process reads them; damage is named."""

import numpy as np
import pytest
import soundfile
import torch

from lib.data import shards
from lib.data.dataset import DatasetError, collate, open_dataset


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in (1, 2, 3, 7, 12):
        for place, name, samples in (
            ("Clean", "clean", 4000 + i),
            ("Mix", "mix", 4000 + i),
            ("Target", "enrollment", 17000),
        ):
            path = tmp_path / "Train_Dataset" / place / f"{name}_{i:06d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(samples), 16000)
    return tmp_path


def test_shards_hold_what_the_files_hold(folder):
    files = [open_dataset(folder, "Train")[i] for i in range(5)]
    shards.pack(folder, "Train", per_shard=2, progress=False)
    data = open_dataset(folder, "Train")
    assert isinstance(data, shards.ShardedMixtures) and len(data) == 5 and len(list(data.folder.glob("*.tar"))) == 3
    for i in (4, 0, 3, 1, 2):
        assert data[i]["index"] == files[i]["index"]
        assert all(torch.equal(data[i][name], files[i][name]) for name in ("mix", "target", "enrollment"))


def test_worker_processes_read_the_same(folder):
    shards.pack(folder, "Train", per_shard=2, progress=False)
    data = open_dataset(folder, "Train", segment_seconds=0.1)
    data[0]  # opened here before the workers are forked
    here = [batch["mix"] for batch in torch.utils.data.DataLoader(data, 2, collate_fn=collate)]
    there = [batch["mix"] for batch in torch.utils.data.DataLoader(data, 2, collate_fn=collate, num_workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(here, there)) and here[0].shape == (2, 1600)


def test_packing_again_replaces_and_a_failure_leaves_the_old(folder):
    out = shards.pack(folder, "Train", per_shard=2, progress=False)
    before = (out / "index.csv").read_bytes()
    (folder / "Train_Dataset" / "Mix" / "mix_000007.wav").unlink()
    with pytest.raises(DatasetError, match="mix_000007.wav"):
        shards.pack(folder, "Train", progress=False)
    assert (out / "index.csv").read_bytes() == before
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_shard_is_named_with_the_remedy(folder):
    out = shards.pack(folder, "Train", per_shard=2, progress=False)
    whole = (out / "00001.tar").read_bytes()
    (out / "00001.tar").write_bytes(whole[:600])
    with pytest.raises(DatasetError, match=r"00001.tar: .* of index 3 .*[Pp]ack the split again"):
        open_dataset(folder, "Train")[2]
