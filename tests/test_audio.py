"""What people hand over as a wave: integers, channels that cancel, files cut off. `lib.models` has a twin of it."""

import os
import struct
import sys
import warnings

import numpy as np
import pytest
import soundfile
import torch

from lib import audio
from lib.data import walk
from lib.models import chunks

SR = 16000
BOTH = pytest.mark.parametrize("mono", [audio.mono, chunks.mono])


def tone(seconds=1.0, hz=300, level=0.3):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


@BOTH
@pytest.mark.parametrize("dtype, scale, shift", [("int8", 127, 0), ("int16", 32767, 0), ("int32", 2**31 - 1, 0)])
def test_integers_are_scaled_by_their_range(mono, dtype, scale, shift):
    wave = (tone().astype(np.float64) * scale).astype(dtype)
    assert np.abs(mono(wave, "mix") - tone()).max() < 1.5 / min(scale, 1e6)
    assert np.array_equal(mono(torch.from_numpy(wave), "mix"), mono(wave, "mix"))


@BOTH
def test_unsigned_integers_lie_around_their_middle(mono):
    wave = np.round(tone() * 128 + 128).astype(np.uint8)
    assert np.abs(mono(wave, "mix") - tone()).max() < 0.005
    assert np.abs(mono(np.round(tone() * 32768 + 32768).astype(np.uint16), "mix") - tone()).max() < 1e-4


@BOTH
@pytest.mark.parametrize(
    "wave, said",
    [
        (np.ones(9, np.int64), "mix: samples of the type int64"),
        (np.array(["a"]), "mix: expected samples, got"),
        (None, "mix: expected samples, got None"),
        (np.ones(9, bool), "mix: samples of the type bool"),
        (1e4 * tone(), "mix: a peak of 3000, where full scale is 1"),
        (np.r_[tone(), np.nan], "mix: holds NaN"),
        (np.r_[tone(), np.inf], "mix: holds NaN or infinite"),
        (np.zeros((0, 2)), "mix: empty"),
        (np.zeros((2, 3, 4)), "mix: expected"),
        (np.float32(0.5), "mix: expected"),
    ],
)
def test_what_is_no_wave_is_named(mono, wave, said):
    with pytest.raises(ValueError, match=said):
        mono(wave, "mix")


@BOTH
def test_a_peak_far_above_one_is_said(mono):
    with pytest.warns(UserWarning, match=r"mix: a peak of 6.0, far above full scale"):
        assert np.array_equal(mono(20 * tone(), "mix"), 20 * tone())


@BOTH
@pytest.mark.parametrize("gain", [-1.0, -0.8])
def test_channels_that_cancel_are_heard(mono, gain):
    with pytest.warns(UserWarning, match="mix: its channels cancel each other .* channel 1 alone is taken"):
        assert np.array_equal(mono(np.stack([tone(), gain * tone()]), "mix"), tone())


@BOTH
@pytest.mark.parametrize("other", [tone(), 0 * tone(), tone(hz=440), 0.3 * tone()])
def test_ordinary_stereo_is_the_mean(mono, other):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(mono(np.stack([tone(), other], 1), "mix"), (tone() + other) / 2, atol=1e-7)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_file_whose_channels_cancel_is_heard_and_named(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), -tone()], 1), SR, subtype=subtype)
    with pytest.warns(UserWarning, match=r"a.wav: its channels cancel"):
        assert np.abs(audio.read(tmp_path / "a.wav") - tone()).max() < 1e-4


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.w64", "a.caf", "a.mp3", "a.ogg", "a.flac", "a.opus"])
def test_a_file_that_broke_off_is_named(tmp_path, name):
    path, noise = tmp_path / name, 0.1 * np.random.default_rng(0).standard_normal(4 * 48000)
    kind = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
    soundfile.write(path, noise, 48000, **kind)
    assert len(audio.read(path, 48000)) == pytest.approx(len(noise), abs=3000)
    cut(path, 0.5)
    with pytest.raises(audio.AudioError, match=rf"{name}: .*(broke off|damaged)"):
        audio.read(path)


def test_a_cut_wav_says_how_much_is_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(3), SR)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[: 44 + 19200])
    with pytest.raises(audio.AudioError, match=r"a.wav: its header announces 3.00 s, but it holds 0.60 s"):
        audio.facts(tmp_path / "a.wav")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFF7])
def test_streams_whose_header_does_not_know_stay_readable(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", tone(), SR)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(data)
    if size:  # libsndfile takes 0 at its word
        assert len(audio.read(tmp_path / "a.wav")) == SR


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: path.write_text("shopping list"), "cannot be decoded as audio. Is it damaged"),
        (lambda path: path.write_bytes(b""), r"the file is empty \(0 bytes\)"),
        (lambda path: path.mkdir(), "a folder, not a file"),
        (lambda path: os.symlink("nowhere.wav", path), "a link to nowhere.wav, which is not there"),
        (lambda path: path.write_bytes(b"RIFF\x10\x00"), "cannot be decoded"),
        (lambda path: path.write_bytes(b"ID3"), "cannot be decoded"),
        (lambda path: path.write_bytes(b"OggS"), "its last page is incomplete"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 160044\n"),
            r"only the pointer to a recording that git-lfs keeps\. Fetch it: git lfs pull",
        ),
    ],
)
def test_what_is_no_recording_is_named_without_a_code(tmp_path, make, said):
    make(tmp_path / "a.wav")
    with pytest.raises(audio.AudioError, match=rf"a.wav: {said}") as raised:
        audio.read(tmp_path / "a.wav")
    assert "Errno" not in str(raised.value) and "index" not in str(raised.value)


def test_a_header_that_points_at_no_place_of_the_file_is_named(tmp_path):
    w64 = b"riff.\x91\xcf\x11\xa5\xd6(\xdb\x04\xc1\x00\x00" + b"\xff" * 8 + b"wave" + b"\0" * 12
    chunk = b"junk" + b"\0" * 12
    for name, data in (
        ("a.w64", w64 + chunk + struct.pack("<Q", 2**64 - 8)),
        ("a.caf", b"caff\0\1\0\0free" + struct.pack(">q", 2**63 - 1)),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(audio.AudioError, match=name):
            audio.read(tmp_path / name)


def test_a_flac_that_announces_more_than_memory_holds_is_named(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((1600, 2)), 16000)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the count of samples: 36 bits from the middle of this byte on
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(audio.AudioError, match=r"a\.flac: its header announces more samples"):
        audio.read(path)


def test_a_rate_that_no_recorder_has_is_named(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16000)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 900_000_000)
    path.write_bytes(data)
    with pytest.raises(audio.AudioError, match=r"a\.wav: its header tells 900000000 Hz"):
        audio.read(path)


def test_a_name_that_no_disk_takes_is_no_file():
    with pytest.raises(audio.AudioError, match="no such file"):
        audio.read("a" * 300 + ".wav")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
@pytest.mark.parametrize("name", ["\u30c6\u30b9\u30c8".encode("shift-jis"), "caf\u00e9".encode("mac-roman")])
def test_names_in_other_encodings_are_read_and_said_so_that_they_can_be_printed(tmp_path, name):
    path = tmp_path / os.fsdecode(name + b".wav")
    soundfile.write(tmp_path / "a.wav", tone(), SR)
    (tmp_path / "a.wav").rename(path)
    assert audio.facts(path) == (SR, 1, SR) and len(audio.read(path)) == SR
    path.write_bytes(b"no sound")
    with pytest.raises(audio.AudioError, match=r"\\x8") as raised:
        audio.read(path)
    str(raised.value).encode("utf-8")
    with pytest.raises(audio.AudioError, match=r"\\x8.*another encoding.*convmv"):
        walk.sounds(tmp_path)
