"""Freezing: the counts of the public size, and tensors, buffers and modes that hold whatever calls `train()`."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn

from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training.freezing import FreezeError, freeze, freeze_groups, groups_of, is_held, thaw
from lib.training.strategies import STRATEGIES, freeze_as

TINY = dict(
    adim=16, aheads=2, layers=3, linear_units=24, xvector_dim=8, xvector_channels=8, xvector_pool=12, enh_chunk_size=1
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny tensors on a busy machine: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):  # shapes without memory
        return ConVoiFilter(ConVoiFilterConfig())


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return ConVoiFilter(ConVoiFilterConfig(**TINY))


@pytest.fixture(scope="module")
def batch():
    waves = torch.randn(3, 2, 16000, generator=torch.Generator().manual_seed(1)) * 0.1
    return dict(mix=waves[0] + waves[1], target=waves[0], enrollment=waves[2])


@pytest.mark.parametrize(
    "settings, trainable",
    [
        (dict(depth=2, type="attn"), 10_498_048),
        (dict(depth=1, type="full"), 12_090_112),
        (dict(depth=4), 4 * 12_090_112),
        (dict(depth=0, open_spk_ffn=1), 1_536_512),
        (dict(depth=0, open_pre_ffn=1), 790_528),
        (dict(depth=0, open_mask=1), 263_425),
        (dict(depth=0, open_condition=1), 524_800),
        (dict(depth=2, type="attn", open_spk_ffn=1, open_mask=1), 10_498_048 + 1_536_512 + 263_425),
        (dict(depth=0), 0),
    ],
)
def test_counts_at_full_size(full_size, settings, trainable):
    table = freeze(full_size, **settings)
    assert list(table.columns) == ["group", "parameters", "trainable"]
    assert table["parameters"].sum() == table.attrs["parameters"] == 54_285_567
    assert table["trainable"].sum() == table.attrs["trainable"] == trainable
    assert sum(p.numel() for p in full_size.parameters() if p.requires_grad) == trainable


def test_pre_ffn_lies_before_the_conformer_and_mask_after(tiny):
    freeze(tiny, depth=0, open_pre_ffn=1)
    assert all(".conformer.embed." in name for name, p in tiny.named_parameters() if p.requires_grad)
    freeze(tiny, depth=0, open_mask=1)
    assert all(".separator.linear." in name for name, p in tiny.named_parameters() if p.requires_grad)


def test_depth_counts_from_the_last_block(tiny):
    freeze(tiny, depth=2, type="attn")
    assert {name.split("encoders.")[1].split(".")[0] for name, p in tiny.named_parameters() if p.requires_grad} == {
        "1",
        "2",
    }


def one_step(model, batch):
    """Train one step; returns the names of the tensors (parameters and buffers) that changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(**batch).loss.backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(  # of fresh adapters half have no gradient (test_adapters.py has them)
    "strategy",
    [name for name in STRATEGIES if name not in ("last 2 full", "last 1 full") and not name.startswith("adapters")],
)
def test_one_step_changes_what_is_open_and_nothing_else(tiny, batch, strategy):
    freeze_as(tiny, strategy)
    changed = one_step(tiny, batch)
    # a relu mask can leave single parameters without gradient, so "all open ones changed" is asked of what has a
    # gradient
    trainable = {name for name, p in tiny.named_parameters() if p.requires_grad and p.grad.abs().sum() > 0}
    assert len(trainable) > 0.9 * sum(p.requires_grad for p in tiny.parameters())
    assert changed == trainable  # no buffer among them: BatchNorm keeps its statistics
    assert all(p.grad is None for p in tiny.parameters() if not p.requires_grad)


def test_statistics_of_open_blocks_drift_only_where_asked(tiny, batch):
    freeze(tiny, depth=1, hold_norms=0)
    changed = one_step(tiny, batch)
    drifting = {name for name, _ in tiny.named_buffers() if "encoders.2." in name}
    assert drifting and drifting <= changed
    assert not any(name in changed for name, _ in tiny.named_buffers() if "encoders.2." not in name)


def test_frozen_modules_stay_in_eval_whoever_calls_train(tiny):
    freeze(tiny, depth=1, open_condition=1)
    conformer = tiny.enh_model.separator.conformer
    calls = [
        lambda: tiny.train(),
        lambda: tiny.enh_model.train(),
        lambda: conformer.encoders[0].train(),
        lambda: tiny.apply(lambda m: m.train()),
        lambda: nn.Sequential(tiny).train(),
    ]
    for call in calls:
        call()
        assert not any(
            m.training
            for m in [
                conformer.embed,
                conformer.embed[2],
                *conformer.encoders[0].modules(),
                *tiny.xvector_model.modules(),
            ]
        )
    tiny.train()
    open_parts = [m for m in conformer.encoders[2].modules() if not isinstance(m, nn.BatchNorm1d)]
    assert all(m.training for m in [tiny, *open_parts, tiny.dropout])
    assert not any(m.training for m in tiny.eval().modules())


def test_attention_only_leaves_the_dropout_of_its_block_off(tiny):
    freeze(tiny, depth=1, type="attn")
    tiny.train()
    block = tiny.enh_model.separator.conformer.encoders[2]
    assert block.self_attn.training and not block.dropout.training and not block.conv_module.norm.training


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: torch.load(_saved(model), weights_only=False),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_is_as_frozen_as_the_original(tiny, batch, copied):
    freeze(tiny, depth=1, type="attn")
    other = copied(tiny).train()
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in tiny.parameters()]
    assert [m.training for m in other.modules()] == [m.training for m in tiny.train().modules()]
    held = other.enh_model.separator.conformer.encoders[0]
    assert held.train.module is held  # and not the original's
    assert all("self_attn" in name for name in one_step(other, batch))


def test_a_frozen_model_that_is_let_go_is_gone(tiny):
    """At once, without a search for circles: on a GPU its memory would be taken twice else."""
    model = copy.deepcopy(tiny)
    freeze(model, depth=1)
    weight = weakref.ref(model.enh_model.separator.linear[0].weight)
    gc.collect()
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()


def _saved(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return buffer


def test_another_strategy_forgets_the_one_before(tiny):
    freeze(tiny, depth=0, open_mask=1)
    freeze(tiny, depth=2)
    twice = ([p.requires_grad for p in tiny.parameters()], [m.training for m in tiny.train().modules()])
    thaw(tiny)
    assert all(p.requires_grad for p in tiny.parameters()) and not any(is_held(m) for m in tiny.modules())
    freeze(tiny, depth=2)
    assert twice == ([p.requires_grad for p in tiny.parameters()], [m.training for m in tiny.train().modules()])


def test_the_speaker_layer_learns_through_enrollment_and_mixture(tiny, batch):
    freeze(tiny, depth=0, open_spk_ffn=1)
    tiny.eval()
    weight = tiny.xvector_model.embedding.weight

    def gradient(embedding):
        return torch.autograd.grad(
            tiny(batch["mix"], embedding=embedding, target=batch["target"]).loss, weight, retain_graph=True
        )[0]

    embedding = tiny.embed(batch["enrollment"])
    through_mixture = gradient(embedding.detach())
    free = embedding.detach().requires_grad_()
    upstream = torch.autograd.grad(tiny(batch["mix"], embedding=free, target=batch["target"]).loss, free)[0]
    through_enrollment = torch.autograd.grad(embedding, weight, upstream, retain_graph=True)[0]
    both = torch.autograd.grad(tiny(**batch).loss, weight)[0]
    assert through_mixture.abs().max() > 0 and through_enrollment.abs().max() > 0
    torch.testing.assert_close(both, through_mixture + through_enrollment, rtol=1e-3, atol=1e-6)


def saved_bytes(model, batch):
    """Bytes that autograd keeps for the backward pass, the weights themselves aside."""
    weights, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).loss
    assert loss.requires_grad
    return sum(kept.values())


def test_frozen_parts_keep_no_activations(tiny, batch):
    used = {}
    for depth in (1, 2, 3):
        freeze(tiny, depth=depth)
        used[depth] = saved_bytes(tiny, batch)
    thaw(tiny)
    used["all"] = saved_bytes(tiny, batch)
    freeze(tiny, depth=0, open_mask=1)
    used["mask"] = saved_bytes(tiny, batch)
    a_block = used[2] - used[1]
    assert (
        a_block > 0 and abs((used[3] - used[2]) / a_block - 1) < 0.1
    )  # each more block costs as much as the one before
    assert used["mask"] < used[1] - 0.9 * a_block and used["all"] > used[3] + a_block


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(depth=4), ["3 Conformer blocks", "0 to 3"]),
        (dict(depth=-1), ["0 to 3"]),
        (dict(depth=1.5), ["whole number"]),
        (dict(depth=1, type="half"), ["'half'", "full", "attn"]),
        (dict(depth=1, open_mask=2), ["open_mask", "0 (frozen) or 1 (open)"]),
        (
            dict(depth=1, open_xvector=1),
            ["open_xvector", "open_spk_ffn", "open_pre_ffn", "open_mask", "open_condition"],
        ),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(tiny, settings, words):
    before = [p.requires_grad for p in tiny.parameters()]
    with pytest.raises(FreezeError) as error:
        freeze(tiny, **settings)
    assert all(word in str(error.value) for word in words)
    assert before == [p.requires_grad for p in tiny.parameters()]


def test_an_unknown_strategy_lists_the_known_ones(tiny):
    with pytest.raises(FreezeError, match="head only.*last 2 full.*everything"):
        freeze_as(tiny, "tail only")


def test_groups_of_any_model():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(4, 5))
    table = freeze_groups(
        model, {"features": [model[0], model[1]], "bias": model[0].bias, "head": model[3]}, open={"bias", "head"}
    )
    assert table.set_index("group")["parameters"].to_dict() == {"features": 6 + 4, "bias": 2, "head": 25}
    assert table.set_index("group")["trainable"].to_dict() == {"features": 0, "bias": 2, "head": 25}
    assert [m.training for m in model.train()] == [False, False, False, True]
    assert freeze_groups(model, {"head": model[3]}, {"head"})["group"].tolist() == ["head", "other"]


def test_groups_that_do_not_fit_are_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(FreezeError, match="unknown group tail; known are: head"):
        freeze_groups(model, {"head": model[1]}, {"tail"})
    with pytest.raises(FreezeError, match="'foreign' names a part that is not"):
        freeze_groups(model, {"foreign": nn.Linear(2, 2)}, set())
    with pytest.raises(FreezeError, match="'a' and 'b' name the same part"):
        freeze_groups(model, {"a": model[0], "b": model[0]}, {"a"})


def test_every_parameter_has_a_group(full_size):
    assert "other" not in freeze_groups(full_size, groups_of(full_size), set())["group"].tolist()
