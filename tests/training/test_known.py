"""Embeddings are taken from memory where encoder and waves are the same, and nowhere else."""

import copy

import numpy as np
import pytest
import torch

from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import known, prefix
from lib.training.fit import measure


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)
    return ConVoiFilter(ConVoiFilterConfig(**sizes, hop_length=256, enh_chunk_size=0.5, fill="repeat")).eval()


@pytest.fixture
def computed(monkeypatch):
    """The sizes of the batches whose embeddings are computed, with a memory of its own."""
    found, usual = [], prefix.compute
    monkeypatch.setattr(known, "KNOWN", known.Known())
    monkeypatch.setattr(
        prefix, "compute", lambda m, batch, *rest: found.append(len(batch["mix"])) or usual(m, batch, *rest)
    )
    return found


def items(count=3):
    rng = np.random.default_rng(0)
    return [
        {
            name: torch.from_numpy(rng.standard_normal(samples).astype(np.float32))
            for name, samples in (("mix", 9000 + 700 * n), ("target", 9000 + 700 * n), ("enrollment", 7000 + 3000 * n))
        }
        for n in range(count)
    ]


def test_the_scores_are_those_of_the_model_itself(model, computed):
    found = measure(model, items(), batch_size=2)["si_sdri"].to_numpy()
    plain = measure(model, items(), batch_size=2, score=lambda output, batch: {"energy": output.est.square().sum(-1)})
    assert computed == [2, 1]  # the second call computed nothing
    with torch.inference_mode():
        for item, told, energy in zip(items(), found, plain["energy"]):
            est = model(item["mix"][None], enrollment=item["enrollment"][None]).est
            assert float(est.square().sum()) == pytest.approx(energy, rel=1e-4)
            gain = [
                10 * torch.log10((a := (w @ t) / (t @ t) * t).square().sum() / (a - w).square().sum())
                for w, t in [
                    (wave - wave.mean(), item["target"] - item["target"].mean()) for wave in (est[0], item["mix"])
                ]
            ]
            assert float(gain[0] - gain[1]) == pytest.approx(told, abs=1e-2)


def test_another_separator_shares_and_another_encoder_or_wave_does_not(model, computed):
    measure(model, items(1))
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.enh_model.separator.linear[0].weight)
    assert not np.allclose(measure(model, items(1))["si_sdri"], measure(other, items(1))["si_sdri"])
    assert computed == [1]
    torch.nn.init.normal_(other.xvector_model.embedding.weight)
    measure(other, items(1))
    changed = items(1)
    changed[0]["enrollment"][5] += 0.1
    measure(model, changed)
    assert computed == [1, 1, 1]


def test_only_the_latest_are_kept(model, computed, monkeypatch):
    memory = known.Known(limit=1)
    monkeypatch.setattr(known, "KNOWN", memory)
    measure(model, items(2), batch_size=1)
    assert len(memory.kept) == 1
    measure(model, items(2), batch_size=1)
    assert computed == [1, 1, 1, 1]
