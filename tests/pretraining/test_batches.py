"""Mixtures made a batch at a time, and the compact folder that brings the voices to where they are made."""

import numpy as np
import pytest
import soxr
import torch
from made_voices import make_voices

from lib import audio
from lib.data import voice_making
from lib.data.debian import VoicesError
from lib.pretraining import batches, compact
from lib.pretraining.batches import MixtureBatches

PLAIN = dict(plain=1.0, made_up=0.0, second_interferer=0.0, noise_share=0.0)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Six women and six men of two packages, some 12 s each."""
    table = make_voices(tmp_path_factory.mktemp("voices"), train=12, val=0, test=0, recordings=6, seconds=(1.5, 2.5))
    number = table.speaker.str.removeprefix("train").astype(int)
    return table.assign(
        sex=np.where(number % 2, "M", "F"), speaker=np.where(number < 6, "one-", "two-") + table.speaker
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))


def make(voices, size=16, seed=0, seconds=1.0, enrollment=1.5, **settings):
    return MixtureBatches(voices, 10, size, seed, seconds, enrollment, device="cpu", **settings)


def level(waves):
    return 10 * waves.square().mean(-1).log10()


def test_a_batch_is_a_function_of_seed_and_number(voices):
    data = make(voices, one_line=0.4)
    first, again, later, other = data[3], make(voices, one_line=0.4)[3], data[4], make(voices, seed=1, one_line=0.4)[3]
    assert len(data) == 10 and {name: tuple(t.shape) for name, t in first.items()} == {
        "mix": (16, 16000),
        "target": (16, 2, 16000),
        "enrollment": (16, 2, 24000),
        "people": (16, 3),
        "sex": (16, 2),
    }
    for name in ("mix", "target", "enrollment"):
        waves = first[name]
        assert torch.equal(waves, again[name]) and torch.isfinite(waves).all() and waves.abs().max() <= 1
        assert not torch.equal(waves, later[name]) and not torch.equal(waves, other[name])


def test_a_plain_mixture_is_the_sum_of_its_two_targets_at_the_level_and_ratio_asked_for(voices):
    batch = make(voices, sir_db=(3.0, 3.0), **PLAIN)[0]
    assert torch.allclose(batch["mix"], batch["target"].sum(1), atol=1e-5)
    assert torch.allclose(level(batch["target"][:, 0]) - level(batch["target"][:, 1]), torch.tensor(3.0), atol=0.05)
    assert (
        torch.allclose(level(batch["enrollment"]), torch.tensor(-20.0), atol=0.1) and level(batch["mix"]).max() < -19.9
    )


def test_augmentation_noise_and_a_third_voice_are_added_where_asked(voices):
    noisy = make(voices, **{**PLAIN, "noise_share": 1.0}, noise_snr_db=(10.0, 10.0))[0]
    rest = noisy["mix"] - noisy["target"].sum(1)
    assert torch.allclose(level(noisy["target"][:, 0]) - level(rest), torch.tensor(10.0), atol=0.1)
    third = make(voices, **{**PLAIN, "second_interferer": 1.0})[0]
    assert (level(third["mix"] - third["target"].sum(1)) > -40).all()
    bent = make(voices, **{**PLAIN, "plain": 0.0})[0]
    assert level(bent["mix"]).std() > 2  # levels from -32 to -14 dB


def test_who_is_drawn(voices):
    for same, line in ((1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
        data = make(voices, size=200, same_sex=same)
        people = data._people(np.random.default_rng(0), np.full(200, line > 0))
        assert (data.sex[people[:, :1]] == data.sex[people[:, 1:]]).all() == (same == 1.0) and (
            people[:, :1] != people[:, 1:]
        ).all()
        assert 0.35 < (data.sex[people[:, 0]] == 0).mean() < 0.65
        package = np.array([k // 3 % 2 for k in range(12)])  # sorted by sex, then package
        assert (package[people[:, 0]] == package[people[:, 1]]).all() == bool(line)


def test_an_enrollment_is_said_elsewhere_than_the_mixture(voices, monkeypatch):
    asked = []
    data = make(voices, size=64, plain=0.0)
    monkeypatch.setattr(
        data,
        "resample",
        lambda samples, first, spoken, start, ratio, length: (
            asked.append((spoken, start, ratio, length))
            or batches.resample(samples, first, spoken, start, ratio, length)
        ),
    )
    data[0]
    (spoken, start, ratio, length), (_, later, same, longer) = (
        [value.view(64, -1)[:, :2] if torch.is_tensor(value) else value for value in call] for call in asked
    )
    assert torch.equal(ratio, same) and ratio.min() < 0.8 and ratio.max() > 1.25
    behind = (
        (later - start) % spoken
    )  # the speech goes round, so the enrollment must begin behind the mixture's and end before it begins again
    assert (behind >= length * ratio).all() and (behind + longer * ratio <= spoken).all()


def test_speech_is_resampled_and_goes_round():
    time = torch.arange(16000) / 16000
    wave = (0.3 * torch.sin(2 * torch.pi * 440 * time)).mul(32768).round().short()
    row = [torch.tensor([value]) for value in (0, 16000)]
    assert torch.allclose(
        batches.resample(wave, *row, torch.tensor([100]), torch.tensor([1.0]).double(), 500)[0],
        wave[100:600] / 32768,
        atol=1e-5,
    )
    assert torch.allclose(
        batches.resample(wave, *row, torch.tensor([15900]), torch.tensor([1.0]).double(), 200)[0],
        torch.cat([wave[-100:], wave[:100]]) / 32768,
        atol=1e-5,
    )
    for ratio in (0.7, 1.4):
        ours = batches.resample(wave, *row, torch.tensor([0]), torch.tensor([ratio]).double(), 11000)[0].numpy()
        theirs = soxr.resample(wave.numpy() / 32768, 16000 * ratio, 16000, quality="HQ")[:11000]
        error = (ours - theirs)[200:-200]
        assert np.mean(error**2) < 1e-3 * np.mean(theirs**2)  # 30 dB


def test_the_envelope_moves_as_in_voice_making(voices):
    waves = np.stack([audio.read(path)[:16000] for path in voices.path[:3]])
    factors = [0.85, 1.0, 1.2]
    ours = batches.stretch_envelope(torch.from_numpy(waves), torch.tensor(factors)).numpy()
    for wave, factor, made in zip(waves, factors, ours):
        theirs = voice_making.stretch_envelope(wave, factor)
        assert np.sum((made - theirs)[512:-512] ** 2) < 1e-4 * np.sum(theirs**2)
    assert np.sum((ours[0] - waves[0]) ** 2) > 0.01 * np.sum(waves[0] ** 2)


def test_too_few_voices_are_an_error(voices):
    with pytest.raises(ValueError, match="1 women's and 0 men's"):
        make(voices[voices.speaker == voices.speaker[0]])


def test_a_compact_folder_brings_the_same_voices(voices, tmp_path):
    song = voices.path.iloc[0]
    table = compact.write({"debian": voices}, [song], tmp_path / "c", workers=1)
    again, music = compact.load(tmp_path / "c")
    assert (
        len(table) == len(voices) + 1
        and len(music) == 1
        and list(again.speaker) == list(voices.speaker)
        and list(again.sex) == list(voices.sex)
    )
    for before, after in zip(voices.path[:5], again.path):
        one, two = audio.read(before), audio.read(after)
        assert len(one) == len(two) and np.corrcoef(one, two)[0, 1] > 0.8
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "c").rglob("*.opus"))]
    compact.write({"debian": voices}, [song], tmp_path / "c", workers=1)
    assert stamps == [
        path.stat().st_mtime_ns for path in sorted((tmp_path / "c").rglob("*.opus"))
    ]  # what is there is kept


def test_a_compact_folder_holds_no_more_of_a_voice_than_agreed(voices, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "MOST", {"debian": 4.0})
    spoken = (
        compact.write({"debian": voices, "kokoro": voices}, [], tmp_path / "c", workers=1)
        .groupby(["source", "speaker"])
        .seconds.sum()
    )
    assert spoken["debian"].between(4.0, 6.5).all() and np.allclose(
        spoken["kokoro"], voices.groupby("speaker").seconds.sum()
    )


def test_a_broken_compact_folder_is_named(voices, tmp_path):
    with pytest.raises(VoicesError, match="no voices.csv.*lib.pretraining.compact"):
        compact.load(tmp_path / "none")
    compact.write({"debian": voices}, [], tmp_path / "c", workers=1)
    next((tmp_path / "c").rglob("003.opus")).unlink()
    with pytest.raises(VoicesError, match="003.opus is missing.*1 files"):
        compact.load(tmp_path / "c")


def test_two_recordings_of_one_name_are_not_taken_for_one(voices, tmp_path):
    with pytest.raises(VoicesError, match="000.flac.*same file name"):
        compact.write({"debian": voices.assign(speaker="one")}, [], tmp_path / "c", workers=1)
    assert not (tmp_path / "c").exists()


def test_a_room_is_as_far_as_it_is_told_to_be(voices):
    for direct_db in ((0.0, 0.0), (-9.0, -9.0)):
        data = make(voices, room=1.0, direct_db=direct_db)
        data.recorder.generator = torch.Generator().manual_seed(0)
        tails = data.recorder.rooms(5)[:, 1:]
        torch.testing.assert_close(tails.square().sum(-1), torch.full((5,), 10 ** (-direct_db[0] / 10)))
    few, many = (make(voices, plain=0.0, noise_share=0.0, second_interferer=0.0, room=share) for share in (0.0, 1.0))
    heard = []
    for data in (few, many):
        shape, asked = data.recorder.shape, []
        data.recorder.shape = lambda *a, shape=shape, asked=asked: asked.append(a[4].all(1)) or shape(*a)
        data[0]
        heard.append(asked[0].float().mean())  # mixtures in which all stand in a room
    assert heard[0] < 0.2 and heard[1] == 1.0
