"""Shards: the same items as the files, whichever order and process reads them; damage is named."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from lib.data import inspection, shards
from lib.data.dataset import DatasetError, check_dataset, collate, open_dataset
from lib.evaluation.scores import open_test


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


def test_links_are_packed_as_what_they_lead_to(folder, tmp_path_factory):
    path = folder / "Train_Dataset" / "Mix" / "mix_000003.wav"
    far = tmp_path_factory.mktemp("far") / "x.wav"
    path.rename(far)
    path.symlink_to(far)
    shards.pack(folder, "Train", progress=False)
    assert len(open_dataset(folder, "Train")[2]["mix"]) == 4003


def test_packing_holds_to_the_checks_of_files(folder):
    path = folder / "Train_Dataset" / "Mix" / "mix_000003.wav"
    wave = np.full(4003, 0.1)
    wave[5] = np.nan
    soundfile.write(path, wave, 16000, subtype="FLOAT")
    with pytest.raises(DatasetError, match=r"mix_000003.wav: holds NaN"):
        shards.pack(folder, "Train", progress=False)
    assert not list((folder / "Train_Dataset").glob(".shards*")) and not (folder / "Train_Dataset" / "shards").exists()


def test_files_added_after_packing_are_said(folder):
    shards.pack(folder, "Train", progress=False)
    for place, name in (("Clean", "clean"), ("Mix", "mix"), ("Target", "enrollment")):
        soundfile.write(folder / "Train_Dataset" / place / f"{name}_000099.wav", np.full(17000, 0.1), 16000)
    with pytest.warns(UserWarning, match=r"holds 5 mixtures and is what is read, but .* holds 6 files.*Pack again"):
        assert len(open_dataset(folder, "Train")) == 5


def test_a_split_that_lies_in_shards_alone_is_checked_and_measured(folder):
    before = check_dataset(folder)
    shards.pack(folder, "Train", per_shard=2, progress=False)
    for place in ("Clean", "Mix", "Target"):
        shutil.rmtree(folder / "Train_Dataset" / place)
    after = check_dataset(folder)
    assert after[["index", "seconds", "enrollment_seconds"]].equals(before[["index", "seconds", "enrollment_seconds"]])
    test, facts = open_test(folder, split="Train")
    assert len(test) == 5 and facts["index"].tolist() == [1, 2, 3, 7, 12] and facts["sir_db"].notna().all()
    assert len(inspection.facts(folder)) == 5 and set(inspection.take_apart(folder, "Train", 7)) > {"mixture"}
    with pytest.raises(DatasetError, match="holds shards alone"):
        shards.pack(folder, "Train", progress=False)


def test_what_a_killed_packing_left_is_tidied(folder):
    split = folder / "Train_Dataset"
    (split / ".shards-999999").mkdir()
    (split / ".old-999999").mkdir()
    shards.pack(folder, "Train", progress=False)
    assert sorted(path.name for path in split.iterdir()) == ["Clean", "Mix", "Target", "shards"]


@pytest.mark.parametrize("text", ["", "index\n1\n", "\0\0"])
def test_an_index_that_is_damaged_is_named(folder, text):
    out = shards.pack(folder, "Train", progress=False)
    (out / "index.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"index.csv: .*Pack the split again"):
        open_dataset(folder, "Train")
