"""The equaliser undoes a device's frequency response; the spectral term of the loss sees what SI-SNR does not."""

import numpy as np
import pytest
import torch
from torch import nn

from lib import runs
from lib.losses import spectral_distance
from lib.metrics import si_sdr
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig, ConVoiFilterOutput
from lib.training.equaliser import at_home, fit_equaliser, gains_of, softened

SIZES = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)


class Dull(ConVoiFilter):
    """A model that gives back what it hears, as a dull device passes it on."""

    def __init__(self, config):
        super().__init__(config)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, mix, enrollment=None):
        dull = 0.5 * mix + 0.5 * nn.functional.pad(mix, (1, 0))[..., :-1]
        return ConVoiFilterOutput(None, self.istft(self.equalise(self.stft(dull)), mix.shape[-1]))


def waves(count, seed=0):
    made = 0.1 * np.random.default_rng(seed).standard_normal((count, 16000)).astype(np.float32)
    return [
        dict(mix=torch.from_numpy(wave), target=torch.from_numpy(wave), enrollment=torch.zeros(1600)) for wave in made
    ]


def test_it_undoes_what_every_estimate_has_in_common():
    model, unheard = Dull(ConVoiFilterConfig(**SIZES)), waves(1, seed=9)[0]
    fitted = fit_equaliser(model, waves(6))
    before = si_sdr(model(unheard["mix"][None]).est[0], unheard["target"])
    after = si_sdr(fitted(unheard["mix"][None]).est[0], unheard["target"])
    assert before < 5 and after > before + 8 and model.config.equaliser is None
    again = fit_equaliser(fitted, waves(6))
    heard = slice(0, 200)  # near 8 kHz the device lets nothing through
    torch.testing.assert_close(gains_of(again)[heard], gains_of(fitted)[heard], rtol=0.02, atol=0.02)
    with at_home(fitted):
        assert si_sdr(fitted(unheard["mix"][None]).est[0], unheard["target"]) == before
    assert gains_of(fitted) is not None


def test_it_is_saved_with_the_model_and_comes_off_at_home(tmp_path):
    torch.manual_seed(0)
    model = ConVoiFilter(ConVoiFilterConfig(**SIZES, enh_chunk_size=0.5)).eval()
    given = dict(mix=0.1 * torch.randn(1, 8000), enrollment=0.1 * torch.randn(1, 8000))
    fitted = fit_equaliser(model, waves(2))
    with torch.no_grad():
        plain, equalised = model(**given).est, fitted(**given).est
    assert not torch.allclose(plain, equalised)
    runs.save_model(fitted, tmp_path / "best")
    with torch.no_grad():
        assert torch.equal(ConVoiFilter.from_pretrained(tmp_path / "best")(**given).est, equalised)
        assert torch.equal(ConVoiFilter.from_pretrained(tmp_path / "best", equaliser=None)(**given).est, plain)
    with pytest.raises(ValueError, match="a gain a frequency, 257, got 3"):
        ConVoiFilterConfig(equaliser=[[1, 0]] * 3)


def test_the_spectral_distance_is_zero_for_equal_waves_and_blind_to_level():
    wave = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(wave, wave).abs().max() < 1e-6
    assert spectral_distance(3 * wave, wave).max() < 1e-3
    noisy = wave + 0.05 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))
    assert (spectral_distance(noisy, wave) > 0.02).all()


def test_what_lies_beyond_an_items_length_does_not_count():
    wave = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    spoiled = torch.cat([wave[:, :4000], torch.ones(1, 4000)], dim=1)
    told = torch.tensor([4000])
    assert spectral_distance(spoiled, wave, told).item() == pytest.approx(0.0, abs=1e-6)


def test_part_of_its_strength_is_part_of_its_decibels():
    model = Dull(ConVoiFilterConfig(**SIZES))
    with pytest.raises(ValueError, match="no equaliser to soften"):
        softened(model, 0.5)
    fitted = fit_equaliser(model, waves(6))
    full, half, flat = (gains_of(softened(fitted, strength)) for strength in (1.0, 0.5, 0.0))
    assert torch.allclose(full, gains_of(fitted), atol=1e-4)
    decibels = [20 * torch.log10(gains.abs() / full.abs().median()) for gains in (full, half, flat)]
    assert torch.allclose(decibels[1], decibels[0] / 2, atol=1e-3) and decibels[2].abs().max() < 1e-3
    assert torch.allclose(half.angle(), full.angle(), atol=1e-4) and decibels[0].abs().max() > 3
