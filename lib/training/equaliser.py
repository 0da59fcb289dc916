"""The cheapest way to adapt to a place, without training: one fixed filter behind the model.

Part of what fine-tuning gains in a new place is no more than the frequency response of its device. A filter fitted on
some Train mixtures takes that part; what fine-tuning brings beyond it is what the model learned.
Waves are float32 `(batch, samples)` at 16 kHz, spectra complex `(batch, bins, frames)`.
"""

import numpy as np
import torch
from torch import nn

from lib.models.convoifilter import ConVoiFilterOutput
from lib.training.settings import accepted_by

SIZE = 512  # samples of the filter's windows


class Equalised(nn.Module):
    """`model`, and its estimate through a filter: the complex `gains` `(bins,)` of each frequency."""

    def __init__(self, model, gains):
        super().__init__()
        self.model, self.config = model, model.config
        self.register_buffer("gains", torch.as_tensor(gains, dtype=torch.complex64))

    def forward(self, mix, lengths=None, enrollment=None, enrollment_lengths=None, target=None):
        given = dict(mix=mix, lengths=lengths, enrollment=enrollment, enrollment_lengths=enrollment_lengths)
        est = self.model(**{name: value for name, value in given.items() if name in accepted_by(self.model)}).est
        return ConVoiFilterOutput(None, self.filter(est))

    def filter(self, wave):
        """`(batch, samples)` through the filter."""
        return inverse(spectrum(wave) * self.gains[:, None], wave.shape[-1])

    def extract(self, mix, enrollment, **how):
        """As `ConVoiFilter.extract`, at the model's own rate."""
        est = torch.from_numpy(np.ascontiguousarray(self.model.extract(mix, enrollment, **how)))
        return self.filter(est[None].to(self.gains.device))[0].cpu().numpy()


def spectrum(wave):
    window = torch.hann_window(SIZE, device=wave.device)
    return torch.stft(wave, SIZE, SIZE // 4, window=window, return_complex=True)


def inverse(spectra, samples):
    window = torch.hann_window(SIZE, device=spectra.device)
    return torch.istft(spectra, SIZE, SIZE // 4, window=window, length=samples)


@torch.no_grad()
def fit_equaliser(model, data, items=64):
    """`model` with the filter that brings its estimates of the first `items` of `data` nearest to their targets.

    For each frequency the least-squares gain, each mixture at the same loudness: sum(T conj(E)) / sum(|E|^2).
    """
    device, cross, power = next(model.parameters()).device, 0.0, 0.0
    for place in range(min(items, len(data))):
        item = data[place]
        batch = {name: torch.as_tensor(item[name])[None].to(device) for name in ("mix", "enrollment", "target")}
        est, target = model(mix=batch["mix"], enrollment=batch["enrollment"]).est, batch["target"]
        est, target = (spectrum(wave / wave.square().mean().sqrt().clamp_min(1e-6))[0] for wave in (est, target))
        cross, power = cross + (target * est.conj()).sum(-1), power + est.abs().square().sum(-1)
    return Equalised(model, cross / (power + 1e-3 * power.mean())).eval()


def fold(model, gains):
    """Put the equaliser's gains into the mask layer of `model`, in place: its estimate is then equalised at no cost.

    Each row of the mask's last Linear makes one frequency, and ReLU passes a positive factor on; so the size of each
    gain goes in, and its phase is lost. A model to fine-tune in a place starts better from there. Returns the model.
    """
    layer, size = model.enh_model.separator.linear[0], torch.as_tensor(gains).abs()
    if len(size) != layer.out_features:
        raise ValueError(f"the model masks {layer.out_features} frequencies, the equaliser has {len(size)}.")
    with torch.no_grad():
        layer.weight.mul_(size[:, None].to(layer.weight))
        layer.bias.mul_(size.to(layer.bias))
    return model
