"""Adapters, norms and biases, falling rates: what trains, and that nothing else moves."""

import copy

import pytest
import torch

from lib import runs
from lib.listening import diagrams
from lib.models.checkpoint import CheckpointError
from lib.models.conformer import linear
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import adapters, comparison, freezing, strategies
from lib.training.equaliser import at_home
from lib.training.fit import fit
from lib.training.freezing import FreezeError


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return ConVoiFilter(
        ConVoiFilterConfig(
            adim=32,
            aheads=2,
            layers=2,
            linear_units=48,
            xvector_dim=16,
            xvector_channels=16,
            xvector_pool=24,
            enh_chunk_size=0.5,
            hop_length=256,
        )
    )


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return dict(mix=torch.randn(2, 8000), target=torch.randn(2, 8000), enrollment=torch.randn(2, 8000))


def steps(model, batch, count=2):
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(count):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("beside", adapters.BESIDE)
def test_fresh_adapters_change_nothing_and_count_as_expected(tiny, batch, beside):
    before = copy.deepcopy(tiny).eval()(**batch).est
    table = adapters.add_adapters(tiny, rank=4, beside=beside)
    torch.testing.assert_close(tiny.eval()(**batch).est, before, rtol=1e-5, atol=1e-5)
    per_block, around = 4 * 4 * (32 + 32), 0  # four projections of attention
    if beside != "attn":
        per_block += 2 * 2 * 4 * (32 + 48)  # two of each of two feed-forwards
    if beside == "every":
        per_block += 4 * (32 + 64 + 32 + 32)  # two convolutions
        bins, condition = 257, 16
        around = 4 * (2 * 16 + condition) + 4 * (bins + condition + 32) + 4 * (32 + bins)
    assert table.attrs["trainable"] == 2 * per_block + around


@pytest.mark.parametrize("beside", adapters.BESIDE)
def test_only_adapters_move_and_merging_keeps_the_estimate_and_the_usual_names(tiny, batch, beside):
    usual = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    adapters.add_adapters(tiny, beside=beside)
    steps(tiny, batch)
    assert all(
        torch.equal(tensor, usual[name.replace(".base_layer", "")])
        for name, tensor in tiny.state_dict().items()
        if "lora_" not in name
    )
    adapted = tiny(**batch).est
    adapters.merge_adapters(tiny)
    assert set(tiny.state_dict()) == set(usual)
    torch.testing.assert_close(tiny(**batch).est, adapted, rtol=1e-3, atol=1e-5)
    moved = {name for name, tensor in tiny.state_dict().items() if not torch.equal(tensor, usual[name])}
    parts = ["linear_q", "linear_k", "linear_v", "linear_out", *["w_1", "w_2"] * (beside != "attn")]
    if beside == "every":
        parts += ["pointwise_conv1", "pointwise_conv2", "embed.0", "separator.linear.0", "filter_condition_transform"]
    assert moved == {name for name in usual if name.endswith("weight") and any(f"{part}." in name for part in parts)}


def test_adapters_add_what_peft_itself_would_switched_on_off_and_merged(tiny, batch):
    from peft.tuners.lora import LoraLayer

    adapters.add_adapters(tiny, rank=4)
    steps(tiny, batch)
    layers = [part for part in tiny.modules() if isinstance(part, LoraLayer)]
    assert {type(layer.get_base_layer()) for layer in layers} == {torch.nn.Linear, torch.nn.Conv1d}

    def both(layer):
        width = layer.get_base_layer().weight.shape[1]
        x = torch.randn(2, 5, width)
        convolves = isinstance(layer.get_base_layer(), torch.nn.Conv1d)
        return linear(layer, x), layer(x.transpose(1, 2)).transpose(1, 2) if convolves else layer(x)

    with torch.no_grad():
        for layer in layers:
            on = both(layer)
            torch.testing.assert_close(*on, rtol=1e-4, atol=1e-5)
            layer.enable_adapters(False)
            torch.testing.assert_close(*both(layer), rtol=1e-4, atol=1e-5)
            layer.enable_adapters(True)
            layer.merge()
            torch.testing.assert_close(*both(layer), rtol=1e-4, atol=1e-5)


def test_merged_model_saves_and_loads_as_any_other(tiny, batch, tmp_path):
    adapters.add_adapters(tiny)
    adapters.merge_adapters(steps(tiny, batch)).save_pretrained(tmp_path)
    torch.testing.assert_close(
        ConVoiFilter.from_pretrained(tmp_path)(**batch).est, tiny(**batch).est, rtol=1e-4, atol=1e-6
    )


def test_saved_beside_the_weights_they_fold_in_on_loading_and_come_off(tiny, batch, tmp_path):
    plain = copy.deepcopy(tiny).eval()
    adapters.add_adapters(tiny)
    adapted = steps(tiny, batch)(**batch).est
    runs.save_model(tiny, tmp_path)
    torch.testing.assert_close(ConVoiFilter.from_pretrained(tmp_path)(**batch).est, adapted, rtol=1e-4, atol=1e-6)
    off = ConVoiFilter.from_pretrained(tmp_path, adapters=None)
    assert all(torch.equal(one, off.state_dict()[name]) for name, one in plain.state_dict().items())
    assert not torch.allclose(adapted, plain(**batch).est)
    with at_home(tiny):
        torch.testing.assert_close(tiny(**batch).est, plain(**batch).est, rtol=1e-4, atol=1e-6)
    assert torch.equal(tiny(**batch).est, adapted) and any(p.requires_grad for p in tiny.parameters())
    again = ConVoiFilter.from_pretrained(tmp_path)
    runs.save_model(again, tmp_path / "again")  # folded: a checkpoint as any other
    assert torch.equal(ConVoiFilter.from_pretrained(tmp_path / "again")(**batch).est, again(**batch).est)
    config = runs.read_json(tmp_path / "config.json")
    del config["adapters"]
    runs.write_json(tmp_path / "config.json", config)
    with pytest.raises(CheckpointError, match="at which scale"):
        ConVoiFilter.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", comparison.STRATEGIES)
def test_every_strategy_can_be_told_part_by_part_and_drawn(tiny, name):
    model, table = comparison.prepared(tiny, name)
    parts = freezing.parts(model)
    assert list(parts["group"]) == list(freezing.groups_of(tiny))
    assert parts["trainable"].sum() == table.attrs["trainable"] == parts.attrs["trainable"]
    assert name in diagrams.opened({name: parts}).alt


def test_a_strategy_may_be_a_rank(tiny):
    alone = strategies.freeze_as(copy.deepcopy(tiny), dict(adapters=2, beside="attn"))
    table = strategies.freeze_as(tiny, dict(adapters=2))
    assert alone.attrs["trainable"] < table.attrs["trainable"]
    assert 0 < table.attrs["trainable"] < 0.1 * table.attrs["parameters"]
    for rank in (0, 2.0, True):
        with pytest.raises(FreezeError, match="a whole number from 1 on"):
            strategies.freeze_as(tiny, dict(adapters=rank))
    with pytest.raises(FreezeError, match="beside 'attn' or 'all' or 'every', got 'heads'"):
        strategies.freeze_as(tiny, dict(adapters=2, beside="heads"))
    with pytest.raises(FreezeError, match="has adapters already"):
        strategies.freeze_as(tiny, dict(adapters=2))


def test_norms_and_biases_are_all_that_trains(tiny, batch):
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    table = adapters.open_norms_and_biases(tiny)
    steps(tiny, batch)
    changed = {name for name, tensor in tiny.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.endswith("bias") or ".norm_" in name or "embed.1" in name for name in changed)
    assert all(name.startswith("enh_model") for name in changed)
    assert (
        table.attrs["trainable"]
        == sum(p.numel() for p in tiny.parameters() if p.requires_grad)
        < 0.05 * table.attrs["parameters"]
    )


def test_rates_fall_towards_the_input_and_cover_every_parameter_once(tiny):
    strategies.freeze_as(tiny, "everything, lower rates for earlier layers")
    groups = tiny.parameter_groups(1e-3)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3 * 0.7**k for k in range(5)])
    everyone = [p for group in groups for p in group["params"]]
    assert len(everyone) == len({id(p) for p in everyone}) == len(list(tiny.parameters()))
    assert any(p is tiny.xvector_model.embedding.weight for p in groups[-1]["params"])


@pytest.mark.parametrize("strategy", ["adapters of rank 8", "everything, lower rates for earlier layers"])
def test_they_train_and_resume_through_fit(tiny, batch, tmp_path, strategy):
    data = [{name: wave[i] for name, wave in batch.items()} for i in range(2)]
    strategies.freeze_as(tiny, strategy)
    history = fit(
        tiny,
        data,
        data,
        tmp_path / "run",
        epochs=2,
        batch_size=2,
        learning_rate=1e-2,
        precision="fp32",
        device="cpu",
        progress="none",
        scheduler="constant",
    )
    assert history["val_loss"].min() < history["val_loss"].iloc[0]
