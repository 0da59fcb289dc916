"""The study of a place: each part writes its rows once, and says what it measured. On noise: numbers mean nothing."""

import pandas as pd
import pytest
import torch

from lib import runs
from lib.losses import level_deviation, spectral_distance
from lib.losses.perceptual import perceptual_distance
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.pretraining import place_runs, place_study
from lib.training import tables, views
from lib.training.fit import fit, pad

COLUMNS = {
    "losses": {"si_sdri", "estoi", "pesq", "silent", "too_faint", "source"},
    "shares": {"si_sdri", "estoi", "pesq", "silent", "too_faint", "source"},
    "cures": {"share", "val", "test", "source", "beyond", "low", "high"},
    "amounts": {"strategy", "mixtures", "equaliser", "test", "source", "beyond", "low", "high", "epochs"},
    "matrix": {"trained_in", "system", "office", "phone", "source", "beyond", "low", "high"},
}
ROWS = {"losses": 4, "shares": 5, "cures": 9, "amounts": 4, "matrix": 7}


def noise(count, seed):
    generator = torch.Generator().manual_seed(seed)
    waves = 0.1 * torch.randn(count, 3, 16000, generator=generator)
    items = [
        {"mix": mix + target, "target": target, "enrollment": enrollment, "index": i + 1}
        for i, (mix, target, enrollment) in enumerate(waves)
    ]
    items[-1]["target"] = torch.zeros(16000)
    return items


class NoiseStudy(place_runs.Study):
    """A study of noise and a very small model."""

    def __init__(self, out):
        torch.manual_seed(1)
        sizes = dict(adim=16, aheads=2, layers=4, linear_units=24, xvector_dim=8, xvector_channels=8, xvector_pool=12)
        self.start = ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=1.0)).eval()
        self.out, self.table, self.counts = out, None, {"test": 4}
        self.settings = dict(progress="none", device="cpu", precision="fp32", batch_size=2, cache_gb=0)

    def data(self, place, split, limit=None):
        return noise(min(limit or 4, 4), [place, split, "Train", "Val", "Test"].index(split))


class Fresh(list):
    """Stands for `FreshMixtures`."""

    made = []

    def __init__(self, *told):
        super().__init__(noise(4, 6))
        self.made.append(told)

    def set_epoch(self, epoch):
        """Noise is as new as ever."""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(place_study, "PLACES", ("office", "phone"))
    monkeypatch.setattr(place_study, "AMOUNTS", (2, 4))
    monkeypatch.setattr(place_study, "TRAINED", 10)
    monkeypatch.setattr(place_study, "EPOCHS", 1)
    monkeypatch.setattr(place_study, "SHARES", (0.5, 1.0))
    monkeypatch.setattr(place_study, "SOFTER", (0.5,))
    monkeypatch.setattr(place_runs.Study.run, "__defaults__", ("office", 4, 0, 1, "", False))
    monkeypatch.setattr(place_study, "BEFORE", dict(amount=4, epochs=1, fresh=True))
    monkeypatch.setattr(place_study, "FRESH", dict(amount=4, epochs=1, perceptual=2.0, fresh=True))
    monkeypatch.setattr(place_runs, "FreshMixtures", Fresh)
    monkeypatch.setattr(Fresh, "made", [])
    monkeypatch.setattr(
        place_study, "LOSSES", {name: place_study.LOSSES[name] for name in list(place_study.LOSSES)[:2]}
    )
    return NoiseStudy(tmp_path)


@pytest.mark.parametrize("part", COLUMNS)
def test_a_part_writes_its_rows_and_does_not_make_them_twice(part, small, monkeypatch):
    place_study.PARTS[part](small, [0])
    table = pd.read_csv(small.out / f"{part}.csv")
    assert COLUMNS[part] <= set(table.columns) and len(table) == ROWS[part]
    if part not in ("losses", "shares"):
        check_picture(part, table)
    heard = {folder.name for _, folder, _ in Fresh.made}
    assert heard == {
        "matrix": {"office", "phone"},
        "losses": {"office"},
        "shares": {"office"},
    }.get(part, set())  # as chapter 2 hears its place
    if part == "cures":  # adapters that are off are the starter at home
        off = table[(table["row"] == "adapters, on and off") & (table["share"] == 0)]
        before = table.loc[table["row"] == "equaliser", "source"].item()
        assert off["source"].item() == pytest.approx(before, abs=1e-3)
    monkeypatch.setattr(place_runs, "fit", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(place_study.comparison, "score", lambda *a, **k: pytest.fail("scored again"))
    if part in ("losses", "shares", "matrix"):  # the others need an equaliser's scores before their first row
        place_study.PARTS[part](small, [0])
        pd.testing.assert_frame_equal(table, pd.read_csv(small.out / f"{part}.csv"))


def check_picture(part, table):
    """The picture says what the table says."""
    axis = getattr(views, part)(table).axes[0]
    if part == "matrix":
        rows = ["office", "office, without PESQ", "phone", "phone, without PESQ"]
        assert len(axis.texts) == 4 * 3 and [tick.get_text() for tick in axis.get_yticklabels()] == rows
    else:
        names = [text.get_text() for text in axis.get_legend().get_texts()]
        assert names[0] in ("equaliser", place_runs.RECIPE) and len(names) == {"cures": 5, "amounts": 3}[part]


TERMS = {"level": level_deviation, "spectral": spectral_distance, "perceptual": perceptual_distance}


@pytest.mark.parametrize("name", TERMS)
def test_a_term_counts_beside_the_loss(name, small, tmp_path):
    data, model = noise(4, 3)[:2], small.start
    with torch.no_grad():
        batch = pad(data)
        est = model(mix=batch["mix"], enrollment=batch["enrollment"]).est
        expected = TERMS[name](est, batch["target"]).mean().item()
    losses = []
    for weight in (0.0, 0.5):
        model.requires_grad_(False).enh_model.separator.linear.requires_grad_(True)
        told = dict(learning_rate=1e-9, epochs=1, **{**small.settings, "level": 0.0, name: weight})
        history = fit(model, data, data, tmp_path / f"weight {weight}", **told)
        losses.append(history["val_loss"].iloc[0])
    assert losses[1] - losses[0] == pytest.approx(0.5 * expected, rel=1e-2) and expected > 0.1


def test_a_run_may_hear_new_mixtures_in_each_epoch(small):
    small.run("head only", "phone", amount=4, epochs=2, fresh=True)
    assert Fresh.made == [(None, small.out / "data/phone", 4)]
    small.run("head only", "phone", amount=4, epochs=2)  # on disk: a run of its own
    assert len(Fresh.made) == 1 and len(list((small.out / "runs").iterdir())) == 2


def test_an_unknown_part_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        place_study.main([str(tmp_path), "everything"])
    assert "matrix" in capsys.readouterr().err and not any(tmp_path.iterdir())
    assert runs.place(tmp_path).is_dir()


def test_the_seeds_stand_beside_starter_and_equaliser_with_their_mean(small, monkeypatch):
    heard = noise(4, 5)[:3]  # who is silent is no part of the Test that scores reads
    told = pd.DataFrame({"index": [1, 2, 3], "speaker": ["anna", "anna", "ben"]})
    built = []
    monkeypatch.setattr(place_study.mixtures, "build", lambda table, out, **told: built.append((out, told["seed"])))
    monkeypatch.setattr(place_study.scores, "open_test", lambda folder: (heard, told))
    table = place_study.by_seed(small, [0, 1])
    pd.testing.assert_frame_equal(table, pd.read_csv(small.out / "seeds.csv"), atol=1e-4)
    ((folder, seed),) = built
    assert folder.name == f"office_seed_{place_study.UNHEARD}" and seed not in (0, place_runs.SEED)
    own = ["seed 0", "seed 1", "without PESQ, seed 0", "without PESQ, seed 1"]
    means = ["mean of seeds", "without PESQ, mean of seeds"]
    assert list(table["system"].unique()) == ["starter", "equaliser", *own, *means]
    gains = table[table["metric"] == "si_sdri"].set_index(["system", "against"])["effect"].drop("starter")
    for name in ("", "without PESQ, "):
        both = gains[f"{name}seed 0", "equaliser"] + gains[f"{name}seed 1", "equaliser"]
        assert gains[f"{name}mean of seeds", "equaliser"] == pytest.approx(both / 2)
    assert {"people_low", "people_high", "mean"} <= set(table.columns)
    shown = tables.seeds(table).set_index("system")
    assert list(shown.index) == list(table["system"].unique())
    assert shown.loc["seed 1", "beyond"] == pytest.approx(gains["seed 1", "equaliser"])
    assert " to " in shown.loc["mean of seeds", "over people"] and shown.loc["equaliser", "over people"] == ""
