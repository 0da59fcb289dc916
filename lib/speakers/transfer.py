"""The new classifier on top of a frozen backbone (`lib.backbones`): the head, and the net of both that chapter 7
trains.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from lib.backbones import BackboneError, run


class Head(nn.Module):
    """The new classifier: Linear 1024, ReLU, Linear 512, ReLU, Linear `speakers`; before it the features are
    standardised.

    The features' mean and spread over the training clips are buffers set by `fit_scale`, because a frozen backbone has
    its own scale.
    """

    def __init__(self, dim, speakers, hidden=(1024, 512)):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden[0]),
            nn.ReLU(),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Linear(hidden[1], speakers),
        )

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

    after: the name of a stage; the net then starts behind it and takes that stage's output, which a frozen lower part
    gives once for
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
        """name -> module in the order of the signal, for `lib.training.freezing.freeze_groups`."""
        return {**self.stages, "head": self.head}

    def parameter_groups(self, learning_rate):
        """Parameters for an optimizer with a lower rate the deeper they lie; only those that train."""
        groups = []
        for depth, part in enumerate(reversed(self.groups().values())):
            if parameters := [parameter for parameter in part.parameters() if parameter.requires_grad]:
                groups.append({"params": parameters, "lr": learning_rate * self.rate_decay**depth})
        return groups
