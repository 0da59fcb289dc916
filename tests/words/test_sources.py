"""Chapter 5's data on made words: sources and their splits, the pool, mixtures whose parts are known, the competition's
folder, bad input.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from made_voices import SR, syllables

from lib import audio
from lib.data.splits import LeakError
from lib.words import clips as word_clips, mixtures as wm, people, recordings, scores, sources, vocabularies
from lib.words.cnn import WordCNN

torch.set_num_threads(1)
NAMES = ["alfa", "bravo", "charlie", "delta", "echo"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Five words by two Train voices, one Val and one Test voice."""
    folder, rows = tmp_path_factory.mktemp("words"), []
    for number, (speaker, split) in enumerate((("t1", "Train"), ("t2", "Train"), ("v", "Val"), ("e", "Test"))):
        for k, word in enumerate(NAMES):
            random = np.random.default_rng((number, k))
            wave = np.concatenate(
                [np.zeros(3200), syllables(random, 100 + 30 * k, 0.3 + 0.25 * k), np.zeros(4800)]
            ).astype(np.float32)
            audio.write(folder / f"{speaker}_{word}.flac", wave)
            rows.append(
                dict(
                    word=word,
                    speaker=speaker,
                    path=str(folder / f"{speaker}_{word}.flac"),
                    split=split,
                    language="xx",
                    licence="own",
                )
            )
    table = pd.DataFrame(rows)
    table.attrs["words"] = NAMES
    return table


@pytest.fixture
def pool(table):
    return recordings.pool(table, "Train")


# --- where words come from


def origin(inside):
    return f"/usr/share/asterisk/sounds/{inside}"


@pytest.mark.parametrize(
    "inside, word",
    [
        ("en_US_f_Allison/phonetic/a_p.g722", "alfa"),
        ("it_IT_f_Menardi/phonetic/ICAO/z_p.wav", "zulu"),
        ("fr/phonetic/x_p.gsm", "x-ray"),
        ("it_IT_f_Menardi/phonetic/a_p.wav", None),
        ("it_IT_m_Carlo/phonetic/a_p.g722", None),  # "a come Ancona"
        ("es_MX_f_Allison/phonetic/c_p.g722", None),
        ("es_MX_f_Allison/phonetic/d_p.g722", "delta"),  # "Carlos", "Delta"
        ("ru_RU_f_IvrvoiceRU/phonetic/n_p.g722", None),  # noyabr
        ("it_IT_m_Carlo/digits/0.g722", "zero"),
        ("es/digits/0.gsm", None),
        ("es/digits/million.gsm", "million"),
        ("en_US_f_Allison/digits/1.g722", None),
        ("en_US_f_Allison/phonetic/9_p.g722", None),
    ],
)
def test_which_file_holds_which_international_word(inside, word):
    assert vocabularies.word_in("international", origin(inside)) == word


@pytest.mark.parametrize(
    "place, word",
    [
        ("ktuberling/sounds/gl/moon_hotel.ogg", "hotel"),
        ("ktuberling/sounds/en/moon_hotel.ogg", None),
        ("klettres/lt/syllab/kilo.ogg", "kilo"),
        ("tuxpaint/stamps/symbols/math/operators/op0_plus_desc_bg.ogg", "plus"),
        ("tuxpaint/stamps/symbols/math/operators/op0_plus_desc_ro.ogg", None),
    ],
)
def test_other_packages_lend_words_to_held_out_voices_alone(place, word):
    assert vocabularies.word_in("international", f"/usr/share/{place}") == word


@pytest.mark.parametrize(
    "inside, word",
    [
        ("fr/digits/0.gsm", "fr zéro"),
        ("es_MX_f_Allison/digits/7.g722", "es siete"),
        ("it_IT_m_Carlo/digits/3.g722", "it tre"),
        ("it_IT_m_Carlo/digits/30.g722", None),
        ("en_US_f_Allison/digits/3.g722", None),
    ],
)
def test_which_file_holds_which_digit(inside, word):
    assert vocabularies.word_in("digits", origin(inside)) == word


@pytest.mark.parametrize(
    "place, letter",
    [
        ("klettres/de/alpha/b.ogg", "b"),
        ("klettres/en/alpha/B.ogg", "b"),
        ("klettres/en/alpha/A.ogg", None),  # "ay", as others name e
        ("klettres/uk/alpha/te.ogg", "t"),
        ("klettres/uk/alpha/sha.ogg", None),
        ("klettres/de/alpha/z.ogg", None),  # too differently named
        ("klettres/it/syllab/b.ogg", None),
        ("asterisk/sounds/fr_CA_f_June/letters/a.g722", "a"),
        ("asterisk/sounds/fr_CA_f_June/letters/u.g722", None),
        ("asterisk/sounds/ru_RU_f_IvrvoiceRU/letters/k.g722", None),
        ("asterisk/sounds/en_US_f_Allison/letters/dollar.g722", None),
    ],
)
def test_which_file_holds_which_letter(place, letter):
    assert vocabularies.word_in("letters", f"/usr/share/{place}") == letter


def test_vocabularies_hold_different_words():
    assert {name: len(set(found)) for name, found in vocabularies.VOCABULARIES.items()} == {
        "international": 30,
        "letters": 18,
        "digits": 30,
    }


def test_the_held_out_voice_validates_and_teaches_nothing():
    rows = [
        ("asterisk-ru", "ru_RU_f_IvrvoiceRU/phonetic/a_p.g722", "Train"),
        ("asterisk-june", "fr_CA_f_June/phonetic/a_p.g722", "Train"),
        ("asterisk-armelle", "fr/phonetic/a_p.gsm", "Test"),
        ("other", "/usr/share/tuxpaint/a_p.ogg", "Train"),
    ]
    voices = pd.DataFrame(
        [dict(speaker=s, origin=origin(o), split=split, path=o, language="xx", licence="") for s, o, split in rows]
    )
    found = sources.debian_words("international", voices)
    assert dict(zip(found["speaker"], found["split"])) == {
        "asterisk-ru": "Val",
        "asterisk-june": "Train",
        "asterisk-armelle": "Test",
    }


def speech_commands(root, people=8, lists=True):
    folder = root / "SpeechCommands" / "speech_commands_v0.01"
    for word in ("yes", "no"):
        for person in range(people):
            audio.write(
                folder / word / f"{person:08x}_nohash_0.wav", syllables(np.random.default_rng(person), 120, 1.0)
            )
    audio.write(folder / "_background_noise_" / "hum.wav", np.zeros(SR))
    if lists:
        (folder / "validation_list.txt").write_text("yes/00000000_nohash_0.wav\n")
        (folder / "testing_list.txt").write_text("no/00000001_nohash_0.wav\nyes/00000001_nohash_0.wav\n")
    return folder


def test_speech_commands_are_split_by_speaker(tmp_path):
    speech_commands(tmp_path)
    table = sources.load("speech_commands", tmp_path)
    assert table.attrs["words"] == ["no", "yes"] and len(table) == 16
    assert set(table.loc[table["speaker"] == "00000000", "split"]) == {"Val"}, (
        "the list names one file, but the person is one"
    )
    assert set(table.loc[table["speaker"] == "00000001", "split"]) == {"Test"}
    assert len(recordings.pool(table, "Train")) == 12


def test_recordings_in_that_layout_without_lists_are_split_by_speaker_too(tmp_path):
    table = sources.load("auto", speech_commands(tmp_path, lists=False))
    assert set(table["split"]) == {"Train", "Val", "Test"} and table.groupby("speaker")["split"].nunique().max() == 1


def test_bad_sources_are_named(tmp_path, table):
    with pytest.raises(sources.WordsError, match="speech_commands"):
        sources.load("kaggle")
    with pytest.raises(sources.WordsError, match="root="):
        sources.load("speech_commands")
    with pytest.raises(sources.WordsError, match="_nohash_"):
        sources.load("speech_commands", tmp_path)
    with pytest.raises(sources.WordsError, match="digits"):
        sources.debian_words("animals")
    lacking = table[(table["word"] != "echo") | (table["split"] != "Train")].copy()
    lacking.attrs["words"] = NAMES
    with pytest.raises(sources.WordsError, match="no Train recording of: echo"):
        sources.check(lacking)
    mixed = table.assign(speaker="one")
    mixed.attrs["words"] = NAMES
    with pytest.raises(LeakError, match="one"):
        sources.check(mixed)


# --- the pool and the mixtures


def test_a_word_is_trimmed_levelled_and_ends_at_four_kilohertz(pool):
    wave = pool.waves(0)[0]
    assert 0.3 * SR < len(wave) < 0.45 * SR and abs(audio.rms_db(wave) - recordings.LEVEL_DB) < 0.1
    noise = recordings.prepare(np.random.default_rng(0).standard_normal(SR).astype(np.float32) * 0.1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert power[4200:].sum() < 1e-3 * power.sum()


def test_a_click_before_the_word_is_cut():
    wave = np.zeros(SR, np.float32)
    wave[100:140] = 0.5
    wave[6400:12800] = syllables(np.random.default_rng(0), 120, 0.4)
    assert 6400 <= len(recordings.trim(wave)) < 8500 and np.abs(recordings.trim(wave)).max() < 0.5


def test_speed_and_pitch_change_what_they_say():
    wave = np.sin(2 * np.pi * 400 * np.arange(SR) / SR).astype(np.float32)

    def peak(x):
        return np.abs(np.fft.rfft(x[2000:10000], 2 * SR)).argmax() / 2

    faster, higher = recordings.vary(wave, 0.0, 1.25), recordings.vary(wave, 12.0, 1.0)
    assert abs(len(faster) / SR - 0.8) < 0.03 and abs(peak(faster) - 400) < 5
    assert abs(len(higher) / SR - 1.0) < 0.03 and abs(peak(higher) - 800) < 10


def test_a_clip_is_the_sum_of_its_parts_with_the_energies_of_its_label(pool):
    data = wm.Mixtures(pool, 40, seed=3)
    for number in range(40):
        plan = data.plan(number)
        clip, parts, shares = wm.mix(pool, plan)
        assert np.allclose(parts.sum(0), clip, atol=1e-6) and np.abs(clip).max() < 1
        energy = np.square(parts).sum(1)
        assert np.allclose(energy / energy.sum(), plan.shares, atol=1e-4), (
            "a word cut at the clip's end has its share all the same"
        )
        assert np.isclose(shares.sum(), 1) and 2 <= (shares > 0).sum() == len(plan.numbers) <= 4
        assert np.allclose(shares[pool.word[plan.numbers]], plan.shares, atol=1e-6)


def test_fixed_clips_stay_and_fresh_ones_change_with_the_epoch_alone(pool):
    fixed, fresh, again = (wm.Mixtures(pool, 4, seed=1, fresh=f, shift=0.1) for f in (False, True, True))
    before = fixed[2]["clip"], fresh[2]["clip"]
    for data in (fixed, fresh):
        data.set_epoch(3)
    assert np.array_equal(before[0], fixed[2]["clip"]) and not np.array_equal(before[1], fresh[2]["clip"])
    again.set_epoch(3)
    assert np.array_equal(again[2]["clip"], fresh[2]["clip"]), "a resumed run must see the same clips"


def test_clips_of_one_split_hold_only_its_voices(table):
    test = recordings.pool(table, "Test")
    assert set(test.speaker) == {"e"}
    parts = {name for number in range(10) for name in test.speaker[wm.Mixtures(test, 10).plan(number).numbers]}
    assert parts == {"e"}


def test_variants_are_of_the_same_words_and_only_in_the_varied_pool(pool):
    varied = pool.varied(2)
    assert [len(varied.waves(k)) for k in range(len(pool))] == [3] * len(pool) and len(pool.waves(0)) == 1
    assert np.array_equal(varied.waves(1)[0], pool.waves(1)[0])


def test_more_words_than_there_are_is_an_error(pool):
    with pytest.raises(sources.WordsError, match="5 words"):
        wm.Mixtures(pool, 2, words=(2, 6))


def test_a_clip_of_one_voice_holds_one_and_over_clips_everybody_speaks(pool):
    data = wm.Mixtures(pool, 30, seed=1, one_voice=True)
    voices = [set(pool.speaker[data.plan(number).numbers]) for number in range(30)]
    assert {len(one) for one in voices} == {1} and set.union(*voices) == {"t1", "t2"}
    few = pool.by((pool.speaker == "t1") | (pool.word < 3))
    with pytest.raises(sources.WordsError, match="t2 says 3 words"):
        wm.Mixtures(few, 2, one_voice=True)


# --- everybody held out in turn


def test_each_person_is_tested_once_and_stands_on_one_side(table):
    everyone = recordings.pool(table)
    assert people.folds(everyone)[0] == (["e"], ["t1"], ["t2", "v"])
    for count in (None, 3):
        parts = people.folds(everyone, count)
        assert sorted(name for fold in parts for name in fold.test) == ["e", "t1", "t2", "v"]
        for fold in parts:
            assert sorted([*fold.test, *fold.val, *fold.train]) == ["e", "t1", "t2", "v"]


def test_who_says_few_words_takes_no_part_and_two_people_are_too_few(table):
    everyone = recordings.pool(table)
    few = everyone.by((everyone.speaker != "e") | (everyone.word < 2))
    assert "e" not in {name for fold in people.folds(few) for name in (*fold.test, *fold.val, *fold.train)}
    with pytest.raises(sources.WordsError, match="2 people who say enough"):
        people.folds(everyone.by(np.isin(everyone.speaker, ["e", "v"])))


def test_of_very_many_people_thirty_take_part():
    names = np.array([f"p{k:03d}" for k in range(100)], object)
    many = recordings.Pool(["a"], np.zeros(100, int), names, [""] * 100)
    found = people.who(many)
    assert len(found) == 30 and found[0] == "p000" and found[-1] == "p099"


def test_students_interval_over_people():
    found = scores.over_people([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3 and found.high - 3 == pytest.approx(2.776 * np.sqrt(2.5 / 5), abs=1e-3)
    assert np.isnan(scores.over_people([1.0]).low)


def test_moving_a_clip_loses_what_leaves_it():
    clip = np.arange(10, dtype=np.float32)
    assert (
        wm.moved(clip, 3).tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6] and wm.moved(clip, -8).tolist() == [8, 9] + [0] * 8
    )


# --- the competition's folder


@pytest.fixture
def folder(tmp_path, pool):
    clips, shares = wm.Mixtures(pool, 6, seed=1).stacked()
    return word_clips.write_competition(tmp_path / "dacon", (clips, shares), clips[:3], pool.words)


def test_the_folder_reads_back_as_it_was_written(folder, pool):
    clips, shares = wm.Mixtures(pool, 6, seed=1).stacked()
    train, test = word_clips.open_competition(folder)
    assert (
        train.words == NAMES and np.allclose(train.shares, shares, atol=1e-5) and len(test) == 3 and test.shares is None
    )
    assert np.abs(word_clips.read_clips(train.paths) - clips).max() < 1e-4
    kept, held = word_clips.split_by_clip(train, 0.34)
    assert len(held) == 2 and sorted(kept.ids + held.ids, key=int) == train.ids


def test_features_are_computed_in_batches_once_and_found_again(folder, monkeypatch):
    train, _ = word_clips.open_competition(folder)
    net = WordCNN(5).eval()
    first = word_clips.cached_features(net, train, batch=4, progress=False)
    assert first.shape == (6, 80, 101) and isinstance(first, np.memmap)
    whole = net.features(torch.from_numpy(word_clips.read_clips(train.paths)))
    assert np.abs(first - whole.numpy()).max() < 0.1  # half precision of numbers up to 100
    monkeypatch.setattr(word_clips, "read_clips", lambda *_, **__: pytest.fail("computed twice"))
    assert np.array_equal(word_clips.cached_features(net, train, progress=False), first)


def test_what_features_take_is_measured_and_leaves_no_array_in_memory(tmp_path, capsys):
    found = word_clips.measure_features(300, tmp_path)
    assert found["clips"] == 300 and found["processor_seconds"] > 0 and "memory_mb" in capsys.readouterr().out


def test_an_interrupted_computation_leaves_nothing_behind(folder, monkeypatch):
    train, _ = word_clips.open_competition(folder)
    monkeypatch.setattr(word_clips, "read_clips", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        word_clips.cached_features(WordCNN(5).eval(), train, progress=False)
    assert not list((word_clips.cache_dir() / "features").iterdir())


def test_the_submission_has_the_answer_files_columns_and_rows_that_sum_to_one(folder, tmp_path):
    _train, test = word_clips.open_competition(folder)
    word_clips.submission(WordCNN(5), test, tmp_path / "submission.csv", batch=2, progress=False)
    table = pd.read_csv(tmp_path / "submission.csv")
    assert list(table.columns) == list(pd.read_csv(folder / "train_answer.csv").columns) and table["id"].tolist() == [
        1,
        2,
        3,
    ]
    assert np.allclose(table[NAMES].sum(axis=1), 1, atol=1e-6)


def test_other_lengths_and_rates_are_fitted_and_said_once(folder, capsys):
    wave = syllables(np.random.default_rng(0), 120, 1.5)
    audio.write(folder / "train" / "00001.wav", wave)
    audio.write(folder / "train" / "00002.wav", audio.resample(wave[:8000], SR, 8000), 8000)
    clips = word_clips.read_clips(sorted((folder / "train").glob("*.wav")))
    said = capsys.readouterr().out
    assert clips.shape == (6, SR) and np.allclose(clips[0], wave[4000:20000], atol=1e-3)
    assert (
        said.count("\n") == 3
        and "cut to its middle second" in said
        and "padded" in said
        and "8000 Hz resampled" in said
        and "00001.wav" in said
    )


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda f: (f / "train_answer.csv").unlink(), "no such file"),
        (lambda f: edit(f, lambda t: t.assign(alfa=t["alfa"] + (t["id"] == 3) * 0.5)), "row of id 3 .line 4. sums to"),
        (lambda f: edit(f, lambda t: t.assign(zulu=0.0)), "no clip holds zulu"),
        (lambda f: (f / "train" / "00002.wav").unlink(), "1 rows have no clip .*: 2"),
        (lambda f: audio.write(f / "train" / "00099.wav", np.zeros(SR)), "1 clips have no row .*: 00099.wav"),
        (lambda f: edit(f, lambda t: t.assign(id=[1, 1, 3, 4, 5, 6])), "an id stands twice: 1"),
        (lambda f: [path.unlink() for path in (f / "test").glob("*.wav")], "test: no wav files"),
    ],
)
def test_a_broken_folder_is_one_error_that_names_what_and_where(folder, break_it, message):
    break_it(folder)
    with pytest.raises(sources.WordsError, match=message):
        word_clips.open_competition(folder)


def edit(folder, change):
    path = folder / "train_answer.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
