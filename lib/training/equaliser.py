"""The cheapest way to adapt to a place, without training: one fixed filter behind the mask.

Part of what fine-tuning gains in a new place is no more than the frequency response of its device. A filter fitted on
some Train mixtures takes that part; what fine-tuning brings beyond it is what the model learned. The filter lives in
the model's config, so it is saved with it and comes off again: `from_pretrained(folder, equaliser=None)`. Waves are
float32 `(batch, samples)`, spectra complex `(batch, frames, bins)`.
"""

import contextlib
import copy

import torch

from lib.losses import speaks
from lib.training.settings import TrainingError


@torch.no_grad()
def fit_equaliser(model, data, items=64):
    """A copy of `model` with the filter that brings its estimates of `data`'s first `items` nearest to their targets.

    For each frequency the least-squares gain, each mixture at the same loudness: sum(T conj(E)) / sum(|E|^2). Mixtures
    in which the person asked for is silent do not count. A filter that the model has already is kept, and the new one
    comes on top.
    """
    model = copy.deepcopy(model).eval()
    device, cross, power = next(model.parameters()).device, 0.0, 0.0
    for place in range(min(items, len(data))):
        item = data[place]
        batch = {name: torch.as_tensor(item[name])[None].to(device) for name in ("mix", "enrollment", "target")}
        if not speaks(batch["target"]):
            continue
        est, target = model(mix=batch["mix"], enrollment=batch["enrollment"]).est, batch["target"]
        est, target = (model.stft(wave / wave.square().mean().sqrt().clamp_min(1e-6))[0] for wave in (est, target))
        cross, power = cross + (target * est.conj()).sum(0), power + est.abs().square().sum(0)
    if not torch.is_tensor(power):
        raise TrainingError("nobody asked for speaks in these mixtures, so no equaliser can be fitted on them")
    gains = cross / (power + 1e-3 * power.mean())
    if (earlier := gains_of(model)) is not None:
        gains = gains * earlier.to(gains)
    model.config.equaliser = torch.view_as_real(gains).cpu().tolist()
    model.config.gate = None  # it was of the place before
    return model


def gains_of(model):
    """The complex gain of each frequency, `(bins,)`, of the equaliser in `model`; None where it has none."""
    given = model.config.equaliser
    return None if given is None else torch.view_as_complex(torch.tensor(given, dtype=torch.float32))


def softened(model, strength):
    """A copy of `model` whose equaliser acts at part of its strength, in dB around the median of its gains: 1 as it
    is, 0 every frequency alike (the phase stays).
    """
    if (gains := gains_of(model)) is None:
        raise ValueError("this model has no equaliser to soften; fit one first: fit_equaliser(model, data).")
    size = gains.abs().clamp_min(1e-6)
    softer = copy.deepcopy(model)
    softer.config.equaliser = torch.view_as_real(
        gains / size * size**strength * size.median() ** (1 - strength)
    ).tolist()
    return softer


@contextlib.contextmanager
def at_home(model):
    """Within the block `model` has no equaliser and its adapters (`lib.training.adapters`) are off: what it is where it
    came from, after fine-tuning in a place.
    """
    held = {name: getattr(model.config, name, None) for name in ("equaliser", "gate")}
    adapted = [m for m in model.modules() if hasattr(m, "lora_A")]
    model.config.equaliser = model.config.gate = None
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield model
    finally:
        model.config.equaliser, model.config.gate = held["equaliser"], held["gate"]
        for layer in adapted:
            layer.enable_adapters(True)
