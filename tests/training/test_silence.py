"""Silence as an answer: the loss, what training and scores make of silent targets, and that it can be learned."""

import numpy as np
import pytest
import torch

from lib.losses import ABSENT, extraction_loss, level_deviation, negative_si_snr, residual_level, speaks
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import comparison, tables
from lib.training.equaliser import fit_equaliser
from lib.training.fit import fit, measure
from lib.training.settings import TrainingError

SMALL = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24, enh_chunk_size=1)


def small():
    torch.manual_seed(0)
    return ConVoiFilter(ConVoiFilterConfig(**SMALL))


def items(count, silent):
    """Mixtures of noise; the target is half of it, or silence for those in `silent`."""
    rng, made = np.random.default_rng(0), []
    for number in range(count):
        wave = torch.from_numpy(0.1 * rng.standard_normal(16000).astype(np.float32))
        known = torch.from_numpy(0.1 * rng.standard_normal(16000).astype(np.float32))
        target = torch.zeros_like(wave) if number in silent else 0.5 * wave
        made.append({"mix": wave, "target": target, "enrollment": known, "index": number})
    return made


def test_the_level_of_what_should_be_silence_by_hand():
    mix = torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    est = torch.stack([mix[0], 0.1 * mix[1], 0 * mix[2]])
    expected = 10 * torch.log10(torch.tensor([1.001, 0.011, 0.001]))
    torch.testing.assert_close(residual_level(est, mix), expected, atol=1e-3, rtol=0)
    lengths = torch.tensor([8000, 8000, 4000])
    est[2, 4000:] = 1.0  # beyond the length
    torch.testing.assert_close(residual_level(est, mix, lengths)[2], expected[2], atol=1e-2, rtol=0)
    assert residual_level(torch.zeros(1, 800), torch.zeros(1, 800)).isfinite().all()
    torch.testing.assert_close(level_deviation(est[:2], mix[:2]), torch.tensor([0.0, 20.0]), atol=1e-3, rtol=0)
    half = mix * (torch.arange(8000) < 4000)
    torch.testing.assert_close(level_deviation(0.1 * mix, half, lengths // 2)[:2], torch.tensor([20.0, 20.0]))


def test_each_item_has_the_loss_of_its_kind():
    torch.manual_seed(0)
    mix, ref = torch.randn(2, 8000), torch.randn(2, 8000)
    ref[1] = 0
    est = (0.3 * mix).requires_grad_()
    loss = extraction_loss(est, ref, mix)
    assert speaks(ref).tolist() == [True, False]
    torch.testing.assert_close(loss[0], negative_si_snr(est, ref)[0])
    torch.testing.assert_close(loss[1], ABSENT * residual_level(est, mix)[1])
    loss.sum().backward()
    assert est.grad.isfinite().all() and (est.grad[1] * mix[1]).sum() > 0  # fainter is better


def test_scores_leave_silent_targets_out_and_say_how_loud_the_answer_was():
    table = measure(small(), items(4, {1}), batch_size=2, device="cpu")
    assert table["si_sdri"].isna().tolist() == [False, True, False, False]
    assert table["level_db"].notna().tolist() == [False, True, False, False]
    assert "level_db" not in measure(small(), items(2, set()), device="cpu")


def test_silence_can_be_learned_and_the_history_says_so(tmp_path):
    data = items(3, {0, 1})
    model = small()
    model.xvector_model.requires_grad_(False)
    history = fit(
        model, data, data, tmp_path / "run", epochs=5, batch_size=1, learning_rate=5e-3, device="cpu", progress="none"
    )
    assert history["val_level_db"].iloc[-1] < history["val_level_db"].iloc[0] - 1
    assert history["val_si_sdri"].notna().all()


def test_the_equaliser_and_the_comparison_do_not_trip_over_them(tmp_path):
    model, data = small().eval(), items(6, {0, 3})
    with_silent, without = fit_equaliser(model, data), fit_equaliser(model, [data[k] for k in (1, 2, 4, 5)])
    assert with_silent.config.equaliser == without.config.equaliser
    with pytest.raises(TrainingError, match="nobody asked for speaks"):
        fit_equaliser(model, data[:1])
    how = dict(epochs=1, batch_size=2, device="cpu", progress="none")
    table, samples = comparison.compare(
        model, ["head only"], data, {"val": data, "test": data}, tmp_path, say=lambda _: None, **how
    )
    assert table["test_si_sdri"].notna().all() and table["test_silent"].between(0, 1).all()
    assert "silent where asked to be, test" in tables.shown(table)
    scores = dict(list(samples.groupby("strategy")))
    assert comparison.before_after(scores, tuple(scores)[:2])["mixtures"].tolist() == [4, 4]
