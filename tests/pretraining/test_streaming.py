"""Endless mixtures: each a function of seed and index, ratios as asked, enrollment from other recordings."""

import numpy as np
import pandas as pd
import pytest

from lib import audio
from lib.pretraining import streaming
from lib.pretraining.streaming import EndlessMixtures

SR = 16000


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Four people whose recordings are steps of constant value, a value a recording, so that a sample tells where it is
    from.
    """
    folder, rows = tmp_path_factory.mktemp("voices"), []
    for person in range(4):
        for k in range(8):
            value = (1 + person * 8 + k) / 64
            wave = np.full(SR, value, dtype=np.float32) * np.where(np.arange(SR) % 2, 1, -1)
            audio.write(folder / f"{person}_{k}.flac", wave)
            rows.append((f"p{person}", str(folder / f"{person}_{k}.flac"), "FM"[person % 2]))
    return pd.DataFrame(rows, columns=["speaker", "path", "sex"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))


def test_an_item_depends_on_seed_index_and_length_alone(voices):
    first, again, other = (
        EndlessMixtures(voices, 9, 3, 1.0, 1.0),
        EndlessMixtures(voices, 9, 3, 1.0, 1.0),
        EndlessMixtures(voices, 9, 4, 1.0, 1.0),
    )
    first[2]  # the order of calls must not matter
    for name in ("mix", "target", "enrollment"):
        assert np.array_equal(first[5][name], again[5][name])
        assert first[5][name].dtype == np.float32 and first[5][name].shape == (SR,)
        assert np.abs(first[5][name]).max() <= 1
    assert not np.array_equal(first[5]["mix"], other[5]["mix"]) and not np.array_equal(first[5]["mix"], first[6]["mix"])


def test_ratio_is_the_one_asked_for(voices):
    data = EndlessMixtures(
        voices, 20, 0, 1.0, 1.0, sir_db=(3.0, 3.0), second_interferer=0.0, noise_share=0.0, augment=False
    )
    for i in range(20):
        item = data[i]
        assert audio.rms_db(item["target"]) - audio.rms_db(item["mix"] - item["target"]) == pytest.approx(3.0, abs=0.01)


def test_enrollment_is_of_the_target_from_other_recordings(voices):
    data = EndlessMixtures(voices, 40, 1, 2.0, 2.0, augment=False)
    for i in range(10):
        rng = np.random.default_rng(i)
        target, used = data._speech(rng, "p1", 2 * SR, 1.0)
        enrollment, kept = data._speech(rng, "p1", 2 * SR, 1.0, avoid=used)
        assert used and kept and not used & kept
        heard = {round(float(value) * 64) for value in np.abs(np.concatenate([target, enrollment])) if value > 1e-3}
        assert heard <= set(range(9, 17))


def test_women_are_targets_as_often_as_men(voices, monkeypatch):
    names = []
    speech = EndlessMixtures._speech
    monkeypatch.setattr(
        EndlessMixtures,
        "_speech",
        lambda self, rng, name, *rest, **more: names.append(name) or speech(self, rng, name, *rest, **more),
    )
    data = EndlessMixtures(
        voices[voices.speaker != "p3"], 200, 0, 0.5, 0.5, second_interferer=0.0, noise_share=0.0, augment=False
    )
    for i in range(200):
        names.clear()
        data[i]
        assert names[0] == names[1] != names[2]
        monkeypatch.setattr(data, "count", getattr(data, "count", 0) + (names[0] == "p1"), raising=False)
    assert 75 < data.count < 125  # one man against two women


def test_packing_is_done_once(voices, monkeypatch):
    samples, index = streaming.pack(voices)
    assert len(samples) == len(voices) * SR == index.samples.sum()
    monkeypatch.setattr(audio, "read", lambda path: pytest.fail("read again"))
    assert np.array_equal(streaming.pack(voices)[0], samples)


def test_too_few_speakers_is_said(voices):
    with pytest.raises(ValueError, match="fewer than two speakers"):
        EndlessMixtures(voices[voices.speaker == "p0"], 5)


def test_with_both_the_two_answers_sum_to_the_mixture(voices):
    data = EndlessMixtures(voices, 12, 0, 1.0, 1.0, second_interferer=0.0, noise_share=0.0, augment=False, both=True)
    for i in range(12):
        item = data[i]
        assert item["target"].shape == item["enrollment"].shape == (2, SR)
        np.testing.assert_allclose(item["target"].sum(0), item["mix"], atol=1e-5)
        assert not np.allclose(item["target"][0], item["target"][1])


def test_two_voices_made_of_one_person_are_never_mixed(voices):
    one_person = pd.concat([voices[voices.speaker == "p0"].assign(speaker=name) for name in ("p0", "p0~1", "p0~2")])
    data = EndlessMixtures(
        pd.concat([one_person, voices[voices.speaker == "p2"]]),
        40,
        0,
        1.0,
        1.0,
        same_sex=1.0,
        second_interferer=0.0,
        noise_share=0.0,
        both=True,
    )
    drawn, speaker = [], data._speaker
    data._speaker = lambda rng, names: drawn.append(speaker(rng, names)) or drawn[-1]
    for i in range(40):
        data[i]
    pairs = {frozenset(name.split("~")[0] for name in drawn[k : k + 2]) for k in range(0, len(drawn), 2)}
    assert pairs == {frozenset({"p0", "p2"})}


def test_a_plain_share_is_left_without_augmentation(voices):
    augmented, plain, none = (
        EndlessMixtures(voices, 40, 0, 1.0, 1.0, plain=share, augment=augment)
        for share, augment in ((0.0, True), (0.5, True), (0.0, False))
    )
    same = sum(np.array_equal(plain[i]["mix"], none[i]["mix"]) for i in range(40))
    assert 8 <= same <= 32
    assert not any(np.array_equal(augmented[i]["mix"], none[i]["mix"]) for i in range(10))


def test_a_telephone_keeps_the_words_and_the_place_and_takes_what_lies_above_4_khz():
    t = np.arange(SR + 77) / SR
    low, high = 0.2 * np.sin(2 * np.pi * 500 * t) * (1 + np.sin(2 * np.pi * 3 * t)), 0.2 * np.sin(2 * np.pi * 6000 * t)
    heard = streaming.through_gsm(low + high)
    assert heard.shape == t.shape
    assert np.corrcoef(heard, low)[0, 1] > 0.9 and abs(np.corrcoef(heard, high)[0, 1]) < 0.05
    assert 0.8 < np.linalg.norm(heard) / np.linalg.norm(low) < 1.2
    assert not np.allclose(heard, low, atol=0.01)  # a codec, no mere filter
    assert len(streaming.through_gsm(np.zeros(SR, np.float32))) == SR


def test_gently_begins_with_half_of_the_pairs_of_one_sex(voices):
    shares = {}
    for gentle in (True, False):
        data = EndlessMixtures(
            voices, 10**6, 0, 0.5, 0.5, same_sex=1.0, second_interferer=0.0, noise_share=0.0, gentle=gentle
        )
        drawn, speaker = [], data._speaker
        data._speaker = lambda rng, names: drawn.append(speaker(rng, names)) or drawn[-1]
        for i in range(60):
            data[i]
        shares[gentle] = np.mean([data.sex[one] == data.sex[two] for one, two in zip(drawn[::2], drawn[1::2])])
    assert shares[False] == 1.0 and 0.3 < shares[True] < 0.7


def test_names_say_who_speaks(voices, monkeypatch):
    heard, speech = [], EndlessMixtures._speech
    monkeypatch.setattr(
        EndlessMixtures,
        "_speech",
        lambda self, rng, name, *args, **rest: heard.append(name) or speech(self, rng, name, *args, **rest),
    )
    data, longest = EndlessMixtures(voices, 20, 3, 1.0, 1.0, second_interferer=0.5, noise_share=0.0, plain=0.5), 0
    for i in range(20):  # after the persons others may speak, as babble behind an enrollment
        heard.clear()
        item, names = data.named(i)
        assert list(dict.fromkeys(heard))[: len(set(names))] == list(dict.fromkeys(names)) and np.array_equal(
            item["mix"], data[i]["mix"]
        )
        longest = max(longest, len(names))
    assert longest == 3


def test_on_one_line_all_share_a_microphone_and_most_a_package(voices, monkeypatch):
    packages = pd.concat([voices.assign(speaker=f"{package}-" + voices.speaker) for package in "ab"])
    lines, shape = [], EndlessMixtures._shape
    monkeypatch.setattr(
        EndlessMixtures,
        "_shape",
        lambda self, rng, wave, room, line=None: lines.append(line) or shape(self, rng, wave, room, line),
    )
    data = EndlessMixtures(packages, 40, 0, 0.5, 0.5, second_interferer=0.0, noise_share=0.0, both=True, one_line=1.0)
    enrolled_on_it = 0
    for i in range(40):
        lines.clear()
        _, (one, two) = data.named(i)
        assert one[0] == two[0]
        speech, enrollments = lines[:2], lines[2:]
        assert speech[0] is not None and speech[0] is speech[1]
        assert enrollments in ([None, None], speech)
        enrolled_on_it += enrollments == speech
    assert 8 < enrolled_on_it < 32
    for share, fewest, most in ((0.0, 0, 0), (0.5, 18, 42)):
        data, shared = (
            EndlessMixtures(packages, 60, 0, 0.5, 0.5, second_interferer=0.0, noise_share=0.0, one_line=share),
            0,
        )
        for i in range(60):
            lines.clear()
            data.named(i)
            shared += lines[0] is not None
        assert fewest <= shared <= most


def test_a_microphone_is_one_response_at_any_length(voices):
    data = EndlessMixtures(voices, 4, 0, 0.5, 0.5, one_line=1.0)
    rng = np.random.default_rng(3)
    responses = [data._response(rng) for _ in range(40)]
    hz = np.linspace(0, 8000, 33)
    gains = np.array([response(hz) for response in responses])
    assert 0.1 < np.mean([np.allclose(gain, 1) for gain in gains]) < 0.55  # three of ten
    assert gains.max() <= 10 ** (9 / 20) + 1e-9 and (gains[:, -1] < 0.01).any() and (gains[:, 0] < 0.01).any()
    pulse = np.zeros(400)
    pulse[0] = 1.0
    for response in responses[:5]:
        short, long = (
            np.abs(np.fft.rfft(data._shape(rng, np.pad(pulse, (0, more)), None, response)))[:: 1 + more // 400]
            for more in (0, 400)
        )
        np.testing.assert_allclose(short, long, atol=0.05)
