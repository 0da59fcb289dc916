"""Which words are in a clip: the earlier solution's network, exactly, and the parts both networks share.

Clips are float32 `(batch, 16000)`, one second at 16 kHz in [-1, 1]; `shares` `(batch, words)` sum to 1 and are both
label and answer.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from lib.mels import mel_filters

SR = 16000


@dataclass
class WordsOutput(ModelOutput):
    """loss: KL divergence, batch mean, where shares were given; log_shares `(batch, words)`: the log of the answer."""

    loss: torch.Tensor | None = None
    log_shares: torch.Tensor | None = None


def kl(log_shares, shares):
    """Kullback-Leibler divergence of the answer from the label, in nats, one a clip: sum of p log(p / q). Both `(batch,
    words)`.
    """
    return (torch.special.xlogy(shares, shares) - shares * log_shares).sum(-1)


class LogMel(nn.Module):
    """Mel power in dB of `(batch, samples)`: `(batch, bands, frames)`, centred Hann frames, 101 of them for a second at
    hop 160.

    high: Hz, the top of the highest band. The floor is 80 dB under the loudest point of each clip.
    """

    def __init__(self, n_fft=512, window=400, hop=160, bands=80, high=8000.0):
        super().__init__()
        self.n_fft, self.window, self.hop = n_fft, window, hop
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        self.register_buffer("filters", mel_filters(bands, n_fft, 0.0, high), persistent=False)

    def forward(self, clip):
        with torch.autocast(clip.device.type, enabled=False):  # squares of small numbers want all digits
            spectra = torch.stft(
                clip.float(), self.n_fft, self.hop, self.window, self.hann, pad_mode="constant", return_complex=True
            )
            power = torch.view_as_real(spectra).square().sum(-1)  # (batch, bins, frames)
            decibels = 10 * torch.log10((self.filters @ power).clamp_min(1e-10))
            return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 80.0)


class Answering(nn.Module):
    """What every network here has: `net` from features to logits, and log-softmax and KL after it.

    `forward(clip, shares)` or, with features computed before, `forward(features=..., shares=...)`. temperature: logits
    are divided by it outside of training; chosen on validation clips (`lib.words.training.calibrate`), not learned and
    not saved.
    """

    temperature = 1.0

    def features(self, clip):
        """`(batch, 16000)` -> what `logits` takes."""
        raise NotImplementedError

    def logits(self, features):
        """Features -> `(batch, words)`."""
        raise NotImplementedError

    def forward(self, clip=None, features=None, shares=None):
        features = self.features(clip) if features is None else features
        logits = self.logits(features).float()
        log_shares = F.log_softmax(logits if self.training else logits / self.temperature, dim=-1)
        return WordsOutput(loss=None if shares is None else kl(log_shares, shares).mean(), log_shares=log_shares)


class WordCNN(Answering):
    """The earlier solution: mel spectrogram in dB (80 x 101), five convolutions, 1600 features, three Linear of 256,
    one of `words`.

    After each Linear of 256: ReLU, then BatchNorm. Features are brought to about zero mean and unit spread by two
    constants.
    """

    def __init__(self, words=30):
        super().__init__()
        self.mel = LogMel(512, 400, 160, 80)
        convolutions = [
            nn.Conv2d(1, 8, (4, 5), 2),
            nn.Conv2d(8, 16, (4, 5), 2),
            nn.Conv2d(16, 32, (4, 5)),
            nn.Conv2d(32, 64, (4, 4)),
            nn.Conv2d(64, 64, (3, 4), (2, 3)),
        ]
        self.convolutions = nn.Sequential(*[layer for one in convolutions for layer in (one, nn.ReLU())], nn.Flatten())
        dense = [
            layer for width in (1600, 256, 256) for layer in (nn.Linear(width, 256), nn.ReLU(), nn.BatchNorm1d(256))
        ]
        self.dense = nn.Sequential(*dense, nn.Linear(256, words))

    def features(self, clip):
        """`(batch, 16000)` -> `(batch, 80, 101)`."""
        return self.mel(clip)

    def logits(self, features):
        with torch.autocast(features.device.type, enabled=False):  # on CPUs the last convolution's gradient takes, in
            # bfloat16 and with its stride, over ten times as long
            return self.dense(self.convolutions((features[:, None].float() + 40.0) / 20.0))
