"""The frozen-prefix cache: the same numbers as without it, never stale, never beyond its limit."""

import numpy as np
import pytest
import torch

from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing, prefix
from lib.training.fit import fit, pad
from lib.training.settings import accepted_by

STAGES = {  # arguments of `freeze` -> the stage that may be cached
    "hidden_3": dict(depth=0, open_mask=1),
    "hidden_2": dict(depth=1, type="attn"),
    "hidden_1": dict(depth=2),
    "embeddings": dict(depth=1, open_pre_ffn=1),
    "statistics": dict(depth=1, open_spk_ffn=1),
}


def tiny(seed=0, fill="zeros"):
    torch.manual_seed(seed)
    return ConVoiFilter(
        ConVoiFilterConfig(
            adim=32,
            aheads=2,
            layers=3,
            linear_units=48,
            xvector_dim=16,
            xvector_channels=16,
            xvector_pool=24,
            enh_chunk_size=0.5,
            hop_length=256,
            fill=fill,
        )
    )


class Waves(torch.utils.data.Dataset):
    """Mixtures of noise and a tone, one of them longer than a chunk; `moving` draws new noise at each reading."""

    def __init__(self, count=4, moving=False, seed=1):
        generator = torch.Generator().manual_seed(seed)
        self.moving, self.items = moving, []
        for i in range(count):
            samples = 8000 if i else 12000
            target = 0.3 * torch.sin(torch.arange(samples) * (0.1 + 0.02 * i))
            self.items.append(
                dict(
                    target=target,
                    mix=target + 0.1 * torch.randn(samples, generator=generator),
                    enrollment=0.1 * torch.randn(9000 + 1000 * i, generator=generator),
                    index=i,
                )
            )

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        item = dict(self.items[i])
        return {**item, "mix": item["mix"] + 0.01 * torch.randn(len(item["mix"]))} if self.moving else item


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefix"


def ready(model, **how):
    how = {**dict(limit_gb=1, precision="fp32", device="cpu"), **how}
    data = how.pop("data", None) or Waves()
    return prefix.prepare(model, data, Waves(2, seed=2), pad, **how)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_lies_before_the_first_trainable_part(stage):
    model = tiny()
    freezing.freeze(model, **STAGES[stage])
    assert prefix.stage_of(model) == stage


def test_no_stage_where_the_front_trains_or_is_frozen_without_its_mode():
    model = tiny()
    assert prefix.stage_of(model) is None
    model.requires_grad_(False)  # dropout and BatchNorm of the frozen front would still run in training
    model.enh_model.separator.linear.requires_grad_(True)
    assert prefix.stage_of(model) is None


@pytest.mark.parametrize("stage", STAGES)
def test_cached_loss_and_gradient_are_those_of_the_whole_graph(stage):
    model = tiny()
    freezing.freeze(model, **STAGES[stage])
    train, _, collate, note = ready(model)
    assert note == stage
    model.train()
    results = []
    for data, pack in ((Waves(), pad), (train, collate)):
        model.zero_grad()
        torch.manual_seed(5)  # dropout of the trainable part
        batch = pack([data[i] for i in range(4)])
        loss = model(**{name: value for name, value in batch.items() if name in accepted_by(model)}).loss
        loss.backward()
        results.append((loss.item(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    (loss, gradients), (cached_loss, cached_gradients) = results
    assert cached_loss == pytest.approx(
        loss, abs=2e-3
    )  # dB; in training mode BatchNorm and dropout enlarge the rounding to half precision
    whole = torch.cat([g.flatten() for g in gradients])
    difference = whole - torch.cat([g.flatten() for g in cached_gradients])
    assert difference.norm() < 0.02 * whole.norm() and whole.norm() > 0


@pytest.mark.parametrize(
    "stage, fill", [*((stage, "zeros") for stage in STAGES), ("hidden_2", "repeat"), ("statistics", "repeat")]
)
def test_cached_loss_in_evaluation(stage, fill):
    model = tiny(fill=fill)
    freezing.freeze(model, **STAGES[stage])
    train, _, collate, _ = ready(model)
    batch, cached = pad([Waves()[i] for i in range(4)]), collate([train[i] for i in range(4)])
    batch["target"] = cached["target"] = torch.randn(
        batch["target"].shape
    )  # far from the estimate, so that the loss is far from 0 dB
    losses = [
        model.eval()(**{name: value for name, value in given.items() if name in accepted_by(model)}).loss.item()
        for given in (batch, cached)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and abs(losses[0]) > 5


def test_fit_with_and_without_the_cache_gives_the_same_history(tmp_path, own_cache):
    histories = []
    for name, limit in (("plain", 0.0), ("cached", 1.0)):
        model = tiny()
        freezing.freeze(model, 1)
        histories.append(
            fit(
                model,
                Waves(),
                Waves(2, seed=2),
                tmp_path / name,
                epochs=3,
                batch_size=2,
                precision="fp32",
                cache_gb=limit,
                learning_rate=1e-3,
                device="cpu",
                progress="none",
            )
        )
    plain, cached = histories
    np.testing.assert_allclose(cached["val_loss"], plain["val_loss"], atol=0.02)  # dB, over a fall of 5 dB
    np.testing.assert_allclose(cached["train_loss"][1:], plain["train_loss"][1:], atol=0.02)
    assert plain["val_loss"].iloc[0] - plain["val_loss"].iloc[-1] > 3
    assert list(own_cache.glob("*hidden_2.npy"))


def test_second_call_computes_nothing_and_other_weights_or_data_compute_anew(own_cache, monkeypatch):
    model = tiny()
    freezing.freeze(model, 1)
    ready(model)
    first = set(own_cache.glob("*.npy"))
    with monkeypatch.context() as patch:
        patch.setattr(prefix, "compute", lambda *a: pytest.fail("computed again"))
        ready(model)
    with torch.no_grad():  # the trainable block is not in the prefix ...
        model.enh_model.separator.conformer.encoders[2].norm_ff.weight += 1
    ready(model)
    assert set(own_cache.glob("*.npy")) == first
    with torch.no_grad():  # ... the one before it is
        model.enh_model.separator.conformer.encoders[1].norm_ff.weight += 0.01
    ready(model)
    assert len(set(own_cache.glob("*.npy"))) == 2 * len(first)
    ready(model, data=Waves(seed=9))
    ready(model, precision="bf16")
    assert len(set(own_cache.glob("*.npy"))) == 2 * len(first) + 1 + 2
    model.config.fill = "repeat"
    ready(model)
    assert len(set(own_cache.glob("*.npy"))) == 3 * len(first) + 1 + 2


def test_limit_falls_back_to_embeddings_and_says_so(own_cache):
    model, said = tiny(), []
    freezing.freeze(model, 1)
    _, _, _, note = ready(model, limit_gb=1e-6, say=said.append)
    assert note == "embeddings" and len(said) == 1 and "cache_gb" in said[0]
    assert not list(own_cache.glob("*hidden*"))


def test_oldest_entries_go_when_the_folder_is_full(own_cache):
    model = tiny()
    freezing.freeze(model, 1)
    ready(model)
    old = set(own_cache.glob("*.npy"))
    size = sum(path.stat().st_size for path in old)
    ready(model, data=Waves(seed=9), limit_gb=1.2 * size / 2**30)
    assert (
        not old & set(own_cache.glob("*.npy"))
        or sum(path.stat().st_size for path in own_cache.glob("*.npy")) <= 1.2 * size
    )


def test_data_made_on_the_fly_turns_it_off_with_one_line():
    model, said = tiny(), []
    freezing.freeze(model, 1)
    train, _, _collate, note = ready(model, data=Waves(moving=True), say=said.append)
    assert note.startswith("off") and len(said) == 1 and "on the fly" in said[0] and "prefix" not in train[0]


def test_interrupted_filling_leaves_nothing(own_cache, monkeypatch):
    model, real, calls = tiny(), prefix.compute, []
    freezing.freeze(model, 1)

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(prefix, "compute", breaks)
    with pytest.raises(KeyboardInterrupt):
        ready(model, batch_size=2)
    assert list(own_cache.iterdir()) == []


def test_frozen_parts_keep_no_activations():
    """Without the cache too: what autograd keeps for depth 1 is what it keeps for the last block alone."""
    kept = {}
    for depth in (1, 3):
        model, sizes = tiny(), []
        freezing.freeze(model, depth)
        batch = pad([Waves()[1]])
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            model.train()(mix=batch["mix"], target=batch["target"], enrollment=batch["enrollment"])
        kept[depth] = sum(sizes)
    assert kept[1] < 0.55 * kept[3]
