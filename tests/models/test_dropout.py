"""Cheap dropout is dropout: the share, the scale, the way back, and the generator's state decide as usual."""

import pytest
import torch

from lib.models.dropout import Dropout, dropout, kept


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_the_share_asked_for_goes_and_the_mean_stays(rate):
    torch.manual_seed(0)
    x = torch.ones(1000, 999)
    out = dropout(x, rate, True)
    assert (out == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert out.max().item() == pytest.approx(1 / (1 - rate), rel=1e-3)


def test_neighbours_in_one_draw_know_nothing_of_each_other():
    torch.manual_seed(0)
    mask = kept(torch.Size([400_000]), 0.5).view(-1, 4).float() - 0.5
    together = mask.T @ mask / len(mask)
    assert (together - 0.25 * torch.eye(4)).abs().max().item() < 0.005


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_goes_where_the_numbers_went(dtype):
    x = torch.rand(7, 13).add(1).to(dtype).requires_grad_()
    out = dropout(x, 0.4, True)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_the_state_of_the_generator_decides():
    x, masks = torch.ones(5, 5, 5), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        masks.append(dropout(x, 0.5, True))
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])


def test_in_evaluation_and_at_zero_nothing_happens():
    x = torch.rand(3, 4)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(dropout(x, 0.0, True), x)
    assert isinstance(Dropout(0.5), torch.nn.Dropout)  # freezing looks for these
