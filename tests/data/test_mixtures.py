"""The mixtures: sums, ratios, who speaks where, determinism, and that nothing is lost when building is cut short."""

import errno
import itertools
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest
from made_voices import SR, make_voices, syllables

from lib import audio
from lib.data import mixtures, noises, recipes, rendering
from lib.data.mixtures import MixtureError, build, parts, read_manifest

HALF_STEP = 0.5 / 32768 + 1e-7
SMALL = dict(train=8, val=3, test=3, progress=False)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"))


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("music"), np.random.default_rng(5)
    for number in range(2):
        audio.write(folder / f"tune{number}.wav", 0.1 * rng.standard_normal(12 * SR).astype(np.float32).clip(-3, 3))
    return folder


@pytest.fixture(scope="module")
def dataset(voices, music, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "Dataset"
    build(
        voices,
        out,
        train=20,
        val=6,
        test=6,
        background_share=0.7,
        room_share=0.2,
        music_folder=str(music),
        progress=False,
        workers=1,
    )
    return out


def rows(dataset):
    return [(split, row) for split in mixtures.SPLITS for _, row in read_manifest(dataset, split).iterrows()]


def stored(dataset, split, index):
    return {
        part: audio.read(mixtures.split_folder(dataset, split) / place / f"{name}_{index:06d}.wav")
        for part, (place, name) in mixtures.FOLDERS.items()
    }


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")} | {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("manifest.csv")
    }


def test_mixture_is_the_sum_of_its_parts(dataset):
    for split, row in rows(dataset):
        made, files = parts(dataset, split, row["index"]), stored(dataset, split, row["index"])
        assert np.abs(made["target"] + sum(made["interferers"]) + made["noise"] - made["mix"]).max() < 1e-6
        for part, wave in files.items():
            assert np.abs(wave - made[part]).max() <= HALF_STEP, (split, row["index"], part)
        assert np.abs(made["mix"] - made["target"]).max() > 0.01
        assert len(files["mix"]) == len(files["target"]) == 5 * SR and np.abs(files["mix"]).max() <= 0.99


def test_kinds_of_background_and_rooms_all_occur(dataset):
    kinds = {row["background"] for _, row in rows(dataset)}
    assert kinds == {"none", "babble", "music", "noise"}
    assert any(row["room"] for _, row in rows(dataset)) and not all(row["room"] for _, row in rows(dataset))


def test_enrollment_comes_from_other_recordings_and_is_long_enough(dataset):
    for _split, row in rows(dataset):
        enrollment, target = ({piece[0] for piece in row[name]} for name in ("enrollment_pieces", "target_pieces"))
        assert not enrollment & target
        assert all(f"/{row['speaker']}/" in name for name in enrollment | target)
        assert sum(piece[2] for piece in row["enrollment_pieces"]) >= 3 * SR - 1
        assert 3.0 <= row["enrollment_seconds"] <= 5.0


def test_interferers_are_others_of_the_same_split_and_babble_is_train(dataset):
    for split, row in rows(dataset):
        assert 1 <= len(set(row["interferers"])) == len(row["interferers"]) <= 2
        assert row["speaker"] not in row["interferers"]
        assert all(name.startswith(split.lower()) for name in [row["speaker"], *row["interferers"]])
        for name, pieces in zip(row["interferers"], row["interferer_pieces"]):
            assert all(f"/{name}/" in piece[0] for piece in pieces)
        if row["background"] == "babble":
            talkers = {piece[0].split("/")[1] for pieces in row["background_pieces"] for piece in pieces}
            assert len(talkers) >= 3 and all(name.startswith("train") for name in talkers)
            assert not talkers & {row["speaker"], *row["interferers"]}


def test_ratios_and_levels_are_what_the_manifest_says(dataset):
    difficulties = set()
    for split, row in rows(dataset):
        made = parts(dataset, split, row["index"])
        level = audio.rms_db(made["target"])
        low, high = (0.4, 0.6) if row["difficulty"] == "easy" else (0.8, 1.0)
        for wave in made["interferers"]:
            assert low - 1e-3 <= 10 ** ((audio.rms_db(wave) - level) / 20) <= high + 1e-3
        assert level - audio.rms_db(sum(made["interferers"])) == pytest.approx(row["sir_db"], abs=1e-3)
        if row["background"] != "none":
            assert level - audio.rms_db(made["noise"]) == pytest.approx(20 * np.log10(2), abs=1e-2)
        assert level == pytest.approx(-20 + 20 * np.log10(row["scale"]), abs=1e-2)
        difficulties.add(row["difficulty"])
    assert difficulties == {"easy", "hard"}


def test_ratios_in_db_are_met(voices, tmp_path):
    build(
        voices,
        tmp_path / "d",
        sir_db=(3.0, 5.0),
        snr_db=(8.0, 10.0),
        background_share=1.0,
        train=6,
        val=0,
        test=0,
        progress=False,
    )
    manifest = read_manifest(tmp_path / "d", "Train")
    assert manifest["sir_db"].between(3.0, 5.0).all() and manifest["snr_db"].between(8.0, 10.0).all()
    assert manifest["sir_db"].nunique() == 6 and not (tmp_path / "d" / "Val_Dataset").exists()


def test_clipping_scales_all_parts_together(voices, tmp_path):
    build(voices, tmp_path / "d", level_dbfs=-3.0, train=4, val=0, test=0, progress=False)
    for index, row in read_manifest(tmp_path / "d", "Train").set_index("index").iterrows():
        made = parts(tmp_path / "d", "Train", index)
        assert row["scale"] < 1 and np.abs(made["mix"]).max() == pytest.approx(0.99, abs=1e-3)
        assert (
            np.abs(
                stored(tmp_path / "d", "Train", index)["mix"]
                - made["target"]
                - sum(made["interferers"])
                - made["noise"]
            ).max()
            <= HALF_STEP
        )


def test_same_seed_same_bytes_whatever_the_processes(voices, tmp_path):
    settings = dict(train=20, val=3, test=3, segment_seconds=2.0, progress=False)
    build(voices, tmp_path / "one", workers=1, **settings)
    build(voices.sample(frac=1, random_state=1), tmp_path / "two", workers=2, **settings)
    build(voices, tmp_path / "other", workers=1, seed=1, **settings)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_rerun_changes_nothing_and_other_settings_need_overwrite(voices, tmp_path):
    out = tmp_path / "d"
    first = build(voices, out, **SMALL)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(voices, out, **SMALL).equals(first)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(MixtureError, match="overwrite=True"):
        build(voices, out, seed=3, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    old = contents(out)
    build(voices, out, seed=3, overwrite=True, **SMALL)
    assert contents(out).keys() == old.keys() and contents(out) != old
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_files_missing_from_a_finished_dataset_are_named(voices, tmp_path):
    build(voices, tmp_path / "d", **SMALL)
    (tmp_path / "d" / "Val_Dataset" / "Clean" / "clean_000002.wav").unlink()
    with pytest.raises(mixtures.DatasetError, match=r"clean_000002\.wav is missing \(index 2"):
        build(voices, tmp_path / "d", **SMALL)


def test_full_disk_leaves_the_earlier_dataset_whole_and_resumes(voices, tmp_path, monkeypatch):
    out, write, calls = tmp_path / "d", audio.write, []
    build(voices, out, **SMALL)
    old = contents(out)

    def full(path, *rest):
        calls.append(path)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *rest)

    monkeypatch.setattr(audio, "write", full)
    with pytest.raises(MixtureError, match="No space left.*Free some disk space"):
        build(voices, out, seed=9, overwrite=True, **SMALL)
    assert contents(out) == old
    monkeypatch.setattr(audio, "write", lambda *args: (calls.append(args[0]), write(*args)))
    calls.clear()
    build(voices, out, seed=9, overwrite=True, **SMALL)
    assert len(calls) == 3 * (14 - 3)  # three triples were complete before the disk was full
    build(voices, tmp_path / "fresh", seed=9, **SMALL)
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_build_resumes_to_the_same_dataset(voices, tmp_path, monkeypatch):
    write, out = audio.write, tmp_path / "d"
    monkeypatch.setattr(audio, "write", lambda *args: (time.sleep(0.05), write(*args)))
    child = multiprocessing.get_context("fork").Process(target=build, args=(voices, out), kwargs=SMALL)
    child.start()
    rows = tmp_path / "d.building" / "Train_Dataset" / "rows"
    while len(list(rows.glob("*.json"))) < 3:
        assert child.exitcode is None, "the build ended before it could be killed"
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    kept = {path: path.stat().st_mtime_ns for path in rows.glob("*.json")}
    assert not out.exists() and 3 <= len(kept) < 8
    first = (tmp_path / "d.building" / "Train_Dataset" / "Mix" / "mix_000001.wav").stat().st_mtime_ns
    monkeypatch.setattr(audio, "write", write)
    build(voices, out, **SMALL)
    assert (out / "Train_Dataset" / "Mix" / "mix_000001.wav").stat().st_mtime_ns == first
    build(voices, tmp_path / "fresh", **SMALL)
    assert contents(out) == contents(tmp_path / "fresh") and not list(out.rglob(".part*"))


def test_kill_between_the_two_renames_loses_nothing(voices, tmp_path):
    out = tmp_path / "d"
    build(voices, out, **SMALL)
    old = contents(out)
    out.rename(tmp_path / "d.replaced")
    build(voices, out, **SMALL)
    assert contents(out) == old and [path.name for path in tmp_path.iterdir()] == ["d"]


def test_faint_mixtures_are_skipped_and_counted(voices, tmp_path):
    summary = build(
        voices, tmp_path / "d", train=12, val=0, test=0, level_dbfs=-52.0, background_share=0.0, progress=False
    ).iloc[0]
    manifest = read_manifest(tmp_path / "d", "Train")
    assert summary["skipped"] > 0 and summary["mixtures"] == len(manifest) == 12 - summary["skipped"]
    assert (manifest["mix_level_db"] >= -50).all()
    assert len(mixtures.check_dataset(tmp_path / "d")) == len(manifest)
    with pytest.raises(MixtureError, match="all 3 mixtures were skipped"):
        build(voices, tmp_path / "e", train=3, val=0, test=0, level_dbfs=-70.0, progress=False)


def test_silent_recordings_are_never_used(tmp_path):
    voices = make_voices(tmp_path / "v", train=3, val=0, test=0)
    silent = [path for path in voices["path"] if path.endswith(("001.flac", "002.flac"))]
    for path in silent:
        audio.write(path, np.zeros(4 * SR, dtype=np.float32))
    voices.loc[voices["path"].isin(silent), "seconds"] = (
        4.0 + np.arange(len(silent)) / SR
    )  # unequal, or they count as one recording
    build(voices, tmp_path / "d", train=12, val=0, test=0, background_share=0.0, progress=False)
    used = str(
        read_manifest(tmp_path / "d", "Train")[["target_pieces", "enrollment_pieces", "interferer_pieces"]].to_dict()
    )
    assert "000.flac" in used and "001.flac" not in used and "002.flac" not in used


def test_short_letters_make_full_segments(tmp_path):
    voices = make_voices(tmp_path / "v", train=3, val=0, test=0, recordings=25, seconds=(0.35, 0.6))
    build(voices, tmp_path / "d", train=6, val=0, test=0, progress=False)
    for _, row in read_manifest(tmp_path / "d", "Train").iterrows():
        assert len(row["target_pieces"]) >= 6 and 3.0 <= row["enrollment_seconds"] <= 5.0
        starts_and_ends = [(piece[3], piece[3] + piece[2]) for piece in row["target_pieces"]]
        gaps = [(after[0] - before[1]) / SR for before, after in itertools.pairwise(starts_and_ends)]
        assert all(0.1 - 1e-3 <= gap <= 0.3 + 1e-3 for gap in gaps)
        assert 5 * SR - starts_and_ends[-1][1] < 0.6 * SR


def test_speakers_with_too_few_recordings_are_named_and_left_out(tmp_path, capsys):
    voices = make_voices(tmp_path / "v", train=4, val=0, test=0)
    voices = voices[(voices["speaker"] != "train2") | voices["path"].str.endswith("000.flac")]
    build(voices, tmp_path / "d", train=6, val=0, test=0, progress=False)
    assert "1 speaker(s) with too few recordings" in (said := capsys.readouterr().out) and said.count("train2") == 1
    assert "train2" not in set(read_manifest(tmp_path / "d", "Train")["speaker"])


def test_one_recording_under_two_names_is_one_recording(tmp_path, capsys):
    voices = make_voices(tmp_path / "v", train=3, val=0, test=0, recordings=2, seconds=(6.0, 7.0))
    twin = voices[voices["speaker"] == "train0"].copy()
    for first, second in zip(twin["path"], reversed(twin["path"].tolist())):
        if first < second:
            audio.write(second, audio.read(first))
    voices.loc[twin.index, "seconds"] = twin["seconds"].iloc[0]
    build(voices, tmp_path / "d", train=3, val=0, test=0, progress=False)
    assert "train0" in capsys.readouterr().out


def test_backgrounds_do_not_cross_the_splits():
    few, many = noises.by_split(["a", "b"], 0), noises.by_split([f"n{k}" for k in range(20)], 0)
    assert few["Train"] == [("a", 0.0, 0.8), ("b", 0.0, 0.8)] and few["Test"] == [("a", 0.9, 1.0), ("b", 0.9, 1.0)]
    names = {split: {name for name, *_ in spans} for split, spans in many.items()}
    assert [len(names[split]) for split in mixtures.SPLITS] == [16, 2, 2] and len(set().union(*names.values())) == 20


def test_user_noise_folder_is_used_and_a_short_noise_repeated(voices, tmp_path):
    audio.write(tmp_path / "noises" / "hum.wav", syllables(np.random.default_rng(0), 50, 8.0))
    build(
        voices,
        tmp_path / "d",
        noise_folder=str(tmp_path / "noises"),
        babble_share=0,
        noise_share=0,
        background_share=1.0,
        **SMALL,
    )
    test = read_manifest(tmp_path / "d", "Test")
    assert set(test["background"]) == {"folder"}
    for _, row in test.iterrows():
        pieces = row["background_pieces"][0]
        assert len(pieces) > 1 and all(
            piece[1] >= 0.9 * 8 * SR - 1 for piece in pieces
        )  # the last tenth, again and again
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no audio file"):
        build(voices, tmp_path / "e", noise_folder=str(tmp_path / "empty"), **SMALL)


def test_coloured_noise_is_level_and_falls_with_frequency():
    tilts = []
    for seed in range(20):
        wave = noises.coloured(np.random.default_rng(seed), SR)
        power = np.abs(np.fft.rfft(wave)) ** 2
        tilts.append(10 * np.log10(power[100:1000].mean() / power[4000:8000].mean()))
        assert audio.rms_db(wave) == pytest.approx(0.0, abs=0.01)
    assert min(tilts) > -1 and max(tilts) > 15 > min(tilts) + 5


def test_room_keeps_the_target_and_adds_reverberation(voices, tmp_path):
    build(voices, tmp_path / "wet", room_share=1.0, **SMALL)
    manifest = read_manifest(tmp_path / "wet", "Test")
    row = manifest.iloc[0]
    library = recipes.Library({"voices": os.path.commonpath(list(voices["path"]))})
    dry = rendering.assemble(mixtures.decode(row)["target_pieces"], library, 5 * SR)
    wet = parts(tmp_path / "wet", "Test", int(row["index"]))["target"]
    delay = np.argmax(np.correlate(wet[: SR * 2], dry[: SR * 2], "full")) - (2 * SR - 1)
    assert manifest["room"].notna().all() and 0 < delay < 0.05 * SR
    aligned = wet[delay:], dry[: len(wet) - delay]
    assert 0.3 < abs(np.corrcoef(*aligned)[0, 1]) < 0.999


def test_moved_voices_can_be_pointed_to(voices, dataset, tmp_path):
    root = os.path.commonpath(list(voices["path"]))
    row = next(row for _, row in rows(dataset) if row["background"] != "music")
    split = next(split for split, other in rows(dataset) if other is row or other["index"] == row["index"])
    (tmp_path / "moved").symlink_to(root)
    moved = parts(dataset, split, row["index"], roots={"voices": tmp_path / "moved"})
    assert np.array_equal(moved["mix"], parts(dataset, split, row["index"])["mix"])
    with pytest.raises(audio.AudioError, match="no such file"):
        parts(dataset, split, row["index"], roots={"voices": tmp_path / "nowhere"})
    with pytest.raises(MixtureError, match="no mixture 999 in Train"):
        parts(dataset, "Train", 999)


def test_unusable_voices_and_settings_say_why(voices, tmp_path):
    out = tmp_path / "d"
    with pytest.raises(MixtureError, match="unknown mixture setting sir; known are train, val"):
        build(voices, out, sir=3)
    with pytest.raises(MixtureError, match=r"easy_ratio: expected \(low, high\)"):
        build(voices, out, easy_ratio=(0.6, 0.4))
    with pytest.raises(MixtureError, match="room_share: expected a share"):
        build(voices, out, room_share=2)
    with pytest.raises(MixtureError, match="lacks split"):
        build(voices.drop(columns="split"), out)
    with pytest.raises(MixtureError, match="Val: expected at least 2 speakers"):
        build(voices[~voices["speaker"].isin(["val1", "val2"])], out, **SMALL)
    twice = voices.copy()
    twice.loc[twice.index[twice["speaker"] == "train0"][0], "split"] = "Test"
    with pytest.raises(MixtureError, match="two splits: train0 in"):
        build(twice, out, **SMALL)
    gone = voices.copy()
    gone.loc[3, "path"] = str(tmp_path / "gone.flac")
    with pytest.raises(MixtureError, match="gone.flac: this recording"):
        build(gone, out, **SMALL)
    out.mkdir()
    (out / "mine.txt").write_text("not built here")
    with pytest.raises(MixtureError, match="not built here"):
        build(voices, out, overwrite=True, **SMALL)
    assert (out / "mine.txt").exists()


def test_mixtures_per_speaker(voices, tmp_path):
    build(voices, tmp_path / "d", per_speaker=2, progress=False)
    assert (read_manifest(tmp_path / "d", "Train")["speaker"].value_counts() == 2).all()
    assert len(read_manifest(tmp_path / "d", "Test")) == 6
