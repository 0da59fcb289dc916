"""Mixtures made while training: the first epoch is the data set, later ones are new, and all stand in a manifest."""

import json
import shutil

import numpy as np
import pytest
import torch
from made_voices import make_voices

from lib.data import mixtures
from lib.data.dataset import collate, open_dataset
from lib.data.fresh import FreshMixtures
from lib.data.mixtures import MixtureError
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import __main__ as elsewhere
from lib.training.fit import fit

SETTINGS = dict(train=6, val=2, test=0, segment_seconds=1.0, enrollment_seconds=(1.0, 1.5), absent_share=0.2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    voices = make_voices(folder / "v")
    mixtures.build(voices, folder / "D", **SETTINGS, progress=False, workers=1)
    return voices, folder / "D"


def test_the_first_epoch_is_the_data_set_and_the_second_is_new(built, tmp_path):
    voices, folder = built
    stored, fresh = open_dataset(folder, "Train"), FreshMixtures(voices, folder, record=tmp_path / "made.jsonl")
    assert len(fresh) == len(stored) == 6
    for place in range(6):
        for name in ("mix", "target", "enrollment"):
            assert torch.equal(fresh[place][name], stored[place][name])
    fresh.set_epoch(1)
    item = fresh[0]
    assert item["index"] == 7 and not any(torch.equal(item["mix"], fresh_mix["mix"]) for fresh_mix in stored)
    again = FreshMixtures(voices, folder)
    again.set_epoch(1)
    assert torch.equal(again[0]["mix"], item["mix"])
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert [(row["index"], row["epoch"]) for row in rows] == [(7, 1)]  # the first six stand in the data set's manifest
    train = set(voices.loc[voices["split"] == "Train", "speaker"])
    assert {row["speaker"] for row in rows} <= train


def test_training_hears_other_mixtures_in_each_epoch(built, tmp_path):
    voices, folder = built
    sizes = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24, enh_chunk_size=1)
    torch.manual_seed(0)
    model, fresh = ConVoiFilter(ConVoiFilterConfig(**sizes)), FreshMixtures(voices, folder, 4, tmp_path / "made.jsonl")
    model.xvector_model.requires_grad_(False)
    how = dict(epochs=2, batch_size=2, workers=1, device="cpu", progress="none", collate=collate)
    fit(model, fresh, open_dataset(folder, "Val"), tmp_path / "run", **how)
    rows = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert sorted((row["epoch"], row["index"]) for row in rows) == [(1, 7), (1, 8)]  # six are on disk


def test_a_mixture_that_is_gone_from_disk_is_made_again(built, tmp_path):
    voices, folder = built
    copy = shutil.copytree(folder, tmp_path / "D")
    for path in copy.glob("Train_Dataset/*/*3.*"):
        path.unlink()
    fresh = FreshMixtures(voices, copy, record=tmp_path / "made.jsonl")
    made, stored = fresh[2], open_dataset(folder, "Train")[2]
    for name in ("mix", "target", "enrollment"):
        np.testing.assert_allclose(made[name], stored[name], atol=0.5 / 32768 + 1e-6)
    assert [json.loads(line)["index"] for line in (tmp_path / "made.jsonl").read_text().splitlines()] == [3]


def test_what_was_not_built_here_or_of_other_voices_is_said(built, tmp_path):
    voices, folder = built
    with pytest.raises(MixtureError, match="ready-made"):
        FreshMixtures(voices, tmp_path)
    with pytest.raises(MixtureError, match="other voices"):
        FreshMixtures(voices.iloc[1:], folder)


def test_a_run_that_heard_new_mixtures_can_be_made_again_from_its_settings(built, tmp_path, monkeypatch):
    voices, folder = built
    sizes = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24, enh_chunk_size=1)
    torch.manual_seed(0)
    ConVoiFilter(ConVoiFilterConfig(**sizes)).save_pretrained(tmp_path / "model")
    monkeypatch.setattr("lib.data.voices.load", lambda source, root: voices)
    notes = dict(pretrained=str(tmp_path / "model"), dataset=str(folder), strategy="head only", train_items=4)
    notes |= dict(val_items=None, fresh=dict(source="auto", root=None))
    settings = dict(epochs=2, batch_size=2, device="cpu", progress="none")
    (tmp_path / "settings.json").write_text(json.dumps(dict(settings=settings, notes=notes)))
    elsewhere.train_as(tmp_path / "settings.json", tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "mixtures.jsonl").read_text().splitlines()]
    assert {row["index"] for row in rows} >= {7, 8}
