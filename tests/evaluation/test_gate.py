"""The gate: what it lets through, that its ramps do not click, and that a recording is silenced by it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib import runs
from lib.evaluation import gate
from lib.evaluation.presence import FRAME, HOP, SR, Presence
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training.equaliser import at_home, fit_equaliser


def presence_of(similarities, levels, seconds):
    return SimpleNamespace(
        similarities=np.array(similarities),
        levels=np.array(levels),
        hop=HOP,
        est_db=np.zeros(int(seconds * SR / FRAME)),
    )


def test_similarity_and_level_decide_together():
    found = gate.Gate(0.01, 0.6)
    np.testing.assert_allclose(gate.evidence([0.9, 0.9, 0.5], [0.0, -90.0, 6.0], 0.01), [0.9, 0.5, 0.5])
    frames = gate.gains(presence_of([0.9] * 5 + [0.3] * 5, [0.0] * 10, 10), found)
    assert frames[:30].all() and not frames[60:].any() and set(frames) == {0.0, 1.0}
    assert not gate.gains(presence_of([0.62] * 5, [-25.0] * 5, 5), found).any()  # like the person, but next to nothing


def test_a_wave_is_silenced_with_ramps_and_in_blocks_as_in_one():
    frames = np.r_[np.ones(10), np.zeros(10), np.ones(10)].astype(np.float32)
    wave = np.ones(30 * FRAME, np.float32)
    whole = gate.apply(wave, frames)
    assert whole[: 9 * FRAME].all() and not whole[11 * FRAME : 19 * FRAME].any() and abs(np.diff(whole)).max() < 1e-3
    parts = np.concatenate([gate.apply(part, frames, at) for at, part in ((0, wave[:5000]), (5000, wave[5000:]))])
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_levels_of_windows_are_the_estimates_over_the_mixtures(monkeypatch):
    monkeypatch.setattr(Presence, "_embed", lambda self, windows: np.ones((len(windows), 4)) / 2)
    mix = 0.1 * np.random.default_rng(0).standard_normal(4 * SR).astype(np.float32)
    heard = Presence(mix[:SR])
    heard.hear(mix, 0.1 * mix)
    heard.hear(np.zeros(0, np.float32), np.zeros(0, np.float32), last=True)
    np.testing.assert_allclose(heard.levels, -20.0, atol=0.01)
    assert len(heard.levels) == len(heard.similarities)


def test_somebody_else_is_silenced_and_the_person_is_not(monkeypatch):
    """A stand-in encoder that knows two noises apart by their lower half of the spectrum."""

    def embed(self, windows):
        power = np.abs(np.fft.rfft(windows, axis=-1)) ** 2
        half = power.shape[-1] // 2
        both = np.stack([power[:, :half].sum(-1), power[:, half:].sum(-1)], axis=-1)
        return both / np.linalg.norm(both, axis=-1, keepdims=True)

    monkeypatch.setattr(Presence, "_embed", embed)
    rng, seconds = np.random.default_rng(0), 6
    noise = np.fft.rfft(rng.standard_normal(seconds * SR))
    low, high = noise.copy(), noise.copy()
    low[len(noise) // 2 :], high[: len(noise) // 2] = 0, 0
    low, high = (0.1 * np.fft.irfft(part).astype(np.float32) for part in (low, high))
    wave, turns = gate.gated(low, low, low[: 2 * SR])
    assert turns == [(0.0, pytest.approx(seconds))] and np.array_equal(wave, low)
    assert gate.gated(low[:-700], low[:-700], low[: 2 * SR])[1][-1][1] == (len(low) - 700) / SR  # not past its end
    wave, turns = gate.gated(high, high, low[: 2 * SR], whole=True)
    assert turns == [] and not wave.any()
    wave, turns = gate.gated(high, high, low[: 2 * SR])  # nothing is sure: what came out is kept
    assert turns == [] and np.array_equal(wave, high)
    found = gate.calibrate([(low, low, low[: 2 * SR], True), (high, high, low[: 2 * SR], False)])
    assert gate.gated(low, low, low[: 2 * SR], found)[1] and not gate.gated(high, high, low[: 2 * SR], found)[1]
    with pytest.raises(ValueError, match="who are not"):
        gate.calibrate([(low, low, low[: 2 * SR], True)])


def test_the_gate_of_a_place_goes_with_its_model(tmp_path):
    sizes = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24)
    model = ConVoiFilter(ConVoiFilterConfig(**sizes))
    assert gate.of(model) == gate.STUDIO
    model.config.equaliser = [[1.0, 0.0]] * 257
    assert gate.of(model) is None  # a place's model, and nobody knows its gate yet
    model.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    gate.keep(tmp_path, gate.Gate(0.02, 0.31))
    assert json.loads((tmp_path / "config.json").read_text()) == {**before, "gate": [0.02, 0.31]}
    assert gate.of(ConVoiFilter.from_pretrained(tmp_path)) == gate.Gate(0.02, 0.31)
    assert gate.of(ConVoiFilter.from_pretrained(tmp_path, equaliser=None)) == gate.STUDIO  # at home
    there = ConVoiFilter.from_pretrained(tmp_path)
    with at_home(there):
        assert gate.of(there) == gate.STUDIO
    assert gate.of(there) == gate.Gate(0.02, 0.31)
    wave = 0.1 * torch.randn(3, 16000)
    again = fit_equaliser(there, [{"mix": wave[0] + wave[1], "target": wave[0], "enrollment": wave[2]}])
    assert gate.of(again) is None  # another place: its gate is not known


@pytest.mark.parametrize("numbers", [[0.3], [1, 2, 3], [0.04, float("nan")], [float("inf"), 0.2], [-1.0, 0.3]])
def test_a_gate_is_two_numbers(tmp_path, numbers):
    with pytest.raises(ValueError, match="two numbers"):
        ConVoiFilterConfig(gate=numbers)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="two numbers"):
        gate.keep(tmp_path, numbers)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("odd", [True, 0, "ab", {"weight": 1}, [True, False], ["a", "b"]])
def test_other_gates_are_refused(odd):
    with pytest.raises(ValueError, match="two numbers"):
        ConVoiFilterConfig(gate=odd)


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(runs.RunError, match="config.json"):
        gate.keep(tmp_path, gate.STUDIO)


def test_silence_does_not_pass_however_low_the_threshold():
    quiet = presence_of([0.0] * 5, [0.0] * 5, 5)
    quiet.est_db[:] = -90.0
    assert not gate.gains(quiet, gate.Gate(0.04, -0.5)).any()
