"""The pretraining command on made-up voices and a tiny model: it learns, goes on where it was, and hears whom it is told to."""
import json

import pandas as pd
import pytest
import torch

from lib import pretraining, starter_scores
from lib.data import debian, kokoro, spoken, streaming, voices
from lib.models.convoifilter import ConVoiFilter
from made_voices import make_voices

TINY = dict(adim=32, aheads=2, layers=1, linear_units=32, hop_length=256, xvector_channels=16, xvector_pool=24, xvector_front="log", magnitude_power=0.3,
            fill="repeat", dropout=0.0, positional_dropout=0.0, attention_dropout=0.0)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four sources of a few made voices each, and whom the mixtures of each stage were made of."""
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pretraining, "SIZES", TINY)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    tables = {name: make_voices(tmp_path / name, train=3, val=3 * (name == "d"), test=0, recordings=5, seconds=(3.0, 4.0), seed=k).assign(sex="F")
              for k, name in enumerate("dask")}
    for name in "ask":
        tables[name]["speaker"] = name + "-" + tables[name].speaker
    monkeypatch.setattr(voices, "load", lambda source: tables["d"])
    monkeypatch.setattr(voices, "background_music", lambda: [])
    monkeypatch.setattr(debian, "load", lambda table: tables["a"])
    monkeypatch.setattr(spoken, "load", lambda: tables["s"])
    monkeypatch.setattr(kokoro, "load", lambda: tables["k"])
    monkeypatch.setattr(starter_scores, "score", lambda *_: pd.DataFrame())
    heard, first = [], streaming.EndlessMixtures.__init__

    def noted(self, table, *args, **kwargs):
        heard.append(set(table.speaker))
        first(self, table, *args, **kwargs)

    monkeypatch.setattr(streaming.EndlessMixtures, "__init__", noted)
    return tmp_path, heard


def run(folder, steps, *more):
    pretraining.main([str(folder / "out"), "--steps", "0", "0", str(steps), "--batch-size", "2", "--seconds", "0.8", "--workers", "0", "--every", "2", *more])


def test_it_learns_saves_and_goes_on(small):
    folder, heard = small
    run(folder, 2)
    first = ConVoiFilter.from_pretrained(folder / "out/model")
    assert first.config.fill == "repeat" and "float16" in (folder / "out/model/config.json").read_text()
    run(folder, 4)
    history = json.loads((folder / "out/extract/history.json").read_text())
    assert [row["step"] for row in history if "eval_score" in row] == [2, 4]
    weights = ConVoiFilter.from_pretrained(folder / "out/model").state_dict()
    assert any(not torch.equal(weights[name], tensor) for name, tensor in first.state_dict().items())
    learned = {name.split(".")[1] for name, tensor in first.state_dict().items() if name.startswith("xvector_model") and not torch.equal(weights[name], tensor)}
    assert learned == {"tdnns", "embedding"}  # extract leaves the x-vector's front alone
    assert all(torch.equal(weights[name], tensor) for name, tensor in first.state_dict().items() if name.startswith("xvector_model") and "running" in name)


def test_it_hears_whom_it_is_told_to_and_nobody_held_out(small):
    folder, heard = small
    run(folder, 2, "--copies", "2")
    trained = set.union(*(people for people in heard if any("~" in name for name in people)))
    assert {name.split("~")[0] for name in trained} == {f"{prefix}train{k}" for prefix in ("", "a-", "s-", "k-") for k in range(3)}
    assert {"train0~2", "a-train0~2", "s-train0~1", "k-train0~2"} <= trained and "s-train0~2" not in trained
    assert {"val0", "val1", "val2"} in heard
    heard.clear()
    pretraining.main([str(folder / "other"), "--steps", "0", "0", "1", "--batch-size", "2", "--seconds", "0.8", "--workers", "0", "--voices", "debian"])
    assert not any(name.startswith(("a-", "s-", "k-")) for people in heard for name in people)
