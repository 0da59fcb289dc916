"""Resemblyzer's speaker encoder as the teacher of the starter's x-vector."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

WINDOW = 160  # frames of 10 ms that the teacher hears at a time


class Teacher(nn.Module):
    """Resemblyzer's encoder on batches of waves: the embedding (scaled) and the last hidden state, together `(batch,
    512)`.

    After `whiten` they are centred and scaled so that what tells persons apart counts, not what is large.
    """

    def __init__(self):
        super().__init__()
        import librosa
        from resemblyzer import VoiceEncoder

        self.encoder = VoiceEncoder("cpu", verbose=False).eval().requires_grad_(False)
        self.register_buffer("mel", torch.from_numpy(librosa.filters.mel(sr=16000, n_fft=400, n_mels=40)))
        self.register_buffer("window", torch.hann_window(400))
        self.register_buffer("mean", torch.zeros(512))
        self.register_buffer("transform", torch.eye(512))

    def whiten(self, data):
        """Set the transform from `data`; returns self."""
        mean, transform = whitening(self, data)
        self.mean.copy_(mean)
        self.transform.copy_(transform)
        return self

    @torch.no_grad()
    def forward(self, wave):
        """`(batch, samples)` -> `(batch, 512)`, entries of the order of one."""
        level = wave.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
        wave = wave * (10 ** (-30 / 20) / level).clamp_min(1.0)  # Resemblyzer raises quiet waves to -30 dBFS
        power = torch.stft(wave, 400, 160, window=self.window, pad_mode="constant", return_complex=True).abs().square()
        mels = (self.mel @ power).transpose(1, 2)
        count = max(1, round(mels.shape[1] / WINDOW))
        starts = np.linspace(0, max(0, mels.shape[1] - WINDOW), count).astype(int)
        pieces = torch.stack([mels[:, s : s + WINDOW] for s in starts], dim=1).flatten(0, 1)
        _, (hidden, _) = self.encoder.lstm(pieces)
        voice = F.normalize(F.relu(self.encoder.linear(hidden[-1])), dim=-1)
        voice = F.normalize(voice.view(len(wave), count, -1).mean(1), dim=-1)
        said = torch.cat([16 * voice, 2 * hidden[-1].view(len(wave), count, -1).mean(1)], dim=-1)
        return (said - self.mean) @ self.transform.T


def distance(own, teacher, wave):
    """How far embeddings `own` `(batch, 512)` are from what the teacher says of `wave` `(batch, samples)`: loss, cosine
    `(batch,)`.
    """
    with torch.autocast(wave.device.type, enabled=False):
        said = teacher(wave)
    likeness = F.cosine_similarity(own, said)
    return F.mse_loss(own, said) + 1 - likeness.mean(), likeness


@torch.no_grad()
def whitening(embed, data, items=1500, shrink=0.1):
    """`(mean, transform)` that makes persons differ more than recordings of one person do, from pairs (enrollment,
    target) of `data`.

    Centred embeddings times the transform have scatter of one size in all directions within persons (Hatch et al.,
    within-class covariance normalisation, Interspeech 2006) and unit variance on average.
    """
    pairs = []
    for first in tqdm(range(0, items, 25), desc="whitening"):
        batch = [data[i] for i in range(first, first + 25)]
        pairs.append(
            [
                embed(torch.stack([torch.from_numpy(item[name]) for item in batch]).flatten(0, -2))
                for name in ("enrollment", "target")
            ]
        )
    one, two = (torch.cat(side).double() for side in zip(*pairs))
    mean = torch.cat([one, two]).mean(0)
    within = (one - two).T @ (one - two) / (2 * len(one))
    within += shrink * within.diagonal().mean() * torch.eye(len(within), dtype=within.dtype)
    values, vectors = torch.linalg.eigh(within)
    transform = vectors @ torch.diag(values**-0.5) @ vectors.T
    return mean, transform / ((torch.cat([one, two]) - mean) @ transform.T).std()
