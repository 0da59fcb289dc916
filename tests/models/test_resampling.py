"""Change of rate against tones whose every sample is known, and what would alias is gone."""

import numpy as np
import pytest

from lib.models.resampling import to_rate


def tones(sr, seconds=1.0, top=3300.0):
    times = np.arange(round(sr * seconds)) / sr
    return sum(0.1 * np.sin(2 * np.pi * hz * times + hz) for hz in (60.0, 300.0, 1000.0, 2500.0, top)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    "sr_from, sr_to, error_db",
    [(48000, 16000, -110), (16000, 44100, -110), (11025, 16000, -110), (13440, 16000, -110), (15999, 16000, -70)],
)
def test_tones_come_out_as_themselves(sr_from, sr_to, error_db):
    made, wanted = to_rate(tones(sr_from), sr_from, sr_to), tones(sr_to)
    assert made.dtype == np.float32 and len(made) == len(wanted)
    middle = slice(1000, -1000)
    assert 10 * np.log10(np.mean((made - wanted)[middle] ** 2) / np.mean(wanted[middle] ** 2)) < error_db


def test_what_would_alias_is_gone_and_one_rate_changes_nothing():
    high = np.sin(2 * np.pi * 12000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(to_rate(high, 48000, 16000)[500:-500]).max() < 1e-5
    assert to_rate(high, 16000, 16000) is high


def test_blocks_join_without_a_seam():
    wave = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    whole, part = to_rate(wave, 22050, 16000), to_rate(wave[:100_000], 22050, 16000)
    np.testing.assert_allclose(whole[:70_000], part[:70_000], atol=1e-5)
