"""The demonstration of what a leak does: equal training sets but for the leak, and nothing asked that was trained
on.
"""

import numpy as np
import pytest
import torch
from made_voices import make_voices

from lib.evaluation import leaks


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"), train=6, val=0, test=3, recordings=14, seconds=(0.9, 1.1))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(leaks, "TRAINED", 6)
    monkeypatch.setattr(leaks, "AT_MOST", 12)


def test_both_training_sets_count_as_many_people(voices, small):
    table = leaks.compare(voices, networks=1).set_index("training_set")
    assert table["people_in_training"].tolist() == [6, 6]
    assert table["test_people_among_them"].to_dict() == {"clean": 0, "leaked": 3}
    assert table["questions"].nunique() == 1 and table["share_right"].between(0, 1).all()
    assert (table["low"] <= table["share_right"]).all() and (table["share_right"] <= table["high"]).all()


def test_same_seed_same_answer_and_the_global_random_state_is_left_alone(voices, small):
    torch.manual_seed(3)
    first, number = leaks.compare(voices, networks=1), torch.rand(1)
    torch.manual_seed(3)
    assert leaks.compare(voices, networks=1).equals(first) and torch.rand(1) == number


def test_what_is_asked_was_not_taught(voices, small, monkeypatch):
    taught, asked = [], []
    monkeypatch.setattr(
        leaks, "_recogniser", lambda sets, seed: taught.append(np.concatenate(sets)) or (lambda features: features)
    )
    monkeypatch.setattr(
        leaks, "_answers", lambda directions, people: asked.append(np.concatenate(list(people.values()))) or [1.0] * 9
    )
    leaks.compare(voices, networks=1)
    for known, questions in zip(taught, asked):
        assert not {row.tobytes() for row in known} & {row.tobytes() for row in questions}


def test_a_recogniser_tells_people_apart_that_it_knows(voices, small):
    people = leaks._segments(voices[voices["split"] == "Test"], np.random.default_rng(0))
    directions = leaks._recogniser([features[:6] for features in people.values()], seed=0)
    assert np.mean(leaks._answers(directions, {name: features[6:] for name, features in people.items()})) > 0.8


def test_too_few_people_is_said(voices):
    with pytest.raises(ValueError, match=r"27 s of each; here are 0 and 0"):
        leaks.compare(voices)
