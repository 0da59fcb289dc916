"""Few clips a person and another microphone: which clips teach, ways to teach, what moves features, what is read."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.speakers import few, knowing

torch.set_num_threads(1)
PEOPLE = ["ana", "ben", "cai"]


def table(train=4, test=3):
    rows = [(name, part) for name in PEOPLE for part, count in (("Train", train), ("Test", test)) for _ in range(count)]
    return pd.DataFrame(rows, columns=["speaker", "part"])


def features(rows, shift=0.0, dim=6, seed=0):
    """A direction a person with a little noise; `shift`: what another microphone adds to every clip."""
    rng, place = np.random.default_rng(seed), rows["speaker"].map(PEOPLE.index).to_numpy()
    found = 3 * np.eye(dim)[place] + 0.3 * rng.standard_normal((len(rows), dim))
    return torch.tensor(found + shift * np.eye(dim)[5], dtype=torch.float32)


def test_the_first_clips_are_train_clips_and_as_many_as_asked_for():
    rows = table()
    places = few.first_clips(rows, 2)
    assert len(places) == 6 and set(rows["part"][places]) == {"Train"}
    assert rows["speaker"][places].value_counts().tolist() == [2, 2, 2] and len(few.first_clips(rows, 9)) == 12


@pytest.mark.parametrize("way", [few.nearest_mean, few.head])
def test_people_who_lie_apart_are_named_from_one_clip(way):
    rows = table()
    values, test = features(rows), (rows["part"] == "Test").to_numpy()
    found = few.shots_table(way, values, {"same": values[torch.tensor(test)]}, rows, PEOPLE, shots=(1, 3), seeds=(0,))
    assert [row["clips"] for row in found] == [1, 3] and all(row["accuracy"] == 1 for row in found)
    assert few.wide([{"way": "x", **row} for row in found], "way").shape == (1, 2)


def test_a_difference_is_of_the_same_clips_and_taught_devices_go_along():
    rows = table()
    values, test = features(rows), torch.tensor((rows["part"] == "Test").to_numpy())
    asked = {"same": values[test]}
    one = few.shots_table(few.nearest_mean, values, asked, rows, PEOPLE, [features(rows, 2.0)], (1,), (0,))
    worse = [{**row, "way": "b", "right": np.zeros(9)} for row in one]
    both = [{**row, "way": "a"} for row in one] + worse
    gap = few.difference(both, "way", "a", "b", 1, "same", rows["speaker"][test.numpy()])
    assert gap.mean == one[0]["accuracy"] > 0.9


def test_a_device_changes_clips_that_are_equalised_afterwards():
    waves = 0.1 * np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32)
    heard = few.through("phone", waves)
    power = np.abs(np.fft.rfft(heard[0])) ** 2
    assert heard.shape == waves.shape and power[400:3300].sum() > 10 * power[4000:].sum()


def test_features_that_ignore_the_microphone_do_not_move_with_it():
    rows = table()
    one = features(rows).numpy()
    still, moved = (knowing.moves(one, features(rows, shift).numpy(), rows["speaker"]) for shift in (0.0, 3.0))
    assert still["moved"].tolist() == list(knowing.MOVES)
    assert still["mean"][1] == pytest.approx(0, abs=1e-6) and moved["mean"][1] > 0.2 > still["mean"][0]


def test_what_is_in_the_features_is_read_off_for_people_who_did_not_teach():
    rng, speakers = np.random.default_rng(0), np.repeat([f"p{k}" for k in range(20)], 4)
    sex = np.repeat(rng.permutation(["F", "M"] * 10), 4)
    there = rng.standard_normal((80, 5)) + 4 * (sex == "F")[:, None]
    assert knowing.read_off(there, sex, speakers).mean > 0.95
    assert knowing.read_off(rng.standard_normal((80, 5)), sex, speakers).mean < 0.75
