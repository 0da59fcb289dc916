"""A better network for overlapped words: mel pictures at several resolutions, residual blocks, and training aids that
ask nothing of the data.

Also what goes around any network here: weight averaging (`Averaged`) and an ensemble.
Shapes as in `lib.words.cnn`.
"""

import copy

import torch
from torch import nn

from lib.words.cnn import Answering, LogMel, WordsOutput, kl

FFTS = (256, 512, 1024, 2048)


class Residual(nn.Module):
    """Two 3x3 convolutions behind BatchNorm and ReLU, added to their input (a 1x1 convolution of it where size or width
    change).
    """

    def __init__(self, width_in, width, stride=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.ReLU(),
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
        )
        same = width_in == width and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x):
        return self.body(x) + self.skip(x)


class WordNet(Answering):
    """Mel pictures `(batch, resolutions, bands, 101)`, a strided convolution, three residual blocks, pooling over time,
    a Linear.

    ffts: FFT lengths, a picture each; from 1024 on fewer frames are computed, each shown 2 or 4 times. spec_augment,
    colour, mixup, dropout: act in training mode only. high: Hz, top of the mel bands (words here end at 4 kHz).
    """

    def __init__(
        self,
        words=30,
        ffts=FFTS,
        width=12,
        bands=48,
        high=4000.0,
        spec_augment=False,
        colour=0.0,
        mixup=0.0,
        dropout=0.0,
    ):
        super().__init__()
        self.settings = dict(words=words, ffts=list(ffts), width=width, bands=bands, high=high)
        self.spec_augment, self.colour, self.mixup = spec_augment, colour, mixup
        self.mels = nn.ModuleList(
            LogMel(n, n, max(160, n * 5 // 16), bands, high) for n in ffts
        )  # longer windows need fewer frames
        self.stem = nn.Conv2d(len(ffts), width, 5, 2, 2, bias=False)
        self.blocks = nn.Sequential(
            Residual(width, width),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 4 * width, 2),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
        )
        rows = -(-bands // 8)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * 4 * width * rows, words))

    def features(self, clip):
        """`(batch, 16000)` -> `(batch, resolutions, bands, 101)`, each picture with mean 0 and spread 1."""
        pictures = [mel(clip) for mel in self.mels]
        frames = clip.shape[-1] // 160 + 1
        pictures = [p.repeat_interleave(mel.hop // 160, -1)[..., :frames] for mel, p in zip(self.mels, pictures)]
        stacked = torch.stack(pictures, 1)
        return (stacked - stacked.mean((2, 3), keepdim=True)) / stacked.std((2, 3), keepdim=True).clamp_min(1e-5)

    def logits(self, features):
        maps = self.blocks(self.stem(features))  # (batch, 4 width, bands / 8, time / 8)
        return self.head(torch.cat([maps.mean(-1), maps.amax(-1)], 1))  # what is there on average, and at its clearest

    def forward(self, clip=None, features=None, shares=None):
        features = self.features(clip) if features is None else features
        if self.training:
            features = recolour(features, self.colour) if self.colour else features
            features = spec_augment(features) if self.spec_augment else features
            if self.mixup and shares is not None:
                features, shares = mixup(features, shares, self.mixup)
        return super().forward(features=features, shares=shares)


def spec_augment(features, masks=2, bands=8, frames=12):
    """Set up to `bands` neighbouring bands and up to `frames` frames to 0 (the mean), `masks` times each, another place
    for each clip.

    Source: Park et al., SpecAugment, arXiv 1904.08779.
    """
    for axis, most in ((2, bands), (3, frames)):
        size = features.shape[axis]
        for _ in range(masks):
            width = torch.rand(len(features), 1, device=features.device) * most
            first = torch.rand(len(features), 1, device=features.device) * (size - width)
            place = torch.arange(size, device=features.device)
            hidden = (place >= first) & (place < first + width)  # (batch, size)
            shape = [len(features), 1, 1, 1]
            shape[axis] = size
            features = features.masked_fill(hidden.view(shape), 0.0)
    return features


def recolour(features, strength):
    """Add a smooth random curve over the bands, of spread `strength`: another microphone, room or throat."""
    points = torch.randn(len(features), 1, 6, device=features.device) * strength
    curve = nn.functional.interpolate(points, features.shape[2], mode="linear", align_corners=True)
    return features + curve[..., None]


def mixup(features, shares, strength):
    """Each clip with a bit of another: pictures and shares mixed by one weight from Beta(strength, strength). arXiv
    1710.09412.
    """
    weight = torch.distributions.Beta(strength, strength).sample((len(features),)).to(features.device)
    weight = torch.maximum(weight, 1 - weight)
    other = torch.randperm(len(features), device=features.device)
    view = weight.view(-1, *[1] * (features.dim() - 1))
    return (
        view * features + (1 - view) * features[other],
        weight[:, None] * shares + (1 - weight[:, None]) * shares[other],
    )


class Averaged(nn.Module):
    """Trains `net`, answers with the running average of its weights and statistics (`mean`), which moves less from step
    to step.
    """

    def __init__(self, net, decay=0.98):
        super().__init__()
        self.net, self.mean, self.decay = net, copy.deepcopy(net).requires_grad_(False), decay
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, clip=None, features=None, shares=None):
        if not self.training:
            return self.mean(clip=clip, features=features, shares=shares)
        self._follow()
        return self.net(clip=clip, features=features, shares=shares)

    def parameter_groups(self, learning_rate):
        """For the optimiser: what the network itself asks for, else all that trains at one rate."""
        if hasattr(self.net, "parameter_groups"):
            return self.net.parameter_groups(learning_rate)
        return [{"params": [p for p in self.net.parameters() if p.requires_grad], "lr": learning_rate}]

    @torch.no_grad()
    def _follow(self):
        """Take in the weights that the last step left."""
        self.steps += 1
        decay = min(self.decay, float(self.steps) / (10 + float(self.steps)))
        for mean, now in zip(self.mean.state_dict().values(), self.net.state_dict().values()):
            mean.lerp_(now, 1 - decay) if mean.is_floating_point() else mean.copy_(now)


class Ensemble(nn.Module):
    """The mean of its members' answers; `temperature` over 1 makes an answer less sure."""

    def __init__(self, members, temperature=1.0):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, clip=None, shares=None):
        answers = torch.stack([member(clip=clip).log_shares for member in self.members])
        mean = torch.logsumexp(answers, 0) - torch.log(torch.tensor(float(len(answers))))
        log_shares = torch.log_softmax(mean / self.temperature, -1)
        return WordsOutput(loss=None if shares is None else kl(log_shares, shares).mean(), log_shares=log_shares)
