"""Muon: matrices move by an orthogonal step of known size, all else as AdamW moves it, and a resumed run goes on as it
would have.
"""

import copy

import pytest
import torch
from torch import nn

from lib.pretraining import muon


@pytest.mark.parametrize("shape", [(2, 30, 90), (2, 90, 30)])
def test_orthogonal_leaves_directions_and_evens_their_sizes(shape):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = muon.orthogonal(stack)
    values = torch.linalg.svdvals(out)
    assert values.min() > 0.6 and values.max() < 1.3
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    assert (left.mT @ out @ right.mT).diagonal(dim1=1, dim2=2).min() > 0.6  # same singular vectors, same sign


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(70, 80), nn.Conv1d(80, 65, 1), nn.Conv1d(65, 65, 3, groups=65), nn.Linear(70, 5)
    ).double()


def learn(model, optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def test_matrices_move_orthogonally_and_all_else_as_adamw_does():
    model, other = net(), net()
    before = copy.deepcopy(model.state_dict())
    learn(model, muon.Muon(model.parameters(), lr=1e-2, weight_decay=0.1), [0])
    learn(other, torch.optim.AdamW(other.parameters(), lr=1e-2, weight_decay=0.1), [0])
    for name, p in model.named_parameters():
        if name in ("0.weight", "1.weight"):
            step = (before[name] * (1 - 1e-3) - p.detach()).flatten(1)
            sizes = torch.linalg.svdvals(step) / (1e-2 * 0.2 * max(step.shape) ** 0.5)
            assert sizes.min() > 0.6 and sizes.max() < 1.3, name
        else:  # vectors, a depthwise convolution and a matrix with few rows
            assert torch.equal(p, other.state_dict()[name]), name


def test_frozen_parts_stay():
    model = net()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    learn(model, muon.Muon(model.parameters(), lr=1e-2, weight_decay=0.1), [0])
    assert torch.equal(model[1].weight, before)


def test_state_goes_on_after_a_save():
    model, again = net(), net()
    optimizer = muon.Muon(model.parameters(), lr=1e-2)
    learn(model, optimizer, [0])
    again.load_state_dict(model.state_dict())
    resumed = muon.Muon(again.parameters(), lr=1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learn(model, optimizer, [1])
    learn(again, resumed, [1])
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters()))


@pytest.mark.parametrize("count", [1, 5])
def test_processes_share_the_work(monkeypatch, count):
    stack, parts = torch.randn((count, 8, 20), generator=torch.Generator().manual_seed(0)), []
    monkeypatch.setattr(muon.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(muon.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(muon.dist, "all_reduce", lambda out: parts.append(out.clone()))
    for rank in (0, 1):
        monkeypatch.setattr(muon.dist, "get_rank", lambda rank=rank: rank)
        muon.shared_orthogonal(stack)
    assert torch.allclose(sum(parts), muon.orthogonal(stack), atol=1e-6)
    assert not (parts[0].flatten(1).any(1) & parts[1].flatten(1).any(1)).any()  # nothing twice
