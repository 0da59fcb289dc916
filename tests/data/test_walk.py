"""One walk through a folder: what is read, what is passed over and said, links that lead nowhere."""

import os
import warnings

import numpy as np
import pytest
import soundfile

from lib import audio
from lib.data import voices
from lib.data.dataset import DatasetError, check_dataset
from lib.data.walk import sounds

WAVE = 0.3 * np.sin(np.arange(32000) * 0.1)


@pytest.fixture
def folder(tmp_path):
    for name in ("kim/a.wav", "lee/b.WAV", "lee/deep/c.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, WAVE, 16000)
    return tmp_path


def test_hidden_and_system_names_are_passed_over_without_a_word(folder):
    for name in (".DS_Store", "._a.wav", "Thumbs.db", "desktop.ini", "~$list.docx"):
        (folder / "kim" / name).write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX", "@eaDir", ".Trashes"):
        (folder / name).mkdir()
        (folder / name / "a.wav").write_bytes(b"nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(sounds(folder).files) == 3 and len(voices.folder(folder)) == 3
    assert len(sounds(folder).passed) == 8


def test_what_is_passed_over_is_counted_and_said(folder):
    (folder / "kim" / "notes.txt").write_text("x")
    (folder / "kim" / "song.pdf").write_text("x")
    with pytest.warns(UserWarning, match=r"3 recordings; passed over 2 other names: 1 no recording by its suffix .txt"):
        sounds(folder)


def test_links_are_followed_and_a_broken_one_is_named(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    soundfile.write(other / "d.wav", WAVE, 16000)
    os.symlink(other, folder / "park")
    os.symlink(folder, folder / "kim" / "round")  # a circle
    assert sorted(voices.folder(folder)["speaker"]) == ["kim", "lee", "lee", "park"]
    os.symlink(other / "gone.wav", folder / "lee" / "gone.wav")
    with pytest.raises(voices.VoicesError, match=r"gone.wav: a link to .*which is not there"):
        voices.folder(folder)


@pytest.mark.parametrize("suffix", [".opus", ".oga", ".aiff", ".au", ".caf", ".w64"])
def test_every_suffix_that_can_be_read_counts(folder, suffix):
    kind = {".opus": dict(format="OGG", subtype="OPUS"), ".oga": dict(format="OGG", subtype="VORBIS")}.get(suffix, {})
    soundfile.write(folder / "kim" / f"x{suffix}", np.repeat(WAVE, 3), 48000, **kind)
    assert len(voices.folder(folder)) == 4


def test_loose_recordings_and_files_cut_off_are_said(folder):
    soundfile.write(folder / "loose.wav", WAVE, 16000)
    with pytest.warns(UserWarning, match="passed over 1 recordings that lie in no folder of a speaker, such as loose"):
        assert len(voices.folder(folder)) == 3
    data = (folder / "kim" / "a.wav").read_bytes()
    (folder / "kim" / "a.wav").write_bytes(data[:9000])
    with pytest.raises(voices.VoicesError, match=r"a.wav: its header announces 2.00 s, but it holds 0.28 s"):
        voices.folder(folder)


def test_a_dataset_with_system_files_and_links(folder, tmp_path_factory):
    root, far = tmp_path_factory.mktemp("d"), folder / "kim" / "a.wav"
    for place, name in (("Clean", "clean"), ("Mix", "mix"), ("Target", "enrollment")):
        (root / "Test_Dataset" / place).mkdir(parents=True)
        os.symlink(far, root / "Test_Dataset" / place / f"{name}_000001.wav")
        (root / "Test_Dataset" / place / "._mix_000001.wav").write_bytes(b"\0")
        (root / "Test_Dataset" / place / "Thumbs.db").write_bytes(b"\0")
    assert len(check_dataset(root)) == 1
    far.unlink()
    with pytest.raises(DatasetError, match=r"000001.wav: a link to"):
        check_dataset(root)


@pytest.mark.parametrize(
    "place, seconds, level, said",
    [
        ("Target", 0.3, 0.3, "the enrollment lasts 0.30 s, and takes at least 1 s"),
        ("Target", 2.0, 0.0, "the enrollment is silent"),
        ("Mix", 2.0, 0.0, "the mix is silent"),
    ],
)
def test_mixtures_that_cannot_be_scored_are_named(tmp_path, place, seconds, level, said):
    for where, name in (("Clean", "clean"), ("Mix", "mix"), ("Target", "enrollment")):
        wave = WAVE * level / 0.3 if where == place else WAVE
        audio.write(
            tmp_path / "Test_Dataset" / where / f"{name}_000007.wav",
            wave[: int(seconds * 16000)] if where == place else wave,
        )
    with pytest.raises(DatasetError, match=rf"Test 7: .*000007.wav: {said}"):
        check_dataset(tmp_path)
