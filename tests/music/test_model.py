"""The separator: shapes, the mask, one batch overfitted, freezing by groups, training that resumes, and what it
costs.
"""

import json

import made_songs
import numpy as np
import pytest
import torch

from lib import metrics
from lib.models.checkpoint import CheckpointError
from lib.music import layouts, training
from lib.music.model import CRNN, CRNNConfig, operations
from lib.training import freezing

torch.set_num_threads(1)
SR = 22050
SMALL = dict(channels=(4, 4, 6, 8), hidden=8, layers=1)
QUIET = dict(progress="none", device="cpu", precision="fp32")


def small(seed=0, **settings):
    return training.new(seed, **{**SMALL, **settings})


def test_sizes_are_those_of_the_description():
    config = CRNNConfig()
    assert (config.sample_rate, config.n_fft, config.hop_length, len(config.channels)) == (22050, 1024, 256, 4)
    model = CRNN(config)
    assert (
        isinstance(model.bottleneck, torch.nn.GRU)
        and model.bottleneck.num_layers == 3
        and model.bottleneck.bidirectional
    )
    assert [type(part).__name__ for part in (model.encoder[0][0], model.decoder[0][0])] == ["Conv2d", "ConvTranspose2d"]
    assert sum(p.numel() for p in model.parameters()) < 1_000_000


@pytest.mark.parametrize("samples", [1024, 5000, 22050])
def test_shapes_and_a_mask_between_zero_and_one(samples):
    model, mix = small().eval(), torch.randn(2, samples) * 0.1
    out = model(mix, mix)
    assert out.est.shape == mix.shape and out.loss.dim() == 0
    mask = model.mask(model.stft(mix).abs())
    assert mask.shape == model.stft(mix).shape and mask.shape[-1] == 513 and mask.min() >= 0 and mask.max() <= 1


def test_a_mask_of_ones_gives_the_mixture_back_and_levels_do_not_matter(monkeypatch):
    model, mix = small().eval(), torch.randn(1, 9000) * 0.1
    assert torch.allclose(model.separate(0.01 * mix), 0.01 * model.separate(mix), atol=1e-6)
    monkeypatch.setattr(CRNN, "mask", lambda self, magnitude: torch.ones_like(magnitude))
    assert torch.allclose(model.separate(mix), mix, atol=1e-5)


def test_losses_by_hand(monkeypatch):
    mix = torch.randn(2, 6000) * 0.1
    monkeypatch.setattr(CRNN, "mask", lambda self, magnitude: torch.full_like(magnitude, 0.25))
    for loss in ("magnitude", "spectrum"):
        model = small(loss=loss)
        assert model(mix, 0.75 * mix).loss.item() == pytest.approx(0.5, rel=1e-3)
        assert model(mix, torch.zeros_like(mix)).loss.item() == pytest.approx(0.25, rel=1e-3)
    flipped = -0.25 * mix  # right magnitudes, wrong phase: only the loss of the spectrum sees it
    assert small(loss="magnitude")(mix, flipped).loss < 1e-5 and small()(mix, flipped).loss > 0.4


def test_one_batch_is_overfitted():
    parts = [made_songs.stems(0.7, seed=seed, channels=1) for seed in range(2)]
    mix, target = (
        torch.from_numpy(np.stack([sum(part[name] for name in names)[:, 0] for part in parts]))
        for names in (made_songs.STEMS, ("vocals",))
    )
    model = small(channels=(8, 8, 16, 16), hidden=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(50):
        loss = model(mix, target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        est = model.eval()(mix).est
    assert (metrics.si_sdri(est, target, mix) > 10).all(), metrics.si_sdr(est, target)


def test_frozen_groups_keep_tensors_and_statistics_through_a_step():
    model = small()
    table = freezing.freeze_groups(model, model.groups(), ["decoder"])
    assert table["group"].tolist() == ["encoder", "bottleneck", "decoder"] and (table["trainable"] > 0).tolist() == [
        False,
        False,
        True,
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    mix = torch.randn(2, 8000)
    model.train()(mix, 0.5 * mix).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert (
        changed
        and all(name.startswith("decoder") for name in changed)
        and any("running_mean" in name for name in changed)
    )


def test_operations_by_hand_and_a_gru_against_an_lstm():
    model = small(layers=1)
    counted, frames = operations(model, 10.0), 1 + 10 * SR // 256
    recurrent = 2 * 3 * 8 * (8 * 16 + 8)  # two directions, three gates
    back = 2 * 8 * 8 * 16
    assert counted["bottleneck"] == pytest.approx(2 * (recurrent + back) * frames / 10)
    assert counted["encoder"] > 2 * 4 * 3 * 7 * 128 * frames / 10 and counted["total"] == pytest.approx(
        sum(v for k, v in counted.items() if k != "total")
    )
    weights = [sum(p.numel() for p in CRNN(CRNNConfig(rnn=rnn)).bottleneck.parameters()) for rnn in ("gru", "lstm")]
    assert weights[0] / weights[1] == pytest.approx(3 / 4)


def test_half_precision_weights_load_and_strangers_are_named(tmp_path):
    model = small(target="bass")
    expected = {name: value.half().to(value.dtype) for name, value in model.state_dict().items()}
    model.half().save_pretrained(tmp_path)
    again = CRNN.from_pretrained(tmp_path)
    assert again.config.target == "bass" and all(
        torch.equal(value, expected[name]) for name, value in again.state_dict().items()
    )
    assert again.separate(torch.randn(1, 4000)).dtype == torch.float32
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden": 9}))
    with pytest.raises(CheckpointError, match="does not fit its config: .*the config says"):
        CRNN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(target="voice"), "unknown target 'voice'; known are: vocals"),
        (dict(rnn="rnn"), "known are: gru, lstm"),
        (dict(strides=(4, 2, 2)), "equally many"),
        (dict(loss="l2"), "known are: magnitude, spectrum"),
    ],
)
def test_unknown_settings_are_errors(bad, message):
    with pytest.raises(ValueError, match=message):
        CRNNConfig(**bad)


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match=r"got \(2, 100\) and \(2, 90\)"):
        small()(torch.zeros(2, 100), torch.zeros(2, 90))


# --- training


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return layouts.open_songs(
        made_songs.plain(tmp_path_factory.mktemp("songs"), {"train": 2, "validation": 1}, seconds=5.0)
    )


def train(model, opened, out, **settings):
    return training.train(
        model,
        opened,
        out,
        items=12,
        seconds=1.0,
        **{**QUIET, "epochs": 3, "batch_size": 4, "learning_rate": 1e-2, **settings},
    )


def test_training_learns_resumes_as_if_uninterrupted_and_tells_what_it_did(opened, tmp_path):
    whole, heard = small(), []
    history = train(whole, opened, tmp_path / "whole", heard=heard.append)
    assert history["val_loss"].iloc[-1] < 0.9 * history["val_loss"].iloc[0] and len(heard) == 36
    record = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert (
        record["settings"]["optimizer"] == "Adam"
        and record["settings"]["weight_decay"] == 1e-5
        and record["settings"]["patience"] == 15
    )
    assert record["notes"]["songs"] == {"train": 2, "validation": 1} and record["notes"]["remix"]

    def stop(_):
        calls.append(1)
        if len(calls) == 12 + 5:
            raise KeyboardInterrupt

    calls, again = [], small()
    with pytest.raises(KeyboardInterrupt):
        train(again, opened, tmp_path / "again", heard=stop)
    torch.manual_seed(99)
    resumed = train(again, opened, tmp_path / "again", resume=True)
    assert resumed["train_loss"].tolist()[1:] == pytest.approx(
        history["train_loss"].tolist()[1:], rel=1e-6
    )  # the same remixes were drawn
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))


def test_fine_tuning_opens_only_the_groups_named(opened, tmp_path):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, opened, tmp_path / "run", epochs=1, open_groups=["decoder"])
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"decoder"}
    with pytest.raises(freezing.FreezeError, match="unknown group head; known are: encoder, bottleneck, decoder"):
        train(model, opened, tmp_path / "other", open_groups=["head"])
