"""The equaliser undoes a device's frequency response; the spectral term of the loss sees what SI-SNR does not."""

import numpy as np
import pytest
import torch
from torch import nn

from lib.losses import spectral_distance
from lib.metrics import si_sdr
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig, ConVoiFilterOutput
from lib.training.equaliser import fit_equaliser, fold


class Dull(nn.Module):
    """A model that gives back the target as a dull device passes it on."""

    config = None

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, mix, enrollment=None):
        return ConVoiFilterOutput(None, 0.5 * mix + 0.5 * torch.nn.functional.pad(mix, (1, 0))[..., :-1])

    def extract(self, mix, enrollment):
        return self(torch.as_tensor(mix)[None]).est[0].numpy()


def waves(count, seed=0):
    made = 0.1 * np.random.default_rng(seed).standard_normal((count, 16000)).astype(np.float32)
    return [
        dict(mix=torch.from_numpy(wave), target=torch.from_numpy(wave), enrollment=torch.zeros(1600)) for wave in made
    ]


def test_it_undoes_what_every_estimate_has_in_common():
    model, unheard = Dull(), waves(1, seed=9)[0]
    fitted = fit_equaliser(model, waves(6))
    before = si_sdr(model(unheard["mix"][None]).est[0], unheard["target"])
    after = fitted(mix=unheard["mix"][None], enrollment=unheard["enrollment"][None]).est[0]
    assert before < 5 and si_sdr(after, unheard["target"]) > before + 8
    again = fitted.extract(unheard["mix"].numpy(), unheard["enrollment"].numpy())
    np.testing.assert_allclose(again, after.numpy(), atol=1e-5)


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


def test_folded_into_the_mask_layer_it_is_the_same_filter():
    sizes = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)
    torch.manual_seed(0)
    model = ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=0.5)).eval()
    given = dict(mix=0.1 * torch.randn(1, 8000), enrollment=0.1 * torch.randn(1, 8000))
    gains = np.linspace(0.5, 4.0, 257)
    with torch.no_grad():
        before = model(**given).est
        after = fold(model, gains)(**given).est
    window = torch.hann_window(512)
    spectra = (torch.stft(wave, 512, 128, window=window, return_complex=True)[0, :, 8:-8] for wave in (before, after))
    one, two = (part.abs().square().sum(-1).sqrt() for part in spectra)
    assert torch.allclose(two / one, torch.tensor(gains, dtype=torch.float32), rtol=0.1)
    with pytest.raises(ValueError, match="257 frequencies, the equaliser has 3"):
        fold(model, np.ones(3))
