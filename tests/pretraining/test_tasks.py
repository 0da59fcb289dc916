"""Questions about somebody who is not there: who is asked for, and that the right answer pays."""

import numpy as np
import pytest
import torch
from made_voices import make_voices

from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.pretraining import scores
from lib.pretraining.batches import MixtureBatches
from lib.pretraining.streaming import EndlessMixtures
from lib.pretraining.tasks import Extract, strangers

TINY = dict(adim=32, aheads=2, layers=1, linear_units=32, xvector_channels=16, xvector_pool=24, xvector_front="log")


@pytest.fixture
def voices(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    table = make_voices(tmp_path / "v", train=8, val=0, test=0, recordings=5, seconds=(3.0, 4.0))
    names = sorted(table["speaker"].unique())
    return table.assign(sex=table["speaker"].map({name: "FM"[k % 2] for k, name in enumerate(names)}))


def test_a_stranger_is_of_another_mixture_and_of_either_sex():
    torch.manual_seed(0)
    people = torch.tensor([[0, 1, -1], [2, 0, 3], [4, 5, -1], [6, 1, 0]])
    sex = torch.tensor([[0, 2], [0, 0], [2, 0], [2, 2]])
    rows = torch.arange(4).repeat(200)
    found = strangers(people, sex, rows)
    who, of = people[:, :2].flatten()[found], sex.flatten()[found]
    assert not (people[rows] == who[:, None]).any()
    assert 0.35 < (of == sex[rows, 0]).float().mean() < 0.65
    harder = strangers(people, sex, rows, share=0.9)
    assert not (people[rows] == people[:, :2].flatten()[harder][:, None]).any()
    assert 0.8 < (sex.flatten()[harder] == sex[rows, 0]).float().mean() < 0.98
    with pytest.raises(ValueError, match="batch-size"):
        strangers(people[:1], sex[:1], rows[:1])


def test_both_kinds_of_mixtures_say_who_speaks(voices):
    made = MixtureBatches(voices, 2, 6, seconds=0.8, enrollment_seconds=0.8, device="cpu")[0]
    assert made["people"].shape == (6, 3) and made["sex"].shape == (6, 2)
    data = EndlessMixtures(voices, 8, 0, 0.8, 0.8, both=True)
    names = sorted(voices["speaker"].unique())
    for k in range(8):
        item, said = data.named(k)
        numbers = [names.index(name) for name in said]
        assert item["people"][: len(numbers)].tolist() == numbers
        assert item["sex"].tolist() == [2 * (number % 2) for number in numbers[:2]]
    alone = EndlessMixtures(voices, 8, 0, 0.8, 0.8)[0]
    assert set(alone) == {"mix", "target", "enrollment"}


def test_the_loss_counts_absent_questions_and_validation_none(voices):
    torch.manual_seed(0)
    model = ConVoiFilter(ConVoiFilterConfig(**TINY))
    batch = MixtureBatches(voices, 2, 8, seconds=0.8, enrollment_seconds=0.8, device="cpu")[1]
    task = Extract(model, absent=0.2)
    out, plain = task.train()(**batch), Extract(model).train()(**batch)
    assert out["score"].shape == plain["score"].shape == (8, 2)
    assert out["loss"].isfinite() and out["loss"] != plain["loss"]
    torch.testing.assert_close(task.eval()(**batch)["loss"], Extract(model).eval()(**batch)["loss"])


def test_the_score_tells_a_silent_model_from_a_talkative_one(voices, tmp_path, monkeypatch):
    class Says:
        def __init__(self, gain):
            self.gain = gain

        def extract(self, mix, known, speeds):
            return self.gain * mix

    for gain, silent in ((1.0, 0.0), (0.01, 1.0)):
        monkeypatch.setattr(scores.ConVoiFilter, "from_pretrained", lambda folder, gain=gain: Says(gain))
        monkeypatch.setattr(scores, "similarity", lambda est, known: 0.5)
        said = scores.silence(tmp_path, voices.assign(split="Test"), items=3)
        assert (said["silent"], said["too_faint"], said["present"]) == (silent, 0.0, 3)  # all alike, none fainter
        assert np.isclose(said["si_sdri"], 0, atol=1e-6)


def test_people_are_asked_for_in_noise_too(voices, tmp_path, monkeypatch):
    heard = []

    class Listens:
        def extract(self, mix, known, speeds):
            heard.append(mix)
            return mix

    monkeypatch.setattr(scores.ConVoiFilter, "from_pretrained", lambda folder: Listens())
    monkeypatch.setattr(scores, "similarity", lambda est, known: 0.5)
    for condition in scores.HEARD.values():
        scores.silence(tmp_path, voices.assign(split="Test"), items=3, **condition)
    quiet, noisy = heard[:6], heard[6:]
    for clean, mix in zip(quiet, noisy, strict=True):  # of one power with the person asked for, or up to 5 dB fainter
        assert 0.6 < np.corrcoef(clean, mix)[0, 1] < 0.98
