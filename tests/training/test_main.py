"""A run's settings.json is enough to run it elsewhere: alone, and by two processes that share each batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lib import runs
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import __main__ as elsewhere
from lib.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory):
    """A small model, a small Dataset folder, and a settings.json that names both by absolute paths."""
    place = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(0)
    ConVoiFilter(
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
            dropout=0.0,
            positional_dropout=0.0,
            attention_dropout=0.0,
            condition_dropout=0.0,
        )
    ).save_pretrained(place / "model")
    rng, t = np.random.default_rng(0), np.arange(8000) / 16000
    for split, count in (("Train", 8), ("Val", 4)):
        for i in range(1, count + 1):
            clean = 0.2 * np.sin(2 * np.pi * (200 + 20 * i) * t)
            for folder, name, wave in (
                ("Clean", "clean", clean),
                ("Mix", "mix", clean + 0.1 * rng.standard_normal(8000)),
                ("Target", "enrollment", 0.1 * rng.standard_normal(16000)),
            ):
                path = place / "Dataset" / f"{split}_Dataset" / folder / f"{name}_{i:06d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wave, 16000)
    notes = dict(
        pretrained=str(place / "model"),
        dataset=str(place / "Dataset"),
        strategy=dict(depth=1, type="attn"),
        train_items=None,
        val_items=None,
    )
    settings = dict(
        epochs=2,
        batch_size=4,
        learning_rate=1e-2,
        scheduler="constant",
        precision="fp32",
        device="cpu",
        progress="none",
    )
    file = place / "settings.json"
    runs.write_json(file, dict(settings=settings, notes=notes))
    return file


def test_two_processes_give_the_numbers_of_one(settings_file, tmp_path):
    one = elsewhere.train_as(settings_file, tmp_path / "one")
    assert one["val_loss"].iloc[0] - one["val_loss"].iloc[-1] > 0.1  # something was learnt
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "0",
        "--rdzv_backend",
        "c10d",
        "--rdzv_endpoint",
        "localhost:0",
        "-m",
        "lib.training",
        str(settings_file),
        "--out",
        str(tmp_path / "two"),
        "--set",
        "resident=on",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORKBOOK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    two = runs.read_history(tmp_path / "two" / "history.csv")
    np.testing.assert_allclose(two["val_loss"], one["val_loss"], rtol=1e-3)
    assert (tmp_path / "two" / "best" / "model.safetensors").is_file() and not list(
        (tmp_path / "two").glob("checkpoint-*")
    )
    assert runs.read_json(tmp_path / "two" / "settings.json")["finished"]
    assert done.stdout.count("best epoch") == 1
    assert done.stdout.count("does not stay on the device: several processes share it.") == 1


def test_adapters_are_trained_again_and_come_off(settings_file, tmp_path):
    record = runs.read_json(settings_file)
    record["notes"]["strategy"] = dict(adapters=2)
    runs.write_json(tmp_path / "settings.json", record)
    elsewhere.main([str(tmp_path / "settings.json"), "--out", str(tmp_path / "run"), "--set", "epochs=1"])
    start = ConVoiFilter.from_pretrained(record["notes"]["pretrained"]).state_dict()
    tuned, off = (ConVoiFilter.from_pretrained(tmp_path / "run/best", **how) for how in ({}, {"adapters": None}))
    assert all(torch.equal(one, start[name]) for name, one in off.state_dict().items())
    assert any(not torch.equal(one, start[name]) for name, one in tuned.state_dict().items())


def test_settings_can_be_changed_and_the_run_of_the_file_is_not_overwritten(settings_file, tmp_path):
    elsewhere.main([str(settings_file), "--out", str(tmp_path / "run"), "--set", "epochs=1", "learning_rate=1e-3"])
    assert runs.read_json(tmp_path / "run" / "settings.json")["settings"]["epochs"] == 1
    with pytest.raises(SystemExit, match="already a run here"):
        elsewhere.main([str(settings_file), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="unknown setting epoch;"):
        elsewhere.main([str(settings_file), "--out", str(tmp_path / "other"), "--set", "epoch=1"])


def test_a_file_that_does_not_say_enough_is_refused_by_name(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(dict(settings={}, notes=dict(pretrained="x"))))
    with pytest.raises(runs.RunError, match=r"settings.json: its notes do not say dataset, strategy"):
        elsewhere.train_as(file)


def test_values_on_the_command_line():
    assert [elsewhere.value(text) for text in ("3", "1e-3", "cosine")] == [3, 1e-3, "cosine"]
    assert Settings.of(dict(epochs=elsewhere.value("3"))).epochs == 3
