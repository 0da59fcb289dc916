"""Extraction from the command line: files of any kind, in blocks as in one go, and a timeline of who is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lib import audio
from lib.evaluation import extract, gate, presence, streams
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig

ROOT = Path(__file__).resolve().parents[2]
SR = 16000
SMALL = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24, enh_chunk_size=1)


def noise(seconds, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * SR))).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    """A mixture in stereo at 44.1 kHz, an enrollment, and a small model with random weights, each in a file."""
    mix = audio.resample(noise(7.3), SR, 44100)
    soundfile.write(tmp_path / "mix.wav", np.stack([mix, mix], axis=1), 44100)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(3 * SR) / SR)  # or it would be taken for noise
    soundfile.write(tmp_path / "enrollment.flac", noise(3, 1) * syllables, SR)
    torch.manual_seed(0)
    ConVoiFilter(ConVoiFilterConfig(**SMALL)).save_pretrained(tmp_path / "model")
    return tmp_path


def call(files, *more, mix="mix.wav", enrollment="enrollment.flac", out="out.wav"):
    given = [files / mix, files / enrollment, "-o", files / out, "--model", files / "model", *more]
    return extract.main(list(map(str, given)))


@pytest.mark.parametrize("fill", ["zeros", "repeat"])
@pytest.mark.parametrize("seconds", [0.4, 1.0, 3.7, 6.0])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_a_stream_gives_what_the_whole_gives(fill, seconds, overlap):
    torch.manual_seed(0)
    model, mix, enrolled = ConVoiFilter(ConVoiFilterConfig(fill=fill, **SMALL)).eval(), noise(seconds), noise(3, 1)
    with torch.inference_mode():
        embedding = model.embed(torch.from_numpy(enrolled))
    parts = np.array_split(mix, 7)  # blocks do not meet where chunks do
    heard, est = zip(*extract.estimates(model, iter(parts), embedding, overlap, batch=2, workers=2))
    np.testing.assert_array_equal(np.concatenate(heard), mix)
    whole = model.extract(mix, enrolled, overlap=overlap, precision="fp32")  # as the stream computes on any CPU
    np.testing.assert_allclose(np.concatenate(est), whole, atol=1e-5)


@pytest.mark.parametrize("suffix, rate", [(".wav", 44100), (".mp3", 22050), (".ogg", 48000), (".flac", 8000)])
def test_blocks_joined_are_the_file(tmp_path, suffix, rate):
    soundfile.write(tmp_path / f"a{suffix}", audio.resample(noise(5), SR, rate), rate)
    whole = audio.read(tmp_path / f"a{suffix}")
    joined = np.concatenate(list(streams.blocks(tmp_path / f"a{suffix}", SR, seconds=0.7)))
    assert abs(len(joined) - len(whole)) <= 2
    shared = min(len(joined), len(whole))
    np.testing.assert_allclose(joined[:shared], whole[:shared], atol=2e-3)
    assert streams.seconds_of(tmp_path / f"a{suffix}") == pytest.approx(5, abs=0.1)


def test_films_and_phones_are_read_in_blocks_too(tmp_path):
    from lib.listening import write_m4a

    path = write_m4a(tmp_path / "a.m4a", noise(5))
    joined = np.concatenate(list(streams.blocks(path, SR, seconds=0.7)))
    np.testing.assert_allclose(joined, audio.read(path), atol=1e-6)
    assert streams.seconds_of(path) == pytest.approx(5, abs=0.2)


def test_channels_that_cancel_leave_one(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(3), -noise(3)], axis=1), SR)
    assert audio.rms_db(np.concatenate(list(streams.blocks(tmp_path / "a.wav")))) == pytest.approx(-20, abs=0.5)


def test_it_writes_the_voice_and_its_timeline(files, capsys, monkeypatch):
    assert call(files, "--require", out="found.wav") == 0  # noise resembles noise
    assert "The person was heard for" in capsys.readouterr().out and (files / "found.rttm").read_text()
    monkeypatch.setattr(presence, "SOMEWHERE", 1.01)
    assert call(files) == 0
    out, sr = soundfile.read(files / "out.wav")
    assert sr == SR and len(out) == pytest.approx(7.3 * SR, abs=2)
    assert "seems not to be in this recording" in capsys.readouterr().out
    assert (files / "out.rttm").read_text() == "" and (files / "out.png").stat().st_size > 5000
    assert not list(files.glob(".*"))  # no part is left
    assert call(files, "--require", out="other.flac") == extract.NOT_THERE
    assert call(files, "--no-timeline", out="alone.wav") == 0 and not (files / "alone.rttm").exists()


def test_a_model_of_a_place_is_judged_by_its_own_gate(files, capsys, monkeypatch):
    config = files / "model/config.json"
    monkeypatch.setattr(presence, "SOMEWHERE", -1.0)  # by the measure of close recordings everybody is there
    assert call(files, "--no-gate", out="plain.wav") == 0
    plain = audio.read(files / "plain.wav")

    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "equaliser": [[1.0, 0.0]] * 257}))  # of a place, and nobody knows its gate
    monkeypatch.setattr(gate, "STUDIO", gate.Gate(0.0, 9.0))  # this one would let nothing pass
    assert call(files, out="unknown.wav") == 0
    np.testing.assert_allclose(audio.read(files / "unknown.wav"), plain, atol=1e-3)
    assert "whose gate is not known" in capsys.readouterr().err

    gate.keep(files / "model", gate.Gate(0.0, -1.0))
    assert call(files, "--require", out="open.wav") == 0
    assert "gate that was calibrated for the model's place" in capsys.readouterr().out
    assert (files / "open.rttm").read_text().count("SPEAKER") == 1
    gate.keep(files / "model", gate.Gate(0.0, 1.01))
    assert call(files, "--require", out="closed.wav") == extract.NOT_THERE
    assert "seems not to be in this recording" in capsys.readouterr().out
    np.testing.assert_allclose(audio.read(files / "closed.wav"), plain, atol=1e-3)  # nothing is sure: it is kept

    monkeypatch.setattr(gate, "gains", lambda found, own: np.arange(len(found.est_db)) < 30)
    assert call(files, out="half.wav") == 0
    half = audio.read(files / "half.wav")
    assert half[: 2 * SR].any() and not half[4 * SR :].any()
    assert "3.0 s in 1 turn" in capsys.readouterr().out


@pytest.mark.parametrize("samples", [1600, 12800, 12801])
def test_a_short_recording_has_a_timeline_that_ends_with_it(files, monkeypatch, samples):
    monkeypatch.setattr(presence, "SOMEWHERE", -1.0)
    monkeypatch.setattr(presence, "SHORTEST", 1)
    soundfile.write(files / "short.wav", noise(1)[:samples], SR)
    assert call(files, mix="short.wav", out="voice.wav") == 0
    assert len(audio.read(files / "voice.wav")) == samples
    for line in (files / "voice.rttm").read_text().splitlines():
        start, length = map(float, line.split()[3:5])
        assert start + length <= samples / SR + 1e-3


def test_it_replaces_nothing_unasked(files, capsys):
    (files / "out.png").write_text("mine")
    assert call(files) == 1 and "out.png: is there already" in capsys.readouterr().err
    assert (files / "out.png").read_text() == "mine" and not (files / "out.wav").exists()
    assert call(files, "--overwrite") == 0
    assert call(files, "--overwrite", out="mix.wav") == 1
    assert "one of the recordings given" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, says",
    [
        (dict(mix="none.wav"), "none.wav: no such file"),
        (dict(mix="notes.txt"), "notes.txt: cannot be decoded"),
        (dict(enrollment="silent.wav"), "silent"),
        (dict(enrollment="short.wav"), "too short"),
        (dict(out="out.mp3"), "must end in .wav or .flac"),
        (dict(mix="empty.wav"), "empty.wav"),
    ],
)
def test_errors_are_one_sentence(files, capsys, more, says):
    (files / "notes.txt").write_text("no sound at all")
    soundfile.write(files / "silent.wav", np.zeros(SR * 4), SR)
    soundfile.write(files / "short.wav", noise(0.5), SR)
    soundfile.write(files / "empty.wav", np.zeros(0), SR)
    assert call(files, **more) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line and "extract:" not in line]
    assert len(said) == 1 and says in said[0]
    assert not (files / "out.wav").exists() and not list(files.glob(".*"))


def test_several_clips_are_joined_without_their_pauses(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise(2), np.zeros(3 * SR)]), SR)
    soundfile.write(tmp_path / "b.wav", noise(2, level=0.01), SR)
    joined = extract.enrollment([tmp_path / "a.wav", tmp_path / "b.wav"])
    assert 3.8 * SR < len(joined) < 4.4 * SR
    assert audio.rms_db(joined[:SR]) == pytest.approx(audio.rms_db(joined[-SR:]), abs=4.5)  # one level for both clips


def real_talk():
    """pyannote's packaged talk and the stretches of it in which each person is alone, or a reason to skip."""
    import importlib.util

    found = importlib.util.find_spec("pyannote")
    folders = [Path(folder) / "audio" / "sample" for folder in (found.submodule_search_locations if found else [])]
    folder = next((folder for folder in folders if (folder / "sample.wav").is_file()), None)
    if folder is None:
        pytest.skip("pyannote.audio, which carries the talk, is not installed")
    return audio.read(folder / "sample.wav")


def test_the_timeline_follows_a_real_talk():
    wave = real_talk()
    seen = presence.Presence(wave[round(21.9 * SR) : round(24.9 * SR)])
    for start in range(0, len(wave), 7777):
        seen.hear(wave[start : start + 7777], wave[start : start + 7777])
    seen.hear(wave[:0], wave[:0], last=True)
    assert seen.there and len(seen.est_db) == 300
    frames = seen.frames()
    assert frames[240:275].mean() > 0.9 and frames[147:175].mean() > 0.8  # the person alone
    assert frames[112:142].mean() < 0.2 and not frames[:60].any()  # the other one alone; nobody
    lines = presence.rttm(seen, "my talk").splitlines()
    assert len(lines) == len(seen.turns()) and all(line.startswith("SPEAKER my_talk 1 ") for line in lines)


def test_people_write_times_so():
    assert [presence.clock(value) for value in (7.5, 245, 3723)] == ["7.5 s", "4:05", "1:02:03"]


def readme_snippet():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_the_snippet_of_the_readme_runs_as_it_stands(tmp_path):
    soundfile.write(tmp_path / "mixture.wav", noise(6), SR)
    soundfile.write(tmp_path / "enrollment.wav", noise(4, 1), SR)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "starter").symlink_to(ROOT / "pretrained" / "starter")
    (tmp_path / "snippet.py").write_text(readme_snippet(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    voice, sr = soundfile.read(tmp_path / "voice.wav")
    assert sr == SR and len(voice) == 6 * SR
