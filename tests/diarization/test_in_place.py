"""A conversation in a place, everybody extracted: what is right costs nothing, what is wrong does."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_voices import make_voices
from pyannote.core import Annotation

from lib import metrics
from lib.data import places
from lib.diarization import conversations, in_place, protocols, styles


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    table = make_voices(tmp_path_factory.mktemp("voices"), train=2, val=2, test=2, recordings=9, seconds=(2.9, 3.1))
    voices = conversations.Voices(table[table["split"] == "Test"])
    dry = places.open_place("office", rt60=0.0)
    style = replace(styles.STUDIO, seconds=20.0, people=(2, 2))
    return in_place.talk(dry, voices, seed=1, style=style)


class Perfect:
    """Gives back whose enrollment it hears, out of the targets."""

    def __init__(self, spoken):
        self.spoken = spoken

    def extract(self, mix, enrollment):
        def likeness(target):
            return max(np.abs(np.correlate(target[: len(mix)], enrollment[:8000], "valid")).max(), 1e-9)

        return max(self.spoken.targets.values(), key=likeness)


def test_people_sound_in_their_turns(spoken):
    assert np.abs(spoken.wave).max() <= 0.91 and set(spoken.targets) == set(spoken.annotation.labels())
    for name, target in spoken.targets.items():
        own = np.zeros(len(target), bool)
        for part in spoken.annotation.label_timeline(name):
            own[round(part.start * 16000) : round(part.end * 16000) + 800] = True
        assert np.mean(target[~own] ** 2) < 1e-4 * np.mean(target[own] ** 2)


def test_scores_are_those_of_the_turns_and_who_is_not_found_gains_nothing(spoken):
    found = {name: (0.5 * target, 4.0) for name, target in spoken.targets.items()}
    table = in_place.scores(spoken, found)
    assert (table["SI-SDRi (dB)"] > 40).all() and (table["enrollment (s)"] == 4.0).all()
    first = table["person"].iloc[0]
    del found[first]
    table = in_place.scores(spoken, found).set_index("person")
    assert table.loc[first, "SI-SDRi (dB)"] == 0 and table.loc[first, "enrollment (s)"] == 0
    spans = spoken.annotation.label_timeline(first).support()
    own = np.concatenate([np.arange(round(s.start * 16000), round(s.end * 16000)) for s in spans])
    by_hand = metrics.si_sdr(spoken.wave[own], spoken.targets[first][own])
    assert table.loc[first, "SI-SDR of the mixture (dB)"] == pytest.approx(float(by_hand))


def test_the_true_turns_cost_nothing_and_no_turns_find_nobody(spoken):
    annotations = {"true": spoken.annotation, "none": Annotation()}
    table, found = in_place.cost(spoken, annotations, Perfect(spoken))
    assert len(table) == 2 * len(spoken.targets) and found["none"] == {}
    assert (table.loc[table["turns"] == "none", "SI-SDRi (dB)"] == 0).all()
    assert set(found["true"]) == set(spoken.targets)


def test_the_thread_becomes_a_talk_of_its_people(tmp_path, monkeypatch):
    table = make_voices(tmp_path / "voices", train=2, val=2, test=2, recordings=4, seconds=(2.9, 3.1))
    first, second = sorted(table.loc[table["split"] == "Test", "speaker"].unique())
    item = {"index": 7, "mix": torch.ones(5 * 16000) * 0.1, "enrollment": torch.ones(3 * 16000) * 0.1}
    rows = pd.DataFrame([{"index": 7, "speaker": first, "interferers": [second]}])
    monkeypatch.setattr(in_place, "thread", lambda folder: item)
    monkeypatch.setattr(in_place, "read_manifest", lambda folder, split: rows)
    wave, turns = in_place.thread_talk("anywhere", table, seconds=6.0)
    assert [(turn.speaker, turn.start) for turn in turns] == [(second, 0.0), (first, 6.5)]
    assert turns[1].end == pytest.approx(9.5) and len(wave) == 16000 * 15


def test_a_short_enrollment_is_said_in_the_table_and_not_on_stderr(spoken, recwarn):
    class Warns(Perfect):
        def extract(self, mix, enrollment):
            warnings.warn(
                "enrollment: 2.9 s of speech found in 8.0 s is short; from 3 s on the voice is known better",
                stacklevel=2,
            )
            return super().extract(mix, enrollment)

    assert in_place.extracted(spoken, spoken.annotation, Warns(spoken))
    assert not [one for one in recwarn if "is short" in str(one.message)]


def test_a_whole_set_is_held_in_a_place_and_known_by_it(tmp_path):
    table = make_voices(tmp_path / "voices", train=2, val=2, test=2, recordings=9, seconds=(2.9, 3.1))
    dry, style = places.open_place("office", rt60=0.0), replace(styles.STUDIO, seconds=8.0, people=(2, 2))
    asked = dict(style=style, counts={"train": 1, "dev": 1, "test": 1}, seed=3)
    facts = in_place.build(dry, table, tmp_path / "held", **asked)
    assert protocols.check(tmp_path / "held") == {"train": 1, "dev": 1, "test": 1}
    (file,) = protocols.files(tmp_path / "held", "test")
    assert all(name.startswith("test") for name in file["annotation"].labels())
    spoken = in_place.talk(
        dry, conversations.Voices(table[table["split"] == "Test"]), [3, 2, 0], style=style, snr_db=in_place.SNR_DB
    )
    assert np.allclose(file["waveform"][0].numpy()[: len(spoken.wave)], spoken.wave, atol=1e-4)
    before = (tmp_path / "held/test/wav/studio_test_000.wav").stat().st_mtime_ns
    assert in_place.build(dry, table, tmp_path / "held", **asked) == facts
    assert (tmp_path / "held/test/wav/studio_test_000.wav").stat().st_mtime_ns == before
    with pytest.raises(styles.ConversationError, match="other conversations are there already"):
        in_place.build("meeting", table, tmp_path / "held", **asked)
    with pytest.raises(styles.ConversationError, match="other conversations are there already"):
        conversations.build(table, tmp_path / "held", style, asked["counts"], 3)
