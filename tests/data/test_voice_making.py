"""Made-up voices: the pitch goes where it is sent, the formants where they are sent, and names say whose voice it
was.
"""

import numpy as np
import pandas as pd
import pytest

from lib.data import voice_making

SR = 16000


def vowel(pitch=120.0, formant=1000.0, seconds=1.0):
    """Harmonics of `pitch` under a bell around `formant` (Hz)."""
    t, k = np.arange(int(seconds * SR)) / SR, np.arange(1, 40)
    level = np.exp(-0.5 * ((k * pitch - formant) / 250) ** 2) + 0.01
    wave = (level[:, None] * np.sin(2 * np.pi * k[:, None] * pitch * t)).sum(0)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def pitch_and_formant(wave):
    """The distance of the harmonics and the middle of the envelope, in Hz."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 2**16)) ** 2
    hz = np.fft.rfftfreq(2**16, 1 / SR)
    correlation = np.fft.irfft(power)
    lags = np.arange(SR // 300, SR // 70)
    return SR / lags[np.argmax(correlation[lags])], (hz * power).sum() / power.sum()


@pytest.mark.parametrize("pitch, tract", [(1.0, 1.0), (1.25, 1.25), (1.25, 1.0), (0.8, 1.0), (1.0, 1.18), (1.0, 0.85)])
def test_pitch_and_formants_move_apart_from_each_other(pitch, tract):
    f0, formant = pitch_and_formant(vowel())
    changed = voice_making.change(vowel(), pitch, tract)
    new_f0, new_formant = pitch_and_formant(changed)
    assert new_f0 == pytest.approx(pitch * f0, rel=0.03)
    assert new_formant == pytest.approx(tract * formant, rel=0.08)
    assert len(changed) == pytest.approx(SR / pitch, abs=2) and np.isfinite(changed).all()


def test_silence_stays_silent():
    assert np.abs(voice_making.change(np.zeros(8000, np.float32), 1.2, 0.9)).max() == 0


def test_table_of_made_up_voices():
    table = pd.DataFrame(dict(speaker=["a"] * 4 + ["b"] * 2, path="x.flac", seconds=50.0, sex="F"))
    made = voice_making.make_voices(table, 3, seconds=100, seed=1)
    assert set(made.speaker) == {f"{name}~{k}" for name in "ab" for k in (1, 2, 3)}
    assert (made.groupby("speaker").seconds.sum() <= 150).all() and made.groupby("speaker").pitch.nunique().eq(1).all()
    assert made.pitch.between(0.74, 1.34).all() and made.tract.between(0.84, 1.19).all()
    assert len(voice_making.make_voices(table, 0)) == 0
