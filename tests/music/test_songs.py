"""Songs in stems: four layouts read on miniature trees, splits that share nothing, excerpts and remixes, scores, and
bad input.
"""

import io

import made_songs
import mido
import numpy as np
import pytest
import soundfile
import torch

from lib import audio
from lib.music import checks, layouts, midi_scores, midi_songs, playing, remixing, songs

SR = 22050


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return made_songs.plain(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def opened(root):
    return layouts.open_songs(root)


# --- layouts


def test_the_plain_layout_with_its_splits(opened):
    assert [(song.name, song.split) for song in opened] == [
        ("song 4", "test"),
        ("song 0", "train"),
        ("song 1", "train"),
        ("song 2", "train"),
        ("song 3", "validation"),
    ]
    song = opened[1]
    whole = sum(song.read(stem) for stem in songs.STEMS)
    assert whole.shape == (3 * SR,) and np.abs(whole - song.read("mixture")).max() < 1e-3
    assert np.abs(whole - sum(made_songs.stems(seed=0).values()).mean(1)).max() < 1e-3  # stereo to mono is the mean


def test_a_stretch_a_channel_and_another_rate(tmp_path):
    made_songs.plain(tmp_path, {"train": 1}, sr=44100)
    (song,) = layouts.open_songs(tmp_path)
    assert song.info == (44100, 3 * 44100, 2) and song.read("vocals").shape == (3 * SR,)
    original = made_songs.stems(sr=44100)["bass"]
    for channel, expected in (("left", original[:, 0]), ("right", original[:, 1])):
        got, whole = song.read("bass", 1.0, 0.5, channel=channel), audio.resample(expected, 44100, SR)
        assert got.shape == (SR // 2,) and np.abs(got[500:-500] - whole[SR : SR + SR // 2][500:-500]).max() < 2e-3
    assert song.read("bass", 2.9, 0.5).shape == (SR // 2,)  # past the end: silence


def test_a_mixture_and_the_target_are_enough(tmp_path):
    parts = made_songs.stems()
    for name, wave in (("mixture", sum(parts.values())), ("vocals", parts["vocals"])):
        made_songs.write(tmp_path / "train" / "one" / f"{name}.wav", wave)
    (song,) = layouts.open_songs(tmp_path)
    assert song.parts("vocals") == ["rest"]
    rest = song.read_part("rest", "vocals", start=0.0, seconds=1.0)
    assert np.abs(rest - sum(parts[name] for name in ("drums", "bass", "other"))[:SR].mean(1)).max() < 1e-3


def test_musdb18hq_takes_the_validation_songs_that_its_authors_name(tmp_path):
    for split, name in (("train", "Leaf - Summerghost"), ("train", "A - B"), ("train", "C - D"), ("test", "E - F")):
        made_songs.plain(tmp_path / "all", {split: 1})
        (tmp_path / "all" / split / "song 0").rename(tmp_path / "all" / split / name)
    for number, folder in enumerate(sorted((tmp_path / "all").glob("*/*"))):  # not all the same song
        made_songs.write(folder / "mixture.wav", sum(made_songs.stems(seed=number).values()))
    opened = layouts.open_songs(tmp_path / "all", layout="musdb18hq")
    assert {song.name: song.split for song in opened} == {
        "Leaf - Summerghost": "validation",
        "A - B": "train",
        "C - D": "train",
        "E - F": "test",
    }


def test_moisesdb_is_summed_into_four_stems_and_split(tmp_path):
    opened = layouts.open_songs(made_songs.moisesdb(tmp_path))
    assert {split: sum(song.split == split for song in opened) for split in layouts.SPLITS} == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }
    song = next(song for song in opened if song.name == "Someone - Song 0")
    assert set(song.stems) == set(songs.STEMS) and len(song.stems["drums"]) == 2 and song.mixture is None
    drums = made_songs.stems(1.0, 44100, 0)["drums"].mean(1)
    assert np.abs(song.read("drums", sr=44100) - 2 * drums).max() < 1e-3
    assert np.abs(song.read("mixture") - sum(song.read(stem) for stem in songs.STEMS)).max() < 1e-6
    assert [song.split for song in layouts.open_songs(tmp_path, seed=0)] == [song.split for song in opened]


def test_slakh_reads_its_metadata_and_has_no_vocals(tmp_path):
    opened = layouts.open_songs(made_songs.slakh(tmp_path), target="bass")
    assert [song.split for song in opened] == ["test", "train", "train", "validation"]
    assert set(opened[0].stems) == {"drums", "bass", "other"} and opened[0].mixture.name == "mix.flac"
    with pytest.raises(
        songs.SongError, match="4 of 4 songs have no stem 'vocals'.*Slakh2100 holds no vocals; choose drums"
    ):
        layouts.open_songs(tmp_path)


# --- bad songs


def test_a_folder_without_the_target_is_named(root, tmp_path):
    made_songs.plain(tmp_path)
    (tmp_path / "train" / "song 1" / "vocals.wav").unlink()
    with pytest.raises(
        songs.SongError, match=r"1 of 5 songs have no stem 'vocals', such as song 1 .*Put vocals.wav into its folder"
    ):
        layouts.open_songs(tmp_path)
    with pytest.raises(songs.SongError, match="no such folder"):
        layouts.open_songs(tmp_path / "nothing")
    with pytest.raises(songs.SongError, match="unknown layout 'x'; known are: auto, plain"):
        layouts.open_songs(root, layout="x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(songs.SongError, match="no songs found in the layout plain. Expected"):
        layouts.open_songs(tmp_path / "empty")


def test_one_song_in_two_splits_is_found_under_another_name(root, tmp_path):
    made_songs.plain(tmp_path)
    parts = made_songs.stems(seed=0)  # what "song 0" of train is
    for name, wave in {**parts, "mixture": sum(parts.values())}.items():
        made_songs.write(tmp_path / "test" / "renamed" / f"{name}.wav", wave)
    with pytest.raises(songs.SongError, match=r"(song 0|renamed) \(t.*\) is .*: the same song in two splits"):
        layouts.open_songs(tmp_path)


def test_the_check_tells_lengths_silence_and_mixtures_that_are_no_sum(opened, tmp_path):
    table = checks.check(opened)
    assert (
        len(table) == 5
        and (table["residual_db"] < -60).all()
        and (table["rate"] == SR).all()
        and (table["channels"] == 2).all()
    )
    made_songs.plain(tmp_path, {"train": 1})
    folder, parts = tmp_path / "train" / "song 0", made_songs.stems()
    mixture = sum(parts.values())
    made_songs.write(folder / "mixture.wav", np.tanh(2 * mixture))  # as mastering does
    with pytest.warns(UserWarning, match=r"1 mixtures are not the sum of their stems.*song 0 \(-\d+\.\d dB\)"):
        table = checks.check(layouts.open_songs(tmp_path))
    left = np.tanh(2 * mixture).mean(1) - mixture.mean(1)
    assert table["residual_db"][0] == pytest.approx(
        audio.rms_db(left) - audio.rms_db(np.tanh(2 * mixture).mean(1)), abs=0.05
    )
    made_songs.write(folder / "drums.wav", parts["drums"][:-100])
    with pytest.raises(songs.SongError, match=r"song 0: its files differ in length .*drums.wav 2.995 s"):
        checks.check(layouts.open_songs(tmp_path))
    made_songs.write(folder / "drums.wav", parts["drums"])
    made_songs.write(folder / "vocals.wav", 0 * parts["vocals"])
    with pytest.raises(songs.SongError, match="song 0: its vocals is silent"):
        checks.check(layouts.open_songs(tmp_path))


def test_songs_in_which_the_target_never_sounds_are_told_apart(tmp_path):
    made_songs.plain(tmp_path, {"train": 2, "test": 1})
    made_songs.write(tmp_path / "train" / "song 1" / "bass.wav", 0 * made_songs.stems()["bass"])
    opened = layouts.open_songs(tmp_path, "bass")
    kept, silent = checks.heard(opened, "bass")
    assert silent == ["song 1"] and [song.name for song in kept] == ["song 2", "song 0"]
    assert checks.heard(opened, "drums") == (opened, [])


def test_every_split_needs_a_song(opened, tmp_path):
    assert {split: len(own) for split, own in layouts.by_split(opened).items()} == {
        "train": 3,
        "validation": 1,
        "test": 1,
    }
    made_songs.plain(tmp_path, {"train": 2})
    with pytest.raises(songs.SongError, match="no songs in validation and test, of 2 in all. Put at least one"):
        layouts.by_split(layouts.open_songs(tmp_path))


# --- examples to train on


def train_songs(opened):
    return [song for song in opened if song.split == "train"]


def test_without_remixing_an_example_is_the_songs_own(opened):
    torch.manual_seed(0)
    item = remixing.Remixes(train_songs(opened), items=4, seconds=1.0, remix=False)[0]
    assert item["mix"].shape == item["target"].shape == (SR,) and item["mix"].dtype == np.float32
    matches = [
        np.abs(np.correlate(song.read("mixture"), item["mix"], "valid")).max() / np.sum(item["mix"] ** 2)
        for song in train_songs(opened)
    ]
    assert max(matches) == pytest.approx(1, abs=1e-3)


def test_remixing_draws_songs_gains_signs_and_offsets_anew(opened):
    data, heard = remixing.Remixes(train_songs(opened), items=4, seconds=1.0), []
    data.heard = heard.append
    torch.manual_seed(1)
    first, again = data[0], data[0]
    assert not np.array_equal(first["mix"], again["mix"]) and heard == [1, 1]  # the same index, another example
    torch.manual_seed(1)
    assert np.array_equal(data[3]["mix"], first["mix"])  # but the same from the same generator
    assert np.abs(first["mix"]).max() <= 0.99 + 1e-6
    rng, calls = np.random.default_rng(0), []
    data._stem = lambda rng, part, choice: (
        calls.append((part, int(rng.choice(list(choice))))) or np.zeros(SR, np.float32)
    )
    for _ in range(30):
        data.remixed(rng)
    assert {part for part, _ in calls} == {"vocals", "drums", "bass", "other"}
    vocals, drums = ([k for part, k in calls if part == name] for name in ("vocals", "drums"))
    assert any(a != b for a, b in zip(vocals, drums)) and set(vocals) == {0, 1, 2}


def test_remixed_targets_keep_their_sound_but_not_level_and_sign(opened):
    data, rng = remixing.Remixes(train_songs(opened)[:1], items=1, seconds=3.0), np.random.default_rng(3)
    own = [train_songs(opened)[0].read("bass", channel=channel) for channel in ("left", "right", "mid")]
    gains = []
    for _ in range(40):
        wave = data._stem(rng, "bass", [0])
        scale = [float(wave @ ref / (ref @ ref)) for ref in own]
        best = min(range(3), key=lambda k: np.abs(wave - scale[k] * own[k]).max())
        assert np.abs(wave - scale[best] * own[best]).max() < 1e-2
        gains.append(scale[best])
    assert min(gains) < -0.5 and max(gains) > 0.5 and all(0.3 < abs(gain) < 3 for gain in gains)


def test_validation_excerpts_are_fixed_and_sung(opened):
    data = remixing.Excerpts(opened[-1:], seconds=1.0, each=2)
    assert len(data) == 2 and all(np.array_equal(data[k]["mix"], data[k]["mix"]) for k in range(2))
    assert all(audio.rms_db(data[k]["target"]) > remixing.ACTIVE_DB for k in range(2))


def test_excerpts_longer_than_a_song_are_refused(opened):
    with pytest.raises(songs.SongError, match="3.0 s is shorter than an excerpt of 9 s"):
        remixing.Remixes(opened, seconds=9.0)
    with pytest.raises(songs.SongError, match="no songs to train on"):
        remixing.Remixes([])


# --- scores and their sound


def score(path, melody, tempo=500000, drums=60):
    """A MIDI file: a melody on a piano, a bass an octave below, and a drum on each beat."""
    file = mido.MidiFile(ticks_per_beat=240)
    track = mido.MidiTrack(
        [mido.MetaMessage("set_tempo", tempo=tempo), mido.Message("program_change", channel=1, program=33)]
    )
    for number in range(drums):
        note = melody[number % len(melody)]
        notes = [(0, note), (1, note - 12), (9, 36)]
        track += [mido.Message("note_on", channel=channel, note=pitch, velocity=90) for channel, pitch in notes]
        track += [
            mido.Message("note_off", channel=channel, note=pitch, time=240 if k == 0 else 0)
            for k, (channel, pitch) in enumerate(notes)
        ]
    file.tracks.append(track)
    file.save(path)
    return path


def test_stems_are_played_apart_in_the_asked_key_and_tempo(tmp_path):
    path, font = score(tmp_path / "a.mid", [69]), playing.soundfont()
    stems = playing.render(path, font, seconds=2.0)
    assert set(stems) == {"drums", "bass", "other"} and all(wave.shape == (2 * SR, 2) for wave in stems.values())
    assert peak_hz(stems["other"]) == pytest.approx(440, rel=0.01) and peak_hz(stems["bass"]) == pytest.approx(
        220, rel=0.01
    )
    higher = playing.render(path, font, seconds=2.0, key=3)
    assert peak_hz(higher["other"]) == pytest.approx(440 * 2 ** (3 / 12), rel=0.01) and np.array_equal(
        higher["drums"], stems["drums"]
    )
    assert beats(stems["drums"]) == 4 and beats(playing.render(path, font, seconds=2.0, tempo=2.0)["drums"]) == 8


def test_the_line_that_is_sung_is_left_out_of_the_accompaniment(tmp_path):
    path, font = score(tmp_path / "a.mid", [69]), playing.soundfont()
    stems, less = (playing.render(path, font, seconds=1.0, without=channel) for channel in (None, 0))
    assert np.abs(stems["other"]).max() > 0.01 > np.abs(less["other"]).max()
    assert np.array_equal(stems["bass"], less["bass"])


def peak_hz(wave):
    spectrum = np.abs(np.fft.rfft(wave.mean(1) * np.hanning(len(wave))))
    low = next(iter(np.flatnonzero(spectrum > 0.3 * spectrum.max())))
    return (low + np.argmax(spectrum[low : low + 8])) * SR / len(wave)


def beats(wave):
    energy = np.square(wave.mean(1)).reshape(-1, SR // 50).mean(1)
    loud = energy > 0.2 * energy.max()
    return int(np.sum(loud[1:] & ~loud[:-1]) + loud[0])


def test_scores_that_share_phrases_stand_in_one_split():
    tunes = [{(k, k + 1, j) for k in range(40)} for j in range(3)]
    assert midi_scores.groups([tunes[0], tunes[1], tunes[0] | tunes[2]]) == [0, 1, 0]
    import pandas as pd

    table = pd.DataFrame({"name": list("abcdefgh"), "group": [0, 1, 0, 2, 3, 4, 5, 6]})
    parts = midi_scores.split(table, seed=3, validation=2, test=3)
    assert parts["split"].value_counts().to_dict() == {"train": 3, "test": 3, "validation": 2}
    assert parts.groupby("group")["split"].nunique().max() == 1


def test_facts_of_a_score_do_not_know_its_key(tmp_path):
    tune = [60, 62, 64, 65, 67, 64, 60, 71, 69]
    facts = [
        midi_scores._facts(midi_scores.read(score(tmp_path / f"{key}.mid", [note + key for note in tune])))
        for key in (0, 5)
    ]
    assert (
        facts[0][0] == {"drums": 60, "bass": 60, "other": 60}
        and facts[0][1] == facts[1][1]
        and facts[0][2] == pytest.approx(30)
    )


def test_songs_come_out_of_a_wad_file():
    song = io.BytesIO()
    mido.MidiFile().save(file=song)
    lumps = [(b"D_RUNNIN", song.getvalue()), (b"E1M1", b"map"), (b"D_OTHER", b"MUS\x1a")]
    data, directory, at = b"", b"", 12
    for name, content in lumps:
        directory += np.array([at, len(content)], "<i4").tobytes() + name.ljust(8, b"\0")
        data, at = data + content, at + len(content)
    wad = b"IWAD" + np.array([len(lumps), 12 + len(data)], "<i4").tobytes() + data + directory
    assert midi_scores.wad_songs(wad) == {"d_runnin": song.getvalue()}


def test_bad_scores_and_soundfonts_are_named(tmp_path, monkeypatch):
    (tmp_path / "no.mid").write_bytes(b"not a score")
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(midi_scores.ScoreError, match=r"no.mid: not a MIDI file"):
        midi_scores.load(tmp_path)
    with pytest.raises(midi_scores.ScoreError, match="no .mid file here"):
        midi_scores.load(tmp_path / "cache")
    with pytest.raises(midi_scores.ScoreError, match="no.mid: not a SoundFont"):
        playing.soundfont(tmp_path / "no.mid")
    with pytest.raises(midi_scores.ScoreError, match="no such SoundFont"):
        playing.soundfont(tmp_path / "none.sf2")


def test_rendered_songs_are_the_sum_of_their_stems_and_people_keep_their_split(tmp_path, monkeypatch):
    from made_voices import make_voices

    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    voices = make_voices(tmp_path / "voices", 1, 1, 1, recordings=3, seconds=(1.0, 2.0)).assign(seconds=20.0)
    (tmp_path / "midi").mkdir()
    for number in range(3):
        score(
            tmp_path / "midi" / f"tune{number}.mid", list(np.random.default_rng(number).integers(55, 80, 50)), drums=100
        )
    made = midi_songs.rendered(voices, 1, 1, 1, seconds=4.0, midi_root=str(tmp_path / "midi"), progress=False)
    opened = layouts.open_songs(made)
    assert sorted(song.split for song in opened) == ["test", "train", "validation"]
    assert (checks.check(opened)["residual_db"] < -80).all()
    for path in made.glob("*/*/mixture.wav"):
        parts = [soundfile.read(path.with_name(f"{stem}.wav"), dtype="int16")[0].astype(int) for stem in songs.STEMS]
        assert np.array_equal(sum(parts), soundfile.read(path, dtype="int16")[0])
    import pandas as pd

    table = pd.read_csv(made / "songs.csv")
    assert {row.split: row.speaker for row in table.itertuples()} == {
        "train": "train0",
        "validation": "val0",
        "test": "test0",
    }
    assert table["score"].nunique() == 3 and not table.loc[table["split"] == "test", "other_instruments"].any()
    before = {path: path.stat().st_mtime_ns for path in made.glob("*/*/*")}
    assert midi_songs.rendered(voices, 1, 1, 1, seconds=4.0, midi_root=str(tmp_path / "midi")) == made
    assert before == {path: path.stat().st_mtime_ns for path in made.glob("*/*/*")}  # read, not made again
