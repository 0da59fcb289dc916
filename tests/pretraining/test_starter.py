"""The pretraining command on made-up voices and a tiny model: it learns, goes on where it was, and hears whom it is
told to.
"""

import json
import shutil

import pandas as pd
import pytest
import torch
from made_voices import make_voices

from lib.data import debian, voices
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.pretraining import compact, kokoro, scores, silero, spoken, stage, starter, streaming, study
from lib.pretraining.batches import MixtureBatches

TINY = dict(
    adim=32,
    aheads=2,
    layers=1,
    linear_units=32,
    hop_length=256,
    xvector_channels=16,
    xvector_pool=24,
    xvector_front="log",
    magnitude_power=0.3,
    fill="repeat",
    dropout=0.0,
    positional_dropout=0.0,
    attention_dropout=0.0,
)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Five sources of a few made voices each, and whom the mixtures of each stage were made of."""
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(starter, "SIZES", TINY)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    tables = {
        name: (
            make_voices(
                tmp_path / name, train=3, val=3 * (name == "d"), test=0, recordings=5, seconds=(3.0, 4.0), seed=k
            ).assign(sex="F")
        )
        for k, name in enumerate("daskn")
    }
    for name in "askn":
        tables[name]["speaker"] = name + "-" + tables[name].speaker
    monkeypatch.setattr(voices, "load", lambda source: tables["d"])
    monkeypatch.setattr(voices, "background_music", lambda: [])
    monkeypatch.setattr(debian, "load", lambda table: tables["a"])
    monkeypatch.setattr(spoken, "load", lambda: tables["s"])
    monkeypatch.setattr(kokoro, "load", lambda: tables["k"])
    monkeypatch.setattr(silero, "load", lambda **_: tables["n"])
    monkeypatch.setattr(starter, "score", lambda *_, **__: pd.DataFrame())
    heard, first = [], streaming.EndlessMixtures.__init__

    def noted(self, table, items, *args, **kwargs):
        heard.append(set(table.speaker))
        first(self, table, min(items, 32), *args, **kwargs)  # validation on fewer than the command's 96

    monkeypatch.setattr(streaming.EndlessMixtures, "__init__", noted)
    return tmp_path, heard


def run(folder, steps, *more):
    starter.main(
        [
            str(folder / "out"),
            "--steps",
            "0",
            "0",
            str(steps),
            "--batch-size",
            "2",
            "--seconds",
            "0.8",
            "3.2",
            "--workers",
            "0",
            "--every",
            "2",
            *more,
        ]
    )


def test_it_learns_saves_and_goes_on(small):
    folder, _heard = small
    run(folder, 2)
    first = ConVoiFilter.from_pretrained(folder / "out/model")
    assert first.config.fill == "repeat" and "float16" in (folder / "out/model/config.json").read_text()
    run(folder, 4)
    history = json.loads((folder / "out/extract/history.json").read_text())
    assert [row["step"] for row in history if "eval_score" in row] == [2, 4]
    weights = ConVoiFilter.from_pretrained(folder / "out/model").state_dict()
    assert any(not torch.equal(weights[name], tensor) for name, tensor in first.state_dict().items())
    learned = {
        name.split(".")[1]
        for name, tensor in first.state_dict().items()
        if name.startswith("xvector_model") and not torch.equal(weights[name], tensor)
    }
    assert learned == {"tdnns", "embedding"}  # extract leaves the x-vector's front alone
    assert all(
        torch.equal(weights[name], tensor)
        for name, tensor in first.state_dict().items()
        if name.startswith("xvector_model") and "running" in name
    )


def test_muon_learns_and_goes_on(small, monkeypatch):
    monkeypatch.setattr(starter, "SIZES", {**TINY, "adim": 64, "linear_units": 64})
    run(small[0], 2, "--optimizer", "muon")
    run(small[0], 4, "--optimizer", "muon")
    saved = torch.load(small[0] / "out/extract/checkpoint-4/optimizer.pt", weights_only=True)
    assert any(entry.keys() == {"momentum"} for entry in saved["state"].values()) and any(
        "exp_avg" in entry for entry in saved["state"].values()
    )
    history = json.loads((small[0] / "out/extract/history.json").read_text())
    assert [row["step"] for row in history if "eval_score" in row] == [2, 4]


def test_by_the_clock_the_rate_rises_and_falls_to_its_end(small, monkeypatch):
    times = iter(range(10**6))
    monkeypatch.setattr(stage.time, "monotonic", lambda: next(times))  # a second a look at the clock
    rates, step = [], torch.optim.AdamW.step

    def noted(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    run(small[0], 10**4, "--minutes", "2", "--learning-rate", "1e-3", "--every", "10")
    history = json.loads((small[0] / "out/extract/history.json").read_text())
    assert rates[: stage.FIRST] == [1e-6] * stage.FIRST  # while kernels are compiled
    assert max(rates) == pytest.approx(1e-3, rel=0.1) and rates[-1] == pytest.approx(1e-5, abs=5e-6)
    falls = rates[rates.index(max(rates)) :]
    assert falls == sorted(falls, reverse=True) and len(falls) > 20
    assert history[-2]["step"] == len(rates) and "eval_score" in history[-2]  # the end is judged, and kept
    assert (small[0] / f"out/extract/checkpoint-{len(rates)}").is_dir()
    logged = {row["step"]: row["learning_rate"] for row in history if "learning_rate" in row}
    assert all(logged[n] == pytest.approx(rates[n - 1], abs=2e-5) for n in logged if n > stage.FIRST)
    kept = sorted((small[0] / "out/extract").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(kept[-1])  # broken off before its end: it goes on where the rate was
    first, done = list(rates), int(kept[-2].name.split("-")[1])
    rates.clear()
    run(small[0], 10**4, "--minutes", "4", "--learning-rate", "1e-3", "--every", "10")
    assert rates[: stage.FIRST] == [1e-6] * stage.FIRST
    assert max(rates) == pytest.approx(first[done - 1], rel=0.1) and rates[-1] == pytest.approx(1e-5, abs=5e-6)
    assert len(rates) > 1.5 * len(first)  # in the minutes of its own call, not of the first


def test_several_processes_have_no_common_clock(small, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        run(small[0], 2, "--minutes", "1")
    assert "--minutes is for one process" in capsys.readouterr().err and not (small[0] / "out").exists()


def test_rooms_of_ones_own_are_for_batches(small, capsys):
    with pytest.raises(SystemExit):
        run(small[0], 2, "--room", "0.5", "-9", "12")
    assert "--room is for mixtures made with --batches" in capsys.readouterr().err and not (small[0] / "out").exists()


def test_it_hears_whom_it_is_told_to_and_nobody_held_out(small):
    folder, heard = small
    run(folder, 2, "--copies", "2", "--voices", *starter.SOURCES, "silero")
    trained = set.union(*(people for people in heard if any("~" in name for name in people)))
    assert {name.split("~")[0] for name in trained} == {
        f"{prefix}train{k}" for prefix in ("", "a-", "s-", "k-", "n-") for k in range(3)
    }
    assert {"train0~2", "a-train0~2", "s-train0~1", "k-train0~2", "n-train0~1"} <= trained and not {
        "s-train0~2",
        "n-train0~2",
    } & trained
    assert {"val0", "val1", "val2"} in heard
    heard.clear()
    starter.main(
        [
            str(folder / "other"),
            "--steps",
            "0",
            "0",
            "1",
            "--batch-size",
            "2",
            "--seconds",
            "0.8",
            "3.2",
            "--workers",
            "0",
            "--voices",
            "debian",
        ]
    )
    assert not any(name.startswith(("a-", "s-", "k-", "n-")) for people in heard for name in people)


def test_whole_batches_of_a_compact_folder_train_and_go_on(small, monkeypatch):
    folder, heard = small
    table = voices.load("debian").assign(sex=lambda t: ["F" if name == "train0" else "M" for name in t.speaker])
    train = table[table.split == "Train"]
    compact.write(
        {"val": table[table.split == "Val"], "debian": train, "acted": train.assign(speaker="more-" + train.speaker)},
        [],
        folder / "compact",
        workers=1,
    )
    monkeypatch.setattr(voices, "load", lambda source: pytest.fail("asked for the whole of the voices"))
    batches, first = [], MixtureBatches.__getitem__
    monkeypatch.setattr(MixtureBatches, "__getitem__", lambda self, k: batches.append(k) or first(self, k))
    for steps in (2, 4):
        run(folder, steps, "--compact", str(folder / "compact"), "--batches")
    assert batches == [0, 1, 2, 3]  # going on makes none twice
    history = json.loads((folder / "out/extract/history.json").read_text())
    assert [row["step"] for row in history if "eval_score" in row] == [2, 4] and not (
        folder / "out/scores.csv"
    ).exists()
    assert heard == 2 * [{"val0", "val1", "val2"}]


def test_study_trains_each_variant_once_and_pairs_its_scores(small, monkeypatch):
    folder, heard = small
    ConVoiFilter(ConVoiFilterConfig(**TINY)).save_pretrained(folder / "start")
    monkeypatch.setattr(
        study, "VARIANTS", {"as the starter": {}, "two blocks": {"layers": 2}, "SI-SNR alone": {"spectral": 0.0}}
    )
    for name in ("two blocks", "as the starter"):
        study.study(name, voices.load("debian"), [], folder / "study", folder / "start", 2, 0.8, 3)
    table = study.table(folder / "study").set_index("variant")
    assert list(table.index) == ["as the starter", "two blocks"]
    assert table.Val_gain["as the starter"] == 0 and table.Val_gain["two blocks"] == pytest.approx(
        table.Val_si_sdri.diff().iloc[1]
    )
    assert (
        table.extractor_parameters["two blocks"] > table.extractor_parameters["as the starter"]
        and table.answers.eq(32).all()
    )
    assert set.union(*heard) == {
        f"{split}{k}" for split in ("train", "val") for k in range(3)
    }  # the study's people, and nobody else
    people = {split: {f"{split}{k}" for k in range(3)} for split in ("train", "val")}
    assert heard == 2 * [
        people["train"],
        people["val"],
        people["train"],
        people["val"],
    ]  # a variant: trained on, validated; then both are measured
    monkeypatch.setattr(stage, "train", lambda *_: pytest.fail("trained again"))
    study.study("two blocks", voices.load("debian"), [], folder / "study", folder / "start", 2, 0.8, 3)


def test_variants_differ_from_the_starter_in_what_they_say(small):
    folder, _ = small
    start = ConVoiFilter(ConVoiFilterConfig(**TINY))
    start.save_pretrained(folder / "start")
    same, other, alone = (
        study.build(name, folder / "start") for name in ("as the starter", "another seed", "SI-SNR alone")
    )
    waves = torch.randn(3, 1, 12800).unbind()
    losses = [module.eval()(waves[0], waves[1], waves[2])["loss"] for module in (same, alone)]
    assert losses[0] > losses[1] + 0.1  # the spectral term is 0 or more, and counts
    weights = [module.model.enh_model.separator.conformer.embed[0].weight for module in (same, other, alone)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    assert torch.equal(other.model.xvector_model.embedding.weight, start.xvector_model.embedding.weight)
    assert not any(p.requires_grad for p in same.model.xvector_model.parameters())


@pytest.mark.parametrize(
    "split, people", [("Val", {"val0", "val1", "val2"}), ("Silero", {f"n-train{k}" for k in range(3)})]
)
def test_scores_are_of_whom_they_are_asked_for(small, monkeypatch, split, people):
    folder, _ = small
    ConVoiFilter(ConVoiFilterConfig(**TINY)).save_pretrained(folder / "start")
    heard = []
    monkeypatch.setattr(scores, "Teacher", lambda: None)
    monkeypatch.setattr(scores, "tell_apart", lambda _, voices: heard.append(set(voices.speaker)) or 0.1)
    monkeypatch.setattr(scores, "silence", lambda *_, **__: {"silent": 0.5})
    speeds = []
    monkeypatch.setattr(
        scores,
        "score",
        lambda _, voices, *__, split, **more: (
            heard.append(set(voices[voices.split == split].speaker)) or speeds.append(more["speeds"]) or pd.DataFrame()
        ),
    )
    scores.main([str(folder / "start"), "--split", split])
    scores.main([str(folder / "start"), "--split", split, "--speeds", "0.9", "1"])
    assert heard == [people] * 6 and speeds == [[1.0], [0.9, 1.0]]
