"""Silence in an enrollment does not count; how much speech was found is said."""

import warnings

import numpy as np
import pytest

from lib.models.enrollment import checked, speech

SR = 16000
RANDOM = np.random.default_rng(0)


def talk(seconds, level=0.1):
    """Noise in syllables of a fifth of a second, with short pauses."""
    t = np.arange(int(seconds * SR)) / SR
    return (level * RANDOM.standard_normal(len(t)) * np.clip(np.sin(2 * np.pi * 2.5 * t), 0.02, 1)).astype(np.float32)


def room(seconds, dbfs):
    return (10 ** (dbfs / 20) * RANDOM.standard_normal(int(seconds * SR))).astype(np.float32)


@pytest.mark.parametrize("level", [0.3, 0.1, 0.001])
def test_speech_throughout_comes_back_as_it_is(level):
    wave = talk(4, level)
    assert speech(wave, SR)[0] is wave and speech(wave, SR)[1] == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("noise", [-200, -60, -50, -40])
@pytest.mark.parametrize("where", ["before", "behind", "between"])
def test_ten_seconds_of_a_room_are_left_out(noise, where):
    said, quiet = talk(4), room(10, noise)
    half = len(said) // 2
    wave = {
        "before": np.r_[quiet, said],
        "behind": np.r_[said, quiet],
        "between": np.r_[said[:half], quiet, said[half:]],
    }[where]
    kept, seconds = speech(wave, SR)
    assert len(kept) / SR == pytest.approx(4, abs=0.5) and seconds == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("noise", [-55, -50, -45])
def test_noise_that_swings_as_low_noise_does_is_left_out(noise):
    swing = np.repeat(np.exp(0.35 * RANDOM.standard_normal(500)), SR // 50)  # each 20 ms at a level of its own
    kept, seconds = speech(np.r_[room(10, noise) * swing.astype(np.float32), talk(4)], SR)
    assert len(kept) / SR == pytest.approx(4, abs=0.7) and seconds == pytest.approx(4, abs=0.7)


def test_a_click_does_not_set_the_measure():
    wave = talk(4)
    wave[1000:1050] = 1.0
    assert len(speech(wave, SR)[0]) > 3.5 * SR


def test_little_speech_is_said_with_its_seconds():
    with pytest.warns(UserWarning, match=r"enrollment: [12]\.\d s of speech found in 12.0 s is short"):
        checked(np.r_[np.zeros(10 * SR, np.float32), talk(2)], SR)


@pytest.mark.parametrize(
    "wave, said",
    [
        (np.zeros(3 * SR), "enrollment: silent"),
        (np.full(3 * SR, 0.5), "enrollment: silent"),
        (np.zeros(SR // 2), "enrollment: 0.50 s is too short"),
        (np.r_[np.zeros(5 * SR), talk(0.15), np.zeros(5 * SR)], "s of speech found in"),
    ],
)
def test_no_speech_is_refused(wave, said):
    with pytest.raises(ValueError, match=said):
        checked(np.asarray(wave, np.float32), SR)


@pytest.mark.parametrize(
    "wave",
    [RANDOM.integers(-1, 2, 4 * SR) / 32768, room(4, -40), 0.1 * np.sin(2 * np.pi * 440 / SR * np.arange(4 * SR))],
)
def test_dither_noise_and_a_tone_are_said_and_speech_in_noise_is_not(wave):
    with pytest.warns(UserWarning, match="changes as little as that of noise"):
        checked(np.asarray(wave, np.float32), SR)
    said = talk(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked(said, SR)
        checked(said + room(4, 20 * np.log10(said.std())), SR)
