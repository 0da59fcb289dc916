"""The benchmark's tables hold what their columns say, on a model small enough to be quick; how fast anything is, no
test asks.
"""

import sys

import numpy as np
import pytest
import torch

import lib
from lib.training import benchmark, measuring

TINY = dict(
    adim=16,
    aheads=2,
    layers=4,
    linear_units=16,
    hop_length=256,
    xvector_channels=16,
    xvector_pool=16,
    xvector_dim=16,
    enh_chunk_size=1,
)
CPU = torch.device("cpu")


def test_without_matplotlib_the_benchmark_ends_without_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(lib, "plots", raising=False)
    monkeypatch.setitem(sys.modules, "lib.plots", None)
    monkeypatch.delattr(lib.training, "views", raising=False)  # where another test has imported it
    monkeypatch.delitem(sys.modules, "lib.training.views", raising=False)
    benchmark._picture(None, tmp_path / "picture.png")
    assert "No picture" in capsys.readouterr().out and not list(tmp_path.iterdir())


def quiet(line):
    """Nothing is printed."""


def test_training_rows_stand_against_the_plain_path_of_their_strategy():
    variants = [measuring.VARIANTS[0], measuring.VARIANTS[-1]]
    table = measuring.training_table(TINY, ["depth 1 attn", "mask only"], 1, CPU, variants, say=quiet)
    assert list(table["strategy"]) == ["depth 1 attn", "depth 1 attn", "mask only", "mask only"]
    assert list(table["faster"][table["precision"] == "fp32"]) == [1.0, 1.0]
    fast = table[table["cache"]]
    plain = table[~table["cache"]]
    assert np.allclose(fast["faster"].to_numpy(), plain["seconds"].to_numpy() / fast["seconds"].to_numpy())
    assert set(table["trainable"][table["strategy"] == "mask only"]) == {16 * 257 + 257}


def test_comparison_sums_its_rows_and_fills_a_stage_once(monkeypatch):
    filled = []
    usual = measuring.prefix.compute
    monkeypatch.setattr(
        measuring.prefix,
        "compute",
        lambda model, batch, names, chunks: filled.append(names) or usual(model, batch, names, chunks),
    )
    table = measuring.comparison_table(TINY, ["depth 1 full", "depth 1 attn"], CPU, items=4, epochs=2, say=quiet)
    assert table["plain_seconds"].iloc[-1] == pytest.approx(table["plain_seconds"][:-1].sum())
    assert table["fast_seconds"].iloc[-1] == pytest.approx(table["fast_seconds"][:-1].sum())
    assert (table["of_it_filling"] < table["fast_seconds"]).all()
    assert filled == [
        {"hidden_3"},
        {"hidden_3"},
    ], "once for the mixtures to train on and once for those to validate on; the second strategy reads"


def test_the_matrix_rate_counts_what_a_step_multiplies():
    table = measuring.matrix_share(TINY, "depth 4 full", [1, 2], CPU, steps=1, say=quiet, edge=64)
    flop = table["tflop_per_second"] * table["seconds"]
    assert flop[1] == pytest.approx(2 * flop[0], rel=0.01) and flop[0] > 0
    assert np.allclose(table["share"], table["tflop_per_second"] / table["matrix_rate"])


def test_inference_in_bfloat16_is_compared_with_plain():
    table = measuring.inference_table(TINY, [5.0], [1], CPU, say=quiet)
    assert table["snr_db"].iloc[0] == np.inf and table["faster"].iloc[0] == 1.0
    assert 20 < table["snr_db"].iloc[-1] < 80
