"""The comparison of strategies: its table, its reading, and going on where it stopped."""

import pandas as pd
import pytest
import torch

from lib import runs
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import comparison, tables
from lib.training.freezing import FreezeError

SETTINGS = dict(epochs=1, batch_size=2, learning_rate=1e-3, progress="none", device="cpu", precision="fp32")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(1)  # another seed than the run's, which makes the random weights
    return ConVoiFilter(
        ConVoiFilterConfig(
            adim=16,
            aheads=2,
            layers=2,
            linear_units=24,
            xvector_dim=8,
            xvector_channels=8,
            xvector_pool=12,
            enh_chunk_size=0.5,
        )
    ).eval()


def noise(count, seed):
    generator = torch.Generator().manual_seed(seed)
    waves = 0.1 * torch.randn(count, 3, 8000, generator=generator)
    return [
        {"mix": mix + target, "target": target, "enrollment": enrollment, "index": i}
        for i, (mix, target, enrollment) in enumerate(waves)
    ]


@pytest.fixture(scope="module")
def compared(start, tmp_path_factory):
    out, said = tmp_path_factory.mktemp("runs") / "strategies", []
    sets = {"val": noise(3, 2), "test": noise(4, 3), "source": noise(3, 4)}
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    names = ["head only", "everything", "from random weights"]
    table, samples = comparison.compare(start, names, noise(6, 1), sets, out, say=said.append, **SETTINGS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    return table, samples, out, said, sets


def test_one_table_of_all_strategies(compared, start):
    table, samples, out, said, _ = compared
    everything = sum(p.numel() for p in start.parameters())
    assert table["strategy"].tolist() == [
        "before fine-tuning",
        "no training: an equaliser",
        "head only",
        "everything",
        "from random weights",
    ]
    assert table["trainable"].tolist() == [0, 0, 257 * 17, everything, everything] and len(said) == 3
    assert len(samples) == 5 * (3 + 4 + 3)
    test = samples[(samples["domain"] == "test")].groupby("strategy")["si_sdri"].mean()
    for row in table.itertuples():
        assert (
            row.test_si_sdri == pytest.approx(test[row.strategy]) and row.test_low <= row.test_si_sdri <= row.test_high
        )
        assert row.test_change == pytest.approx(test[row.strategy] - test["before fine-tuning"], abs=1e-6)
    assert table["source_change"].iloc[0] == 0 and (table["memory_mb"].iloc[2:] > 0).all()
    assert table["test_beyond"].iloc[1] == 0 and table["rate"].iloc[2:].tolist() == [1e-3] * 3
    assert pd.read_csv(out / "strategies.csv")["strategy"].tolist() == table["strategy"].tolist()
    assert not list(out.glob("*/best")) and (out / "head_only" / "history.csv").is_file()


def test_what_is_done_is_not_done_again(compared, start):
    table, _, out, _, sets = compared
    again, _ = comparison.compare(
        start, table["strategy"].tolist()[2:4], noise(6, 1), sets, out, resume=True, say=lambda line: None, **SETTINGS
    )
    kept = [name for name in table if name != "seconds"]  # the equaliser is fitted again
    pd.testing.assert_frame_equal(again[kept], table.iloc[:4][kept])
    assert again["seconds"].tolist()[2:] == table["seconds"].tolist()[2:4]
    with pytest.raises(runs.RunError, match="epochs was 1 and is 2"):
        comparison.compare(
            start,
            ["head only"],
            noise(6, 1),
            sets,
            out,
            resume=True,
            say=lambda line: None,
            **{**SETTINGS, "epochs": 2},
        )
    with pytest.raises(runs.RunError, match="already a run"):
        comparison.compare(start, ["head only"], noise(6, 1), sets, out, say=lambda line: None, **SETTINGS)


def test_an_unknown_strategy_lists_the_known(start, tmp_path):
    with pytest.raises(FreezeError, match="tail; known are: head only.*from random weights"):
        comparison.compare(start, ["tail"], [], {}, tmp_path)


def test_the_reading_holds_for_the_table(compared):
    table, *_ = compared
    text = tables.reading(table)
    best = table.iloc[2:].sort_values("val_si_sdri").iloc[-1]
    assert f"**{best['strategy']}**: {best['val_si_sdri']:.2f} dB" in text and text.startswith("1. Before fine-tuning")
    better = table.copy()
    better.loc[2, ["val_si_sdri", "test_si_sdri", "test_change", "test_change_low", "test_change_high"]] = [
        9.0,
        8.0,
        3.0,
        2.0,
        4.0,
    ]
    text = tables.reading(better)
    assert "**head only**: 9.00 dB" in text and "+2.00 to +4.00: better" in text
    better.loc[2, "test_change_low"] = -1.0
    assert "could be chance" in tables.reading(better)
    shown = tables.shown(better)
    assert shown["change on test, 95 %"].iloc[2] == "+3.00 (-1.00 to +4.00)"


def test_people_are_drawn_anew_where_they_are_told(compared, start):
    table, _, out, _, sets = compared
    names, told = ["head only", "everything", "from random weights"], pd.Series(["a", "a", "b", "b"], index=range(4))
    again, _ = comparison.compare(
        start, names, noise(6, 1), sets, out, resume=True, say=lambda line: None, people=told, **SETTINGS
    )
    assert "test_beyond_people_low" not in table
    rows = again.set_index("strategy").loc[names]
    assert (rows["test_beyond_people_low"] <= rows["test_beyond"]).all()
    assert (rows["test_beyond_people_high"] >= rows["test_beyond"]).all()
    assert (rows["test_beyond_people_low"] != rows["test_beyond_low"]).any()
    assert " to " in tables.shown(again)["over people"].iloc[-1] and "over people" not in tables.shown(table)


def test_an_equaliser_that_is_known_is_not_fitted_again(compared, start, monkeypatch):
    table, samples, out, _, sets = compared
    known = comparison.fit_equaliser(start, noise(6, 1))
    scores = samples.query("strategy == 'no training: an equaliser'").drop(columns=["strategy", "seed"])
    monkeypatch.setattr(comparison, "fit_equaliser", lambda *a: pytest.fail("fitted again"))
    told = dict(resume=True, say=lambda line: None, equaliser=(known, scores))
    again, _ = comparison.compare(start, ["head only"], noise(6, 1), sets, out, **told, **SETTINGS)
    columns = ["strategy", "test_si_sdri", "test_beyond"]
    pd.testing.assert_frame_equal(again[columns].head(2), table[columns].head(2))


def test_a_further_seed_leaves_what_the_first_made(compared, start, monkeypatch):
    _, _, out, _, sets = compared
    names, trained, fit = ["head only"], [], comparison.fit
    monkeypatch.setattr(comparison, "fit", lambda *a, **k: trained.append(a[3].name) or fit(*a, **k))
    told = dict(resume=True, say=lambda line: None, seeds=(0, 1))
    both, samples = comparison.compare(start, names, noise(6, 1), sets, out, **told, **SETTINGS)
    assert trained == ["head_only_seed_1"]
    assert set(samples.query("strategy == 'head only'")["seed"]) == {0, 1} and both["test_spread"].notna().any()
