"""Test sets of others: Libri2Mix out of a made-up LibriSpeech, and pairs without a reference in REAL-T's layout."""

import csv

import numpy as np
import pytest
import soundfile

from lib import audio
from lib.data.tables import TableError
from lib.evaluation import libri2mix, no_reference

SR = 16000
NAMES = ["1-10-0000_2-20-0000", "1-10-0001_3-30-0000", "2-20-0001_3-30-0001"]


def voice(number, seconds):
    return (0.1 * np.random.default_rng(number).standard_normal(round(seconds * SR))).astype(np.float32)


@pytest.fixture
def librispeech(tmp_path):
    """Three mixtures of three people, noise shorter than they are, and the published map's form."""
    rows = []
    for number, name in enumerate(NAMES):
        row = {"mixture_ID": name}
        for place, utterance in enumerate(name.split("_"), start=1):
            person, chapter, _ = utterance.split("-")
            path = f"test-clean/{person}/{chapter}/{utterance}.flac"
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / path, voice(10 * number + place, 2 + 0.5 * place), SR)
            row |= {f"source_{place}_path": path, f"source_{place}_gain": 0.5 * place}
        noise = np.stack([voice(100 + number, 1.4), voice(0, 1.4)], axis=1)
        (tmp_path / "wham/tt").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"wham/tt/{number}.wav", noise, SR)
        rows.append(row | {"noise_path": f"tt/{number}.wav", "noise_gain": 0.1})
    with open(tmp_path / "metadata.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    lines = [
        f"{NAMES[0]} 1-10-0000 s1/{NAMES[1]}",
        f"{NAMES[0]} 2-20-0000 s1/{NAMES[2]}",
        f"{NAMES[1]} 1-10-0001 s1/{NAMES[0]}",
        f"{NAMES[1]} 3-30-0000 s2/{NAMES[2]}",
        f"{NAMES[2]} 2-20-0001 s2/{NAMES[0]}",
        f"{NAMES[2]} 3-30-0001 s2/{NAMES[1]}",
    ]
    (tmp_path / "map").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_clean_set_by_hand(librispeech):
    data = libri2mix.Libri2Mix(librispeech, librispeech / "metadata.csv", enrollments=librispeech / "map")
    one, two = (
        audio.read(librispeech / f"test-clean/{path}") for path in ("1/10/1-10-0000.flac", "2/20/2-20-0000.flac")
    )
    item = data[1]
    assert len(data) == 6 and (item["name"], item["person"]) == (NAMES[0], 1)
    np.testing.assert_allclose(item["mix"], 0.5 * one + two[: len(one)], atol=1e-6)
    np.testing.assert_allclose(item["target"], two[: len(one)], atol=1e-6)
    said = audio.read(librispeech / "test-clean/2/20/2-20-0001.flac")
    np.testing.assert_allclose(item["enrollment"], 0.5 * said[: len(item["enrollment"])], atol=1e-6)


def test_the_noisy_set_takes_the_noise_s_first_channel_and_repeats_it(librispeech):
    data = libri2mix.Libri2Mix(librispeech, librispeech / "metadata.csv", wham=librispeech / "wham")
    clean = libri2mix.Libri2Mix(librispeech, librispeech / "metadata.csv")
    added = data[0]["mix"] - clean[0]["mix"]
    noise = audio.read_channels(librispeech / "wham/tt/0.wav")[0][:, 0]
    np.testing.assert_allclose(added[: SR // 2], 0.1 * noise[: SR // 2], atol=1e-6)
    assert len(added) == 2.5 * SR and added[2 * SR :].any()


def test_at_8_khz_and_with_enrollments_drawn(librispeech):
    data = libri2mix.Libri2Mix(librispeech, librispeech / "metadata.csv", rate=8000)
    item = data[0]
    power = np.abs(np.fft.rfft(item["mix"])) ** 2
    assert power[int(len(power) * 0.55) :].sum() < 0.01 * power.sum()
    assert not np.allclose(item["enrollment"][:1000], item["target"][:1000])

    class Same:
        def extract(self, mix, enrollment):
            return mix

    table = libri2mix.score(Same(), data, limit=4, progress=False)
    assert len(table) == 4 and np.allclose(table["si_sdri"], 0, atol=1e-6)


def test_what_is_missing_is_named(librispeech, capsys):
    metadata = librispeech / "metadata.csv"
    with pytest.raises(TableError, match="lacks mixture_ID"):
        (librispeech / "other.csv").write_text("a,b\n1,2\n")
        libri2mix.Libri2Mix(librispeech, librispeech / "other.csv")
    with pytest.raises(TableError, match="5 other questions|no enrollment for"):
        (librispeech / "part").write_text("\n")
        libri2mix.Libri2Mix(librispeech, metadata, enrollments=librispeech / "part")
    with pytest.raises(TableError, match="line 1"):
        (librispeech / "wrong").write_text(f"{NAMES[0]} 1-10-0000\n")
        libri2mix.Libri2Mix(librispeech, metadata, enrollments=librispeech / "wrong")
    assert libri2mix.main([str(librispeech / "nowhere"), str(metadata), "--limit", "1"]) == 1
    assert "test-clean" in capsys.readouterr().err


@pytest.fixture
def real_t(tmp_path):
    for folder, name, number in (("mixtures", "AMI_1_mixture_0_5", 0), ("enrolment_speakers", "AMI_1_A_7_9", 1)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / f"{name}.wav", voice(number, 3), SR)
    (tmp_path / "TEST").mkdir()
    (tmp_path / "TEST/AMI_meta.csv").write_text(
        "mixture_utterance,enrolment_speakers_utterance,ground_truth_transcript\n"
        "AMI_1_mixture_0_5,AMI_1_A_7_9,so what\n"
    )
    return tmp_path


def test_pairs_are_found_by_real_t_s_names(real_t):
    pairs = no_reference.read_pairs(real_t / "TEST/AMI_meta.csv")
    assert pairs["mixture"][0] == real_t / "mixtures/AMI_1_mixture_0_5.wav" and pairs["transcript"][0] == "so what"
    (real_t / "bad.csv").write_text("mixture,enrollment\nnone,none\n")
    with pytest.raises(TableError, match="line 2: none is not there"):
        no_reference.read_pairs(real_t / "bad.csv")
    (real_t / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="no column names the mixture and the enrollment"):
        no_reference.read_pairs(real_t / "bad.csv")


def test_every_score_without_a_reference(real_t):
    class Fainter:
        def extract(self, mix, enrollment):
            return 0.1 * mix

    pairs = no_reference.read_pairs(real_t / "TEST/AMI_meta.csv")
    table = no_reference.score(Fainter(), pairs, recogniser=lambda wave: "So, what now?", progress=False)
    row = table.iloc[0]
    assert row["wer"] == 0.5 and row["level_db"] == pytest.approx(-20, abs=0.01) and 1 <= row["p808"] <= 5
    assert row["similarity"] == pytest.approx(row["mix_similarity"], abs=0.05)


def test_activity_and_words_by_hand():
    est = np.concatenate([voice(0, 2), np.zeros(2 * SR, np.float32)])
    said = no_reference.activity(est, [(1.0, 3.0)])
    assert (said["precision"], said["recall"], said["f1"]) == (0.5, 0.5, 0.5)
    assert np.isnan(no_reference.activity(est, [])["f1"]) and no_reference.activity(0 * est, [(0, 1)])["recall"] == 0
    assert no_reference.word_error_rate("It's 5 o'clock!", "it's five o'clock") == pytest.approx(1 / 3)
    assert no_reference.word_error_rate("你好 吗", "你好") == pytest.approx(1 / 3)
    assert np.isnan(no_reference.word_error_rate("", "hello"))
    with pytest.raises(ValueError, match="no speech recogniser"):
        no_reference.recogniser_of("/nowhere/at/all")


def test_a_small_local_recogniser_runs(tmp_path):
    import json

    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    (tmp_path / "vocab.json").write_text(json.dumps({c: k for k, c in enumerate(["<pad>", "<unk>", "|", *"abc"])}))
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), pad_token="<pad>", unk_token="<unk>").save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=6)
    more = dict(
        conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, num_feat_extract_layers=7
    )
    Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, **more)).eval().save_pretrained(tmp_path)
    assert isinstance(no_reference.recogniser_of(tmp_path)(voice(0, 1)), str)
