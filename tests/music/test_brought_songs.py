"""Songs as people bring them: stems a few samples apart, silent starts, cancelling channels, full scale and beyond."""

import warnings

import numpy as np
import pytest
import soundfile

from lib import audio
from lib.music import checks, compare, layouts, separation, songs
from lib.music.model import CRNN, CRNNConfig

SR = 22050


def sound(hz, seconds=3.0, seed=0):
    t = np.arange(int(seconds * SR)) / SR
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * np.sin(2 * np.pi * hz * t) * (1 + np.sin(2 * np.pi * 1.3 * t)) + noise).astype(np.float32)


@pytest.fixture
def root(tmp_path):
    for number, split in enumerate(("train", "validation", "test")):
        waves = {stem: sound(200 + 90 * k + 7 * number, seed=10 * number + k) for k, stem in enumerate(songs.STEMS)}
        for name, wave in {**waves, "mixture": sum(waves.values())}.items():
            write(tmp_path / split / f"song {number}" / f"{name}.wav", np.stack([wave, 0.8 * wave], 1))
    return tmp_path


def write(path, wave):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, SR)


def change(root, name, function, split="train"):
    path = next((root / split).iterdir()) / f"{name}.wav"
    write(path, function(soundfile.read(path)[0]))


@pytest.mark.parametrize("name", ["drums", "vocals", "mixture"])
@pytest.mark.parametrize("more", [1, 12, 43])
def test_files_a_few_samples_apart_are_cut_and_said(root, name, more):
    change(root, name, lambda wave: np.pad(wave, ((0, more), (0, 0))))
    opened = layouts.open_songs(root)
    with pytest.warns(UserWarning, match=rf"song 0 \({name}.wav by {more} samples.*cut to the shortest"):
        assert checks.check(opened)["residual_db"].max() < -40
    song = next(one for one in opened if one.name == "song 0")
    assert len({len(song.read(stem)) for stem in (*songs.STEMS, "mixture")}) == 1
    assert len(song.read_part("rest", "vocals")) == len(song.read("vocals"))


def test_a_silent_start_is_no_copy_but_a_copy_is(root):
    for split in layouts.SPLITS:
        for path in sorted(next((root / split).iterdir()).iterdir()):
            change(root, path.stem, lambda wave: np.pad(wave, ((8 * SR, 0), (0, 0))), split)
    assert len(layouts.open_songs(root)) == 3
    for path in next((root / "train").iterdir()).iterdir():
        write(root / "test" / "other name" / path.name, soundfile.read(path)[0])
    with pytest.raises(songs.SongError, match="the same song in two splits"):
        layouts.open_songs(root)


def test_channels_that_cancel_are_named(root):
    change(root, "vocals", lambda wave: np.stack([wave[:, 0], -wave[:, 0]], 1))
    with pytest.raises(songs.SongError, match="vocals.wav: its channels cancel each other"):
        checks.check(layouts.open_songs(root))


def test_system_files_and_other_formats_beside_the_stems(root):
    folder = next((root / "train").iterdir())
    (folder / "._vocals.wav").write_bytes(b"\0")
    (folder / ".DS_Store").write_bytes(b"\0")
    wave = soundfile.read(folder / "bass.wav")[0]
    (folder / "bass.wav").unlink()
    soundfile.write(folder / "bass.aiff", wave, SR)
    assert len(checks.check(layouts.open_songs(root))) == 3


# --- separation


@pytest.fixture(scope="module")
def model():
    return CRNN(CRNNConfig()).eval()


@pytest.mark.parametrize("peak, subtype", [(0.5, "PCM_16"), (4.0, "FLOAT")])
def test_target_and_rest_add_up_also_above_full_scale(tmp_path, model, peak, subtype):
    song = sound(300)
    soundfile.write(tmp_path / "s.wav", song / np.abs(song).max() * peak, SR, subtype="FLOAT")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = separation.separate_file(model, tmp_path / "s.wav", tmp_path / "out", progress=False)
    assert soundfile.info(made.target).subtype == subtype
    assert any("32-bit float" in str(one.message) for one in said) == (subtype == "FLOAT")
    both = soundfile.read(made.target)[0] + soundfile.read(made.rest)[0]
    left = soundfile.read(tmp_path / "s.wav")[0] - both
    assert audio.rms_db(left) - audio.rms_db(both) < -60


def test_a_song_of_the_same_name_does_not_overwrite_and_the_same_song_does(tmp_path, model):
    for name, hz in (("a.wav", 300), ("a.flac", 500)):
        soundfile.write(tmp_path / name, sound(hz), SR)
    first = separation.separate_file(model, tmp_path / "a.wav", tmp_path / "out", progress=False)
    second = separation.separate_file(model, tmp_path / "a.flac", tmp_path / "out", progress=False)
    again = separation.separate_file(model, tmp_path / "a.wav", tmp_path / "out", progress=False)
    assert first.target == again.target != second.target and len(list((tmp_path / "out").iterdir())) == 4


def test_a_song_whose_channels_cancel_is_heard_and_one_cut_off_is_named(tmp_path, model):
    soundfile.write(tmp_path / "a.wav", np.stack([sound(300), -sound(300)], 1), SR)
    with pytest.warns(UserWarning, match="a.wav: its channels cancel each other: channel [12] alone is taken"):
        made = separation.separate_file(model, tmp_path / "a.wav", tmp_path / "out", progress=False)
    both = soundfile.read(made.target)[0] + soundfile.read(made.rest)[0]
    assert audio.rms_db(both) == pytest.approx(audio.rms_db(sound(300)), abs=0.1)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:50000])
    with pytest.raises(separation.SeparationError, match="a.wav: its header announces 3.00 s"):
        separation.separate_file(model, tmp_path / "a.wav", tmp_path / "out", progress=False)


# --- comparison


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda est, other: est, []),
        (lambda est, other: -est, ["B: its polarity is inverted, measured as it is"]),
        (lambda est, other: -0.1 * est, ["B: its polarity is inverted, measured as it is"]),
        (lambda est, other: other, []),
        (lambda est, other: 0.1 * np.random.default_rng(5).standard_normal(len(est)), []),
        (lambda est, other: np.r_[np.zeros(441), est[:-441]], ["B: 20.0 ms too late, shifted back"]),
        (lambda est, other: 0 * est, []),
    ],
)
def test_what_is_said_of_an_estimate_is_true(tmp_path, make, said):
    ref = np.random.default_rng(1).standard_normal(3 * SR) * 0.1
    other = np.random.default_rng(2).standard_normal(3 * SR) * 0.1
    est = ref + 0.2 * other
    for name, wave in (("ref", ref), ("a", est), ("b", make(est, other))):
        soundfile.write(tmp_path / f"{name}.wav", wave, SR, subtype="FLOAT")
    paths = [tmp_path / f"{name}.wav" for name in ("ref", "a", "b")]
    assert compare.read_aligned(*paths)[1] == said
