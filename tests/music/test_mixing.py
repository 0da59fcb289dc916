"""Training mixtures that are unlike each other: the target's level, silence, recorded music; losses and masks."""

import made_songs
import numpy as np
import pytest
import torch

from lib import audio
from lib.music import layouts, mixing
from lib.music.model import CRNN, CRNNConfig, compressed, negative_snr
from lib.music.songs import Song

SR = 22050


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    opened = layouts.open_songs(made_songs.plain(tmp_path_factory.mktemp("songs"), {"train": 3}))
    return opened


def test_a_mixture_is_its_target_and_a_rest_at_a_drawn_level(songs):
    torch.manual_seed(0)
    backing = [Song("recorded", "train", {"other": songs[0].stems["other"]})]
    data, levels, silent = mixing.Mixes(songs, "drums", 60, 1.0, backing=backing), [], 0
    for k in range(60):
        item = data[k]
        assert item["mix"].shape == item["target"].shape == (SR,) and item["mix"].dtype == np.float32
        assert np.isfinite(item["mix"]).all() and np.abs(item["mix"]).max() <= 1.0 + 1e-5
        silent += not item["target"].any()
        if item["target"].any():
            levels.append(audio.rms_db(item["target"]) - audio.rms_db(item["mix"] - item["target"]))
    low, high = mixing.LEVEL_DB["drums"]
    assert 0 < silent < 12 and len(levels) > 40
    assert min(levels) > low - 4 and max(levels) < high + 4 and max(levels) - min(levels) > 6
    waves = []
    for _ in range(2):
        torch.manual_seed(7)
        waves.append(mixing.Mixes(songs, "drums", 60, 1.0, backing=backing)[5]["mix"])
    assert np.array_equal(*waves)


def test_a_target_over_its_own_accompaniment_is_in_time_with_it(songs, monkeypatch):
    for name, value in dict(OWN=1.0, SECOND=0.0, STACKED=0.0, NONE=0.0).items():
        monkeypatch.setattr(mixing, name, value)
    places, data = [], mixing.Mixes(songs, "drums", 8, 1.0)
    found = data._at
    monkeypatch.setattr(data, "_at", lambda place, part: (places.append((place, part)), found(place, part))[1])
    data[0]
    assert len({place for place, _ in places}) == 1  # one song and one offset for all stems
    assert sorted(part for _, part in places) == sorted({"drums", *songs[places[0][0][0]].parts("drums")})


def test_a_tape_at_another_speed_lasts_as_long_as_asked():
    tone = np.sin(2 * np.pi * 220 * np.arange(SR) / SR).astype(np.float32)
    fast = mixing._tape(tone, SR // 2)
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast))))
    assert len(fast) == SR // 2 and np.argmax(spectrum) * SR / len(fast) == pytest.approx(440, rel=0.01)


def test_the_snr_in_the_loss_is_that_of_the_waves_and_blind_to_the_level():
    torch.manual_seed(0)
    target, noise = torch.randn(1, SR), torch.randn(1, SR)
    for level in (1.0, 0.01):
        loss = negative_snr(level * (target + 0.1 * noise), level * target, level * (target + noise))
        assert float(loss) == pytest.approx(-20, abs=0.5)  # at most 30 dB count, so a little less
    nothing = torch.zeros(1, SR)
    assert float(negative_snr(nothing, nothing, noise)) < -30 < float(negative_snr(noise, nothing, noise))


def test_compression_takes_the_root_of_magnitudes_and_keeps_phases():
    spectrum = torch.complex(torch.tensor([3.0, 0.0]), torch.tensor([4.0, -2.0]))
    assert torch.allclose(compressed(spectrum).abs(), torch.tensor([5.0, 2.0]).sqrt(), atol=1e-3)
    assert torch.allclose(compressed(spectrum).angle(), spectrum.angle(), atol=1e-4)


@pytest.mark.parametrize("loss", ["magnitude", "spectrum", "compressed", "snr", "both"])
@pytest.mark.parametrize("mask", ["magnitude", "complex"])
def test_every_loss_has_a_gradient_with_every_mask(loss, mask):
    torch.manual_seed(0)
    model = CRNN(CRNNConfig(channels=(4, 4, 4, 4), hidden=8, layers=1, loss=loss, mask=mask)).train()
    target = torch.randn(2, 8000)
    found = model(target + torch.randn(2, 8000), target)
    found.loss.backward()
    assert torch.isfinite(found.loss) and found.est is None
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_model_without_a_turn_of_the_phase_becomes_one_that_turns_nothing(tmp_path):
    torch.manual_seed(0)
    model = CRNN(CRNNConfig(channels=(4, 4, 4, 4), hidden=8, layers=1)).eval()
    model.save_pretrained(tmp_path)
    turned, mix = CRNN.from_pretrained(tmp_path, mask="complex"), torch.randn(1, 8000)
    assert torch.allclose(turned.separate(mix), model.separate(mix), atol=1e-5)
    with torch.no_grad():
        turned.decoder[-1][0].bias[2] = 0.5
    assert not torch.allclose(turned.separate(mix), model.separate(mix), atol=1e-3)
    with pytest.raises(ValueError, match="unknown mask 'x'; known are: magnitude, complex"):
        CRNNConfig(mask="x")
