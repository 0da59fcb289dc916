"""For whom it works: the right person by similarity, the distance from the microphone, and groups of mixtures."""

import numpy as np
import pandas as pd
import pytest
import torch
from made_voices import make_voices

from lib.data import mixtures, places
from lib.evaluation import people, scores

SMALL = dict(size=(4.0, 3.5, 2.5), microphone=(2.0, 1.7, 1.0), rt60=0.2, seats=3, other_distance=(0.8, 1.6))


@pytest.fixture
def voices_of(monkeypatch):
    """Embeddings that say whose wave it is: each person's waves hold one number, and a mixture holds two."""

    def embedded(wave):
        found = np.zeros(8)
        for value in np.unique(np.round(np.asarray(wave), 3)):
            found[round(10 * abs(float(value)))] = 1.0
        return found / np.linalg.norm(found)

    monkeypatch.setattr(people.metrics, "voice_embedding", embedded)


def test_the_right_person_is_nearer_to_the_enrollment_than_anybody_else(voices_of):
    wave = {name: np.full(10, value, np.float32) for name, value in dict(ann=0.1, bob=0.2, eve=0.3).items()}
    test = [{"enrollment": torch.from_numpy(wave[name])} for name in ("ann", "bob", "eve", "ann")]
    facts = pd.DataFrame({"index": [1, 2, 3, 4], "speaker": ["ann", "bob", "eve", "ann"]})
    facts["others"] = ["bob", "ann, eve", "", "stranger"]  # of nobody, and of somebody without an enrollment: left out
    systems = {
        "right": [wave["ann"], wave["bob"], wave["eve"], wave["ann"]],
        "wrong": [wave["bob"], np.zeros(10, np.float32), wave["eve"], wave["ann"]],
    }
    found = people.right_person(systems, test, facts, progress=False)
    assert found["index"].tolist() == [1, 1, 2, 2]
    assert found.groupby("system")["right"].mean().to_dict() == {"right": 1.0, "wrong": 0.0}


def test_distances_are_those_of_the_seats(tmp_path):
    table = make_voices(tmp_path / "voices")
    out = tmp_path / "Dataset"
    place = places.open_place("office", **SMALL)
    counts = dict(train=0, val=0, test=4, enrollment_seconds=(1.0, 2.0), segment_seconds=2.0)
    mixtures.build(table, out, progress=False, workers=1, place=place, **counts)
    found = people.distances(out)
    near, far = place.target_distance
    assert len(found) == 4 and found.between(near, far).all() and found.nunique() > 1
    assert people.distances(tmp_path).empty  # nothing was made here
    facts = scores.open_test(out)[1]
    assert set(facts["index"]) <= set(found.index)


def test_groups_hold_the_paired_difference_and_few_mixtures_are_no_group():
    rows = pd.DataFrame({"index": range(8), "others": ["a", "a", "a", "a, b", "a, b", "a, b", "a, b", "a"]})
    rows["same_sex"] = [True, True, True, False, False, None, None, None]
    worse, better = rows.assign(system="old", si_sdri=1.0), rows.assign(system="new", si_sdri=np.arange(8.0))
    distance = pd.Series(np.arange(8.0), index=range(8))
    found = people.helped(pd.concat([worse, better]), "new", "old", distance).set_index("mixtures of")
    assert found.loc["all", "change"] == pytest.approx(2.5) and found.loc["all", "count"] == 8
    assert found.loc["another of the same sex", "change"] == pytest.approx(0.0)
    assert "others of the other sex only" not in found.index  # two mixtures
    assert found.loc["two others", "change"] == pytest.approx(3.5)
    assert found.loc["nearer than 3.5 m", "change"] == pytest.approx(0.5)
    assert (found["low"] <= found["change"]).all() and (found["change"] <= found["high"]).all()
