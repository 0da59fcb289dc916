"""Sources of voices, on tiny packages, folders and files made on the spot; nothing is downloaded."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_packages import HELD_OUT, SR, encoded, make_deb, silence, speech

from lib import audio
from lib.data import debian, voices

# --- the committed table


def test_the_committed_table_is_large_enough_and_balanced():
    table = debian.curated()
    table = table[table["speaker"] != "-"]
    people = table.drop_duplicates("speaker")
    assert len(people) >= 60
    for split, least in (("Val", 8), ("Test", 10)):
        held = people[people["split"] == split]
        assert len(held) >= least
        assert {"F", "M"} <= set(held["sex"]) and held["language"].nunique() >= 5
    assert not table.duplicated(["package", "pattern"]).any()
    assert set(table["sex"]) <= set("FMC?") and (table["licence"] != "").all()


def test_the_committed_table_gives_each_speaker_one_split_and_keeps_the_held_out_held_out():
    table = debian.curated()
    table = table[table["speaker"] != "-"]
    assert (table.groupby("speaker")[["split", "sex"]].nunique() == 1).all(axis=None)
    for split, speakers in HELD_OUT.items():
        assert set(table.loc[table["split"] == split, "speaker"]) <= speakers
        assert not set(table.loc[table["split"] != split, "speaker"]) & speakers


# --- trimming


def test_trim_cuts_the_ends_and_long_pauses_and_keeps_short_ones():
    wave = np.concatenate([silence(1), speech(1), silence(0.3), speech(2), silence(2), speech(3), silence(0.7)])
    seconds = len(debian.trim(wave)) / SR
    assert (
        3.3 + 2 * 0.1 <= seconds <= 3.3 + 6 * 0.1 + 0.1
    )  # three words, the short pause, a tenth of a second around each


def test_trim_is_not_misled_by_hum_offset_or_level():
    word = speech(1)
    wave = np.concatenate([silence(1), word, silence(1)])
    hum = 0.01 * np.sin(2 * np.pi * 50 * np.arange(len(wave)) / SR).astype(np.float32)
    expected = len(debian.trim(wave))
    assert expected < 1.4 * SR
    for disturbed in (wave + 0.1, wave + hum, 0.05 * wave):
        assert abs(len(debian.trim(disturbed)) - expected) <= 0.1 * SR


@pytest.mark.parametrize(
    "wave", [silence(2), silence(0), np.full(SR, 0.3, dtype=np.float32), 1e-6 * np.ones(5, dtype=np.float32)]
)
def test_trim_leaves_nothing_of_silence(wave):
    assert len(debian.trim(wave)) == 0


def test_content_hash_hears_samples_not_names():
    wave = np.round(speech(1) * 32768) / 32768  # as decoded from 16 bits
    assert debian.content_hash(wave.astype(np.float32)) == debian.content_hash(wave + 1e-7)
    assert len({debian.content_hash(other) for other in (wave, wave[1:], 0.9 * wave)}) == 3


# --- Debian packages


@pytest.fixture
def package(cache, tmp_path):
    """A package `talk` in the cache and a table for it: anna, bert, one of anna's files left out, a copy, a silent and
    a broken file.
    """
    folder = cache / "debian" / "packages"
    folder.mkdir(parents=True)
    make_deb(
        folder / "talk_1.0_all.deb",
        {
            "talk/a1.wav": encoded(speech(1)),
            "talk/a2.ogg": encoded(speech(2), "ogg", 22050),
            "talk/a2copy.ogg": encoded(speech(2), "ogg", 22050),
            "talk/a3.wav": encoded(speech(3)),
            "talk/b1.wav": encoded(np.stack([speech(4)] * 2, 1)),
            "talk/ä b1.wav": encoded(speech(5)),
            "talk/a4.wav": encoded(silence(1)),
            "talk/a5.wav": b"no audio at all",
            "talk/README": b"read me",
            "music/a9.wav": encoded(speech(6)),
        },
    )
    table = tmp_path / "table.csv"
    table.write_text(
        "speaker,package,pattern,language,sex,licence,split,note\n-,talk,*/talk/a3.wav,en,,,,not anna\n"
        "anna,talk,*/talk/a*,en,F,CC0,Train,\nbert,talk,*/talk/*b1.wav,de,M,CC0,Test,\n"
    )
    return table


def test_debian_decodes_what_the_table_says(package):
    found = debian.load(progress=False, table=package, workers=1)
    assert list(found.columns) == debian.COLUMNS
    origins = {speaker: sorted(Path(o).name for o in rows["origin"]) for speaker, rows in found.groupby("speaker")}
    assert origins == {"anna": ["a1.wav", "a2.ogg"], "bert": ["b1.wav", "ä b1.wav"]}
    for row in found.itertuples():
        wave, rate = soundfile.read(row.path)
        assert rate == SR and wave.ndim == 1 and abs(len(wave) / SR - row.seconds) < 1e-6 and 0.7 < row.seconds < 1.1
    assert dict(zip(found["speaker"], found["split"])) == {"anna": "Train", "bert": "Test"}


def test_what_a_killed_run_left_is_removed_after_an_hour(package, cache):
    packages = cache / "debian" / "packages"
    for name in (".part-old", ".unpacked-old", ".part-new"):
        (packages / name).mkdir()
        (packages / name / "talk_1.0_all.deb").write_bytes(b"half")
        if name.endswith("old"):
            os.utime(packages / name, (0, 0))
    debian.load(progress=False, table=package, workers=1)
    assert sorted(path.name for path in packages.iterdir()) == [".part-new", "talk_1.0_all.deb"]


def test_debian_reads_the_same_without_dpkg(package, monkeypatch):
    first = debian.load(progress=False, table=package, workers=1)
    debian.table_file(package).unlink()
    shutil.rmtree(Path(first["path"][0]).parents[1])
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    pd.testing.assert_frame_equal(debian.load(progress=False, table=package, workers=1), first)


def test_a_second_call_decodes_nothing_and_a_changed_table_is_not_answered_from_the_cache(package, monkeypatch):
    first = debian.load(progress=False, table=package, workers=1)
    monkeypatch.setattr(debian, "_collect", lambda *_: pytest.fail("decoded again"))
    pd.testing.assert_frame_equal(debian.load(progress=False, table=package), first)
    package.write_text(package.read_text().replace("bert", "berta"))
    monkeypatch.undo()
    with pytest.raises(pytest.fail.Exception):
        monkeypatch.setenv("WORKBOOK_CACHE", str(Path(first["path"][0]).parents[3]))
        monkeypatch.setattr(debian, "_collect", lambda *_: pytest.fail("decoded again"))
        debian.load(progress=False, table=package)


def test_a_recording_deleted_from_the_cache_is_made_again(package):
    first = debian.load(progress=False, table=package, workers=1)
    Path(first["path"][1]).unlink()
    pd.testing.assert_frame_equal(debian.load(progress=False, table=package, workers=1), first)
    assert Path(first["path"][1]).is_file()


def test_an_interrupted_package_is_decoded_anew(package, monkeypatch):
    monkeypatch.setattr(debian, "write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        debian.load(progress=False, table=package, workers=1)
    monkeypatch.undo()
    monkeypatch.setenv("WORKBOOK_CACHE", str(package.parent / "cache"))
    assert len(debian.load(progress=False, table=package, workers=1)) == 4


def test_a_speaker_that_the_package_lacks_is_said(package):
    package.write_text(package.read_text() + "carl,talk,*/talk/c*,en,M,CC0,Val,\n")
    with pytest.warns(UserWarning, match="talk: .* no recording of carl"):
        debian.load(progress=False, table=package, workers=1)


def test_a_damaged_package_is_named(package, cache):
    deb = next((cache / "debian" / "packages").glob("*.deb"))
    deb.write_bytes(deb.read_bytes()[:400])
    with pytest.raises(voices.VoicesError, match="talk_1.0_all.deb.*damaged.*Delete"):
        debian.load(progress=False, table=package, workers=1)


def test_without_apt_the_other_sources_are_named(cache, monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(voices.VoicesError, match="librispeech.*folder.*Dataset"):
        voices.load("debian", progress=False)
    with pytest.warns(UserWarning, match="no background music"):
        assert voices.background_music(progress=False) == []


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(
        debian.subprocess,
        "run",
        lambda *_, **__: subprocess.CompletedProcess([], 100, "", "W: x\nE: Unable to locate package talk"),
    )
    with pytest.raises(
        voices.VoicesError, match="(?s)Unable to locate package talk.*run again.*librispeech.*folder.*Dataset"
    ):
        debian.fetch("talk", tmp_path / "packages")
    assert not list((tmp_path / "packages").iterdir())  # nothing half made stays


def test_missing_package_lists_are_fetched_without_root(tmp_path, monkeypatch):
    commands = []

    def apt_get(command, cwd, **_):
        commands.append(command)
        lists = next((Path(part.split("=")[1]) for part in command if part.startswith("Dir::State::Lists=")), None)
        if command[-1] == "update":
            (lists / "talk").touch()
        elif lists and (lists / "talk").is_file():
            (Path(cwd) / "talk_1.0_all.deb").write_bytes(b"deb")
        else:
            return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package talk")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.subprocess, "run", apt_get)
    assert debian.fetch("talk", tmp_path / "packages").read_bytes() == b"deb"
    assert [command[-1] for command in commands] == ["talk", "talk", "update", "talk"]
    next((tmp_path / "packages").glob("*.deb")).unlink()
    debian.fetch("talk", tmp_path / "packages")
    assert [command[-1] for command in commands[4:]] == ["talk", "talk"]  # the lists are kept for the next package


def test_a_downloaded_package_is_moved_into_place_and_not_fetched_twice(tmp_path, monkeypatch):
    def apt_get(command, cwd, **_):
        (Path(cwd) / "talk_1.0_all.deb").write_bytes(b"deb")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.subprocess, "run", apt_get)
    path = debian.fetch("talk", tmp_path)
    assert path == tmp_path / "talk_1.0_all.deb" and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(debian.subprocess, "run", lambda *_, **__: pytest.fail("fetched twice"))
    assert debian.fetch("talk", tmp_path) == path


# --- LibriSpeech


def make_librispeech(root, subset="dev-clean"):
    for speaker in ("84", "1272", "2035"):
        for number in range(2):
            audio.write(
                root / "LibriSpeech" / subset / speaker / "99" / f"{speaker}-99-{number:04d}.flac",
                speech(number + 1, 0.5),
            )
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text(
        "; a comment | x\n84 | F | dev-clean | 8.02 | Christie Nowak\n1272 | M | dev-clean | 8 | NN\n"
    )


@pytest.mark.parametrize("below", [".", "LibriSpeech", "LibriSpeech/dev-clean"])
def test_librispeech_reads_a_local_copy_from_any_level(tmp_path, below):
    make_librispeech(tmp_path)
    found = voices.load("librispeech", root=tmp_path / below, progress=False)
    assert list(found.columns) == voices.COLUMNS and len(found) == 6
    assert found.groupby("speaker")["sex"].first().to_dict() == {
        "librispeech-1272": "M",
        "librispeech-2035": "?",
        "librispeech-84": "F",
    }
    assert np.allclose(found["seconds"], 0.5)


def test_librispeech_that_cannot_be_downloaded_says_what_to_do(cache, monkeypatch):
    import torchaudio.datasets

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchaudio.datasets, "LIBRISPEECH", no_network)
    monkeypatch.setattr(voices.shutil, "which", lambda name: None)
    with pytest.raises(voices.VoicesError, match="dev-clean.*no route.*`root`.*folder.*Dataset"):
        voices.load("auto", progress=False)  # without apt, auto is librispeech


def test_librispeech_is_moved_into_place_after_the_download(tmp_path, monkeypatch):
    import torchaudio.datasets

    monkeypatch.setattr(
        torchaudio.datasets, "LIBRISPEECH", lambda root, url, download: make_librispeech(Path(root), url)
    )
    found = voices.librispeech(tmp_path, progress=False)
    assert len(found) == 6 and sorted(p.name for p in tmp_path.iterdir()) == ["LibriSpeech"]
    assert "F" in set(found["sex"])


def test_an_unknown_subset_is_refused():
    with pytest.raises(voices.VoicesError, match="train-clean-1000.*known are dev-clean"):
        voices.librispeech(subset="train-clean-1000")


# --- one's own recordings


def write_m4a(path, wave):
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SR)
        frame = av.AudioFrame.from_ndarray(wave[None, :], format="fltp", layout="mono")
        frame.sample_rate = SR
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.fixture
def own(tmp_path):
    for name, suffix in (("anna", "wav"), ("bert", "flac"), ("bert", "ogg"), ("cleo", "mp3")):
        (tmp_path / name).mkdir(exist_ok=True)
        soundfile.write(tmp_path / name / f"x.{suffix}", np.stack([speech(1)] * 2, 1), SR)
    write_m4a(tmp_path / "cleo" / "Y.M4A", speech(2))
    (tmp_path / "cleo" / "notes.txt").write_text("not a recording")
    return tmp_path


def test_folder_takes_every_format(own):
    found = voices.load(root=own)  # auto, since a root is given
    assert list(found.columns) == voices.COLUMNS
    assert found.groupby("speaker").size().to_dict() == {"anna": 1, "bert": 2, "cleo": 2}
    assert np.allclose(found["seconds"], 1.0, atol=0.1)
    for row in found.itertuples():
        assert len(audio.read(row.path)) == pytest.approx(row.seconds * SR, abs=0.1 * SR)


def test_folder_names_what_it_cannot_read_and_skips_it_only_when_asked(own):
    (own / "anna" / "empty.wav").touch()
    (own / "bert" / "broken.mp3").write_bytes(b"this is not audio" * 10)
    with pytest.raises(voices.VoicesError, match="(?s)empty.wav.*broken.mp3.*2 files.*skip_bad"):
        voices.load("folder", root=own)
    with pytest.warns(UserWarning, match="empty.wav"):
        assert len(voices.load("folder", root=own, skip_bad=True)) == 5


def test_folder_says_what_layout_it_expects(tmp_path):
    with pytest.raises(voices.VoicesError, match="no such folder"):
        voices.folder(tmp_path / "nowhere")
    audio.write(tmp_path / "loose.wav", speech(1))
    with pytest.raises(voices.VoicesError, match="speaker_name/"):
        voices.folder(tmp_path)
    with pytest.raises(voices.VoicesError, match="needs `root`"):
        voices.load("folder")


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(voices.VoicesError, match="'youtube'.*auto, debian, librispeech, folder"):
        voices.load("youtube")
