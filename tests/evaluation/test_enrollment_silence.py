"""What is put into an enrollment lies where its name says, and each decision leaves it out."""

import numpy as np
import pytest

from lib.evaluation import enrollment_silence

SR = 16000


def test_ten_seconds_lie_where_they_should():
    said = np.linspace(0.1, 0.2, 4 * SR, dtype=np.float32)
    found = enrollment_silence.enrollments(said, np.random.default_rng(0))
    assert len(found) == 16 and found[None, "alone"] is said
    for place, at in (("before", 0), ("behind", 4 * SR), ("between", 2 * SR)):
        wave = found[-50.0, place]
        quiet = wave[at : at + 10 * SR]
        assert 20 * np.log10(quiet.std()) == pytest.approx(-50, abs=0.5)
        np.testing.assert_array_equal(np.delete(wave, np.s_[at : at + 10 * SR]), said)


@pytest.mark.parametrize("decision", ["energy", "webrtcvad"])
def test_a_decision_leaves_silence_out(decision):
    t = np.arange(4 * SR) / SR
    talk = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20)) * np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
    wave = np.concatenate([np.zeros(10 * SR), 0.2 * talk]).astype(np.float32)
    assert SR < len(enrollment_silence.DECISIONS[decision](wave)) < 5 * SR
    assert enrollment_silence.DECISIONS["all of it"](wave) is wave
