"""Splits by speaker, the leak checks, and the looks behind the curation, on made waves and a made encoder."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_voices import make_voices, syllables

from lib import audio
from lib.data import curation, splits

SR = 16000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"), train=4, val=2, test=2, recordings=3, seconds=(1.0, 2.0))


def unsplit(speakers, recordings=2):
    return pd.DataFrame(
        [
            dict(speaker=f"s{k:02d}", path=f"{k}/{n}.wav", seconds=1.0)
            for k in range(speakers)
            for n in range(recordings)
        ]
    )


def spectrum(wave):
    """A made encoder: the logarithm of the spectrum up to 2 kHz, in 50 bands, less its mean; tells the made voices'
    pitches apart.
    """
    power = np.abs(np.fft.rfft(wave, 2 * SR))[:4000] ** 2
    bands = np.log(power.reshape(200, -1).sum(axis=1) + 1e-6)
    return bands - bands.mean()


# --- splitting


@pytest.mark.parametrize(
    "speakers, expected", [(3, (1, 1, 1)), (6, (2, 2, 2)), (10, (6, 2, 2)), (41, (33, 4, 4)), (4, (2, 1, 1))]
)
def test_shares_are_of_speakers_with_two_in_each_where_there_are_six(speakers, expected):
    found = splits.split_by_speaker(unsplit(speakers))
    counts = found.groupby("split")["speaker"].nunique()
    assert tuple(counts[name] for name in splits.SPLITS) == expected
    assert (found.groupby("speaker")["split"].nunique() == 1).all()


def test_the_seed_decides_and_the_order_of_rows_does_not():
    voices = unsplit(20)
    first = splits.split_by_speaker(voices, seed=1)
    pd.testing.assert_frame_equal(splits.split_by_speaker(voices, seed=1), first)
    shuffled = splits.split_by_speaker(voices.sample(frac=1, random_state=3), seed=1).sort_index()
    pd.testing.assert_frame_equal(shuffled, first)
    assert (splits.split_by_speaker(voices, seed=2)["split"] != first["split"]).any()
    assert "split" not in voices


def test_a_split_that_is_there_is_kept():
    voices = unsplit(4).assign(split=["Test", "Test", "Train", "Train", "Val", "Val", "Train", "Train"])
    pd.testing.assert_frame_equal(splits.split_by_speaker(voices, seed=5), voices)


def test_what_cannot_be_split_is_said():
    with pytest.raises(splits.SplitError, match="three speakers.*found 2"):
        splits.split_by_speaker(unsplit(2))
    with pytest.raises(splits.SplitError, match="holds nan; expected Train, Val, Test"):
        splits.split_by_speaker(unsplit(3).assign(split=["Train"] * 4 + [np.nan, "Val"]))
    with pytest.raises(splits.SplitError, match="three positive numbers"):
        splits.split_by_speaker(unsplit(5), shares=(0.8, 0.2))
    with pytest.raises(splits.SplitError, match="no speaker for Train"):
        splits.split_by_speaker(unsplit(6), shares=(0.01, 1, 1))


# --- leaks


def test_a_clean_split_passes_and_returns_the_closest_pairs(table):
    assert splits.check_leaks(table).empty
    pairs = splits.check_leaks(table, spectrum, threshold=0.999)
    assert len(pairs) == 4 * 2 + 4 * 2 + 2 * 2 and (pairs["split"] != pairs["other_split"]).all()
    assert pairs["similarity"].is_monotonic_decreasing and pairs["similarity"].max() < 0.99


def test_a_speaker_in_two_splits_is_named(table):
    leaked = table.assign(split=["Test", *table["split"][1:]])
    with pytest.raises(splits.LeakError, match="train0 in Test and Train"):
        splits.check_leaks(leaked)


def test_a_recording_in_two_splits_is_found_under_another_name_and_format(table, tmp_path):
    source = table.loc[table["split"] == "Train", "path"].iloc[0]
    wave, _ = soundfile.read(source)
    soundfile.write(tmp_path / "renamed.wav", wave, SR)
    copy = dict(speaker="test0", path=str(tmp_path / "renamed.wav"), seconds=len(wave) / SR, split="Test")
    with pytest.raises(splits.LeakError, match="same recording.*renamed.wav"):
        splits.check_leaks(pd.concat([table, pd.DataFrame([copy])], ignore_index=True))


def test_a_content_column_is_believed_and_the_rows_are_named(table):
    content = [f"c{k}" for k in range(len(table))]
    assert splits.check_leaks(table.assign(content=content)).empty
    content[-1] = content[0]
    with pytest.raises(splits.LeakError, match=rf"row 0 .*train0, Train.*row {len(table) - 1} .*test1, Test"):
        splits.check_leaks(table.assign(content=content))


def test_one_voice_under_two_labels_in_two_splits_is_found_with_an_encoder_only(table, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for label, split in (("someone", "Train"), ("someone_else", "Test")):
        for take in range(3):
            audio.write(tmp_path / label / f"{take}.flac", syllables(rng, 200, 2.0))
            rows.append(dict(speaker=label, path=str(tmp_path / label / f"{take}.flac"), seconds=2.0, split=split))
    leaked = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    assert splits.check_leaks(leaked).empty
    with pytest.raises(splits.LeakError, match=r"someone \(Train\) and someone_else \(Test\): 0.9"):
        splits.check_leaks(leaked, spectrum, threshold=0.95)


def test_a_table_without_splits_is_refused(table):
    with pytest.raises(splits.SplitError, match="lacks split; split_by_speaker"):
        splits.check_leaks(table.drop(columns="split"))


# --- embeddings


def test_similarity_is_a_symmetric_table_of_cosines(table):
    found = splits.speaker_similarity(table, spectrum)
    assert list(found.index) == list(found.columns) == sorted(table["speaker"].unique())
    assert np.allclose(np.diag(found), 1, atol=1e-5) and np.allclose(found, found.T)


def test_embeddings_are_cached_until_the_recordings_change(table, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    calls = []

    def encoder(wave):
        calls.append(len(wave))
        return spectrum(wave)

    splits.speaker_embeddings(table, encoder)
    splits.speaker_embeddings(table, encoder)
    assert len(calls) == 16  # without a name for its weights nothing is kept
    encoder.cache_name = "made"
    first = splits.speaker_embeddings(table, encoder)
    again = splits.speaker_embeddings(table, encoder)
    assert len(calls) == 24 and all(np.array_equal(first[name], again[name]) for name in first)
    splits.speaker_embeddings(table[1:], encoder)
    assert len(calls) == 25  # only the speaker who lost a recording is embedded again


def test_speech_is_as_long_as_asked_and_two_stretches_do_not_overlap(table):
    own = table[table["speaker"] == "train0"]
    first, second = splits.speech_of(own, 1.5), splits.speech_of(own, 1.5, skip=1.5)
    assert len(first) == len(second) == 1.5 * SR
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.9
    assert len(splits.speech_of(own, 100)) == pytest.approx(own["seconds"].sum() * SR, abs=3)


def test_resemblyzer_hears_who_speaks():
    pytest.importorskip("resemblyzer")
    encode, rng = splits.resemblyzer_encoder(), np.random.default_rng(1)
    low, low_again, high = (encode(syllables(rng, pitch, 3.0)) for pitch in (110, 110, 260))
    assert low.shape == (256,) and encode.cache_name == "resemblyzer"
    assert low @ low_again > low @ high + 0.2


# --- curation


def test_copies_at_another_level_and_through_a_codec_are_found(table, tmp_path):
    wave = audio.read(table["path"].iloc[0])
    rows = []
    for name, copy in (("quiet.wav", 0.3 * wave), ("coded.ogg", wave)):
        soundfile.write(tmp_path / name, copy, SR)
        rows.append(dict(speaker="copy", path=str(tmp_path / name), seconds=len(copy) / SR, split="Train"))
    found = curation.near_copies(pd.concat([table, pd.DataFrame(rows)], ignore_index=True))
    pairs = {frozenset((row.path, row.other)) for row in found.itertuples()}
    original = table["path"].iloc[0]
    assert {
        frozenset((original, str(tmp_path / "quiet.wav"))),
        frozenset((original, str(tmp_path / "coded.ogg"))),
    } <= pairs
    assert all("copy" in (row.speaker, row.other_speaker) for row in found.itertuples())
    assert curation.near_copies(table).empty


def test_several_people_under_one_label_stand_out(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for label, pitches in (("one", [110] * 10), ("two", [110] * 7 + [310] * 3)):
        for take, pitch in enumerate(pitches):
            audio.write(tmp_path / label / f"{take}.flac", syllables(rng, pitch, 1.5))
            rows.append(dict(speaker=label, path=str(tmp_path / label / f"{take}.flac"), seconds=1.5, split="Train"))
    found = curation.strangers(pd.DataFrame(rows), spectrum, piece=1.0).set_index("speaker")
    assert found.loc["two", "share_unlike"] == pytest.approx(0.3) and found.loc["one", "share_unlike"] == 0


def test_summary_counts_people_not_rows(table):
    found = curation.summary(table.assign(sex="F", language="en"))
    assert found["speakers"].to_dict() == {"Train": 4, "Val": 2, "Test": 2}
    assert found["F"].to_dict() == {"Train": 4, "Val": 2, "Test": 2}
