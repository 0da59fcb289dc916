"""A chapter that runs alone: what is missing is made in small and said; what is there is used as it is."""

import json

import numpy as np
import pytest
from made_voices import make_voices

from lib import audio, runs, stand_ins
from lib.data import voices
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small Dataset made by the stand-in, and what it said."""
    folder = tmp_path_factory.mktemp("project")
    table = make_voices(folder / "voices", train=4, val=2, test=2, recordings=6, seconds=(2.0, 4.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "ROOT", folder)
        patch.setattr(voices, "load", lambda source="auto", root=None, progress=True: table)
        made = stand_ins.dataset("data/Dataset", small="data/small", train=4, val=2, test=2)
    return folder, made


def test_a_missing_dataset_is_made_in_small_and_then_used(small, monkeypatch, capsys):
    folder, made = small
    assert made == folder / "data/small" and len(list((made / "Test_Dataset" / "Mix").iterdir())) == 2
    monkeypatch.setattr(runs, "ROOT", folder)
    monkeypatch.setattr(voices, "load", lambda *_, **__: pytest.fail("a dataset that is there needs no voices"))
    assert stand_ins.dataset("data/small") == made
    assert capsys.readouterr().out == ""


def test_what_is_made_in_small_is_said(small, monkeypatch, capsys):
    folder, _ = small
    monkeypatch.setattr(runs, "ROOT", folder)
    monkeypatch.setattr(voices, "load", lambda *_, **__: (_ for _ in ()).throw(voices.VoicesError("no voices here")))
    with pytest.raises(voices.VoicesError):
        stand_ins.dataset("data/nowhere", train=2, val=1, test=1)
    assert (
        "data/nowhere is not there (chapter 1 makes it), so 2 + 1 + 1 mixtures are made in data/Dataset_small"
        in capsys.readouterr().out
    )


def test_a_missing_starter_is_a_random_model_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    model = stand_ins.starter()
    assert not model.training and "random weights" in capsys.readouterr().out
    model.save_pretrained(tmp_path / "pretrained/starter")
    again = stand_ins.starter()
    assert capsys.readouterr().out == ""
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    with pytest.raises(Exception, match="nowhere"):
        stand_ins.starter(str(tmp_path / "nowhere"))


def test_a_missing_fine_tuning_trains_for_a_moment_and_a_run_is_read(small, monkeypatch, capsys):
    folder, made = small
    monkeypatch.setattr(runs, "ROOT", folder)
    begin = lambda: ConVoiFilter(ConVoiFilterConfig(**stand_ins.SMALLEST)).eval()  # noqa: E731
    model = stand_ins.fine_tuned("results/runs/02_fine_tuning", begin, made, items=4)
    said = capsys.readouterr().out
    assert "chapter 2 makes it" in said and "attention of last 2, 4 mixtures" in said and not model.training
    model.save_pretrained(folder / "results/runs/02_fine_tuning/best")
    run, fail = "results/runs/02_fine_tuning", lambda: pytest.fail("the run is there")
    for record, said in (
        (None, "its best weights."),
        ({"finished": True, "best_epoch": 3}, "epoch 3, its best"),
        ({"finished": False}, "has not finished"),
        ({"finished": True, "best_epoch": 0}, "are the same here"),
    ):
        if record is not None:
            (folder / run / "settings.json").write_text(json.dumps(record))
        stand_ins.fine_tuned(run, fail, made)
        assert said in capsys.readouterr().out


def test_own_recordings_come_in_pairs(tmp_path, capsys):
    wave = 0.1 * np.sin(np.arange(16000) / 10)
    for name in ("mix.wav", "me.flac"):
        audio.write(tmp_path / name, wave)
    mix, enrollment = stand_ins.recordings(str(tmp_path / "mix.wav"), str(tmp_path / "me.flac"), None)
    assert len(mix) == len(enrollment) == 16000
    assert (
        stand_ins.recordings("", "", lambda: (1, 2)) == (1, 2) and "one of the test mixtures" in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="both a mixture and an enrollment"):
        stand_ins.recordings("mix.wav", "", None)
    with pytest.raises(audio.AudioError, match="nothing.wav"):
        stand_ins.recordings(str(tmp_path / "mix.wav"), str(tmp_path / "nothing.wav"), None)
