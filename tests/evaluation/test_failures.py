"""Failures are numbers: each is zero or low where nothing is wrong and high where we put the failure in ourselves."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.evaluation import failures

SR = 16000


@pytest.fixture(scope="module")
def pair():
    """A target with pauses, and another person; float32 `(5 s,)`."""
    random = np.random.default_rng(0)
    time = np.arange(5 * SR) / SR
    target = random.standard_normal(5 * SR) * (np.sin(2 * np.pi * 0.6 * time) > 0) * 0.1
    other = random.standard_normal(5 * SR) * (np.sin(2 * np.pi * 0.9 * time + 1) > 0) * 0.08
    return target.astype(np.float32), other.astype(np.float32)


def test_the_margin_says_whose_voice_it_is(pair):
    target, other = pair
    mix = target + other
    assert failures.margin_to_others(target + 0.1 * other, target, mix) > 15
    assert failures.margin_to_others(other + 0.1 * target, target, mix) < -15
    assert failures.margin_to_others(np.zeros_like(mix), target, mix) == 0


def test_dropped_share_counts_missing_speech_and_not_level(pair):
    target, _ = pair
    assert failures.dropped_share(0.01 * target, target) == 0
    half = target * (np.arange(len(target)) > len(target) / 2)
    spoken = np.sin(2 * np.pi * 0.6 * np.arange(len(target)) / SR) > 0
    expected = spoken[: len(target) // 2].sum() / spoken.sum()
    assert failures.dropped_share(half, target) == pytest.approx(expected, abs=0.02)
    assert failures.dropped_share(np.zeros_like(target), target) == 1
    assert np.isnan(failures.dropped_share(target, np.zeros_like(target)))


def test_kurtosis_rises_with_isolated_specks_and_not_with_plain_noise(pair):
    target, _ = pair
    random = np.random.default_rng(1)
    noise = 0.02 * random.standard_normal(len(target)).astype(np.float32)
    mix = target + noise
    spectrum = np.fft.rfft(noise.reshape(-1, FRAME := 400))
    specks = np.fft.irfft(spectrum * (random.random(spectrum.shape) < 0.05), n=FRAME).reshape(-1).astype(np.float32)
    assert abs(failures.log_kurtosis_ratio(target + 0.3 * noise, target, mix)) < 0.05
    assert failures.log_kurtosis_ratio(target + specks, target, mix) > 0.3
    assert np.isnan(failures.log_kurtosis_ratio(target + 1e-4 * noise, target, mix))  # too faint to hear
    assert np.isnan(failures.log_kurtosis_ratio(mix, noise, mix))  # a target without pauses


class Items(torch.utils.data.Dataset):
    def __init__(self, count=7, samples=SR):
        self.waves = torch.from_numpy(
            np.random.default_rng(2).standard_normal((count, 3, samples)).astype(np.float32) * 0.1
        )

    def __len__(self):
        return len(self.waves)

    def __getitem__(self, place):
        target, other, enrollment = self.waves[place]
        return dict(mix=target + other, target=target, enrollment=enrollment, index=place + 1)


def test_long_mixtures_join_one_speaker_and_cut_the_lead():
    items = Items()
    long = failures.join(items, list("aabbbab"), count=3, pieces=2, lead=0.5)
    assert len(long) == 3 and all(len(item["mix"]) == 1.5 * SR for item in long)
    first = np.concatenate([items[0]["mix"], items[1]["mix"]])[SR // 2 :]
    np.testing.assert_array_equal(long[0]["mix"], first)
    np.testing.assert_array_equal(
        long[2]["target"], np.concatenate([items[5]["target"], items[0]["target"]])[SR // 2 :]
    )
    alone = failures.join(items, None, count=2, pieces=2)
    np.testing.assert_array_equal(alone[1]["mix"], np.concatenate([items[1]["mix"]] * 2)[SR // 2 :])


class Seamy:
    """Stands for a model whose chunks jump in sign where they meet, unless they overlap."""

    chunk = SR

    def extract(self, mix, enrollment, sr=SR, overlap=0.0):
        return mix if overlap else mix * np.where(np.arange(len(mix)) // SR % 2, -1, 1).astype(np.float32)


def test_seams_are_found_where_chunks_meet():
    assert np.flatnonzero(failures._seams(100, 40, 3)).tolist() == [*range(37, 43), *range(77, 83)]
    table = failures.compare_overlaps(Seamy(), failures.join(Items(), count=2), overlaps=(0.0, 0.5), progress=False)
    means = table.groupby("overlap")["seam_si_sdr"].mean()
    assert means[0.0] < -20 and means[0.5] > -3


class Louder:
    """Stands for a model that answers loudly to one enrollment and faintly to any other."""

    def __init__(self, wanted):
        self.wanted = {float(item["enrollment"][0]): item["mix"].numpy() for item in wanted}

    def extract(self, mix, enrollment, sr=SR, overlap=0.0):
        own = self.wanted.get(float(enrollment[0]))
        return mix if own is not None and np.array_equal(own, mix) else 0.1 * mix


def test_absent_compares_the_right_enrollment_with_one_of_somebody_who_does_not_speak():
    facts = pd.DataFrame(dict(speaker=list("abc"), others=["b", "c", "a, b"]))
    enrolled_by = failures.somebody_else(facts)
    assert enrolled_by == [2, 0, None]
    items = Items(3, 2 * SR)
    table, waves = failures.absent(Louder(items), items, enrolled_by, progress=False)
    assert len(table) == 4 and set(waves) == {(1, "present"), (1, "absent"), (2, "present"), (2, "absent")}
    means = table.groupby("case")["level_db"].mean()
    assert means["present"] == pytest.approx(0, abs=1e-3) and means["absent"] == pytest.approx(-20, abs=1e-2)
    assert (
        failures.separability(
            table[table["case"] == "absent"]["level_db"], table[table["case"] == "present"]["level_db"]
        )
        == 1
    )
    assert failures.separability([1, 1], [1, 1]) == 0.5


def test_silence_is_counted_where_it_is_right_and_where_it_is_wrong():
    asked = pd.DataFrame(
        dict(
            case=["present"] * 4 + ["absent"] * 4,
            level_db=[-3.0, -5.0, -2.0, -30.0, -25.0, -40.0, -4.0, -21.0],
            fainter_db=[0.0, 1.0, -1.0, 25.0] + [np.nan] * 4,
            similarity=[0.9, 0.8, 0.85, 0.7, 0.5, 0.4, 0.6, 0.75],
        )
    )
    said = failures.silence(asked)
    assert said["silent"] == 0.75 and said["too_faint"] == 0.25 and said["absent"] == said["present"] == 4
    assert said["similarity_auc"] == 15 / 16 and said["level_db_eer"] == pytest.approx(0.25)


def test_activity_by_hand(pair):
    target, _ = pair
    half = target * (np.arange(len(target)) < len(target) / 2)
    perfect, missed = failures.activity(target, target), failures.activity(half, target)
    assert perfect == dict(precision=1.0, recall=1.0, f1=1.0)
    assert missed["precision"] == 1.0 and 0.5 < missed["recall"] < 0.8
    loud = failures.activity(target + 0.05 * np.random.default_rng(0).standard_normal(len(target)), target)
    assert loud["recall"] == 1.0 and loud["precision"] < 0.7
    assert np.isnan(failures.activity(target, 0 * target)["f1"]) and failures.activity(0 * target, target)["f1"] == 0
