"""What pretraining asks of the model: to name a voice as a teacher does, then to pull it out, or to be silent.

Each task is a module that wraps the model and gives the loss of a batch of mixtures (`lib.pretraining.streaming`,
`lib.pretraining.batches`). Waves are float32 `(..., samples)` at 16 kHz.
"""

import torch
from torch import nn
from tqdm.auto import tqdm

from lib.losses import level_deviation, negative_si_snr, residual_level
from lib.pretraining.teacher import distance

SPECTRAL = 5.0  # weight of the spectral term beside negative SI-SNR in dB
SILENCE, LEVEL = 0.5, 0.3  # weights of the level of an answer that should be silence, and of a wrong level of another
ALIKE = 0.5  # share of the absent who are of the first speaker's sex


class Distil(nn.Module):
    """Stage 1: the x-vector against the teacher, on the enrollment and on the mixture."""

    def __init__(self, model, teacher):
        super().__init__()
        self.model, self.teacher = model, teacher

    def forward(self, mix, target, enrollment, **_):
        length = min(mix.shape[-1], enrollment.shape[-1])
        wave = torch.cat([piece[..., :length].reshape(-1, length) for piece in (mix, enrollment)])
        loss, likeness = distance(self.model.xvector_model(wave).float(), self.teacher, wave)
        return {"loss": loss, "score": likeness.view(-1, len(mix)).T.detach()}


@torch.no_grad()
def solve(xvector, teacher, data, items=2000, ridge=100.0):
    """End of stage 1: the x-vector's last Linear in closed form (ridge regression on the teacher), its output at unit
    variance on average.
    """
    seen, said = [], []
    for first in tqdm(range(0, items, 25), desc="solve"):
        wave = torch.stack([torch.from_numpy(data[i]["enrollment"]) for i in range(first, first + 25)]).flatten(0, -2)
        seen.append(xvector.statistics(wave).double())
        said.append(teacher(wave).double())
    seen, said = torch.cat(seen), torch.cat(said)
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    seen, centre = (seen - mean) / scale, said.mean(0)
    weight = torch.linalg.solve(
        seen.T @ seen + ridge * torch.eye(seen.shape[1], dtype=seen.dtype), seen.T @ (said - centre)
    )
    spread = (seen @ weight).std()
    layer = xvector.embedding
    layer.weight.copy_(((weight / scale[:, None]).T / spread).float())
    layer.bias.copy_(-((mean / scale) @ weight / spread).float())


class Extract(nn.Module):
    """Stages 2 and 3: the extractor, with the x-vector learning beside it, also from `teacher`; or (None) all of it but
    its front. Of its questions in training a share `absent` is about somebody who is not in the mixture, of those a
    share `alike` about somebody of its first speaker's sex.
    """

    def __init__(self, model, teacher=None, spectral=SPECTRAL, absent=0.0, alike=ALIKE):
        super().__init__()
        self.model, self.teacher, self.spectral, self.absent, self.alike = model, teacher, spectral, absent, alike
        model.xvector_model.requires_grad_(True).sincnet.requires_grad_(teacher is not None)

    def train(self, mode=True):
        super().train(mode)
        if self.teacher is None:
            self.model.xvector_model.eval()
        return self

    def forward(self, mix, target, enrollment, people=None, sex=None):
        """`mix` `(batch, samples)`; `target` and `enrollment` `(batch, samples)` or `(batch, persons, samples)`; people
        and sex as in `EndlessMixtures`, needed to ask for the absent.
        """
        model, persons = self.model, 1 if target.dim() == 2 else target.shape[1]
        rows = torch.arange(len(mix), device=mix.device).repeat_interleave(persons)
        target, enrollment, there = target.flatten(0, -2), enrollment.flatten(0, -2), len(rows)
        enrolled, heard = model.xvector_model(enrollment).float(), model.xvector_model(mix).float()
        known = enrolled
        if self.absent and self.training:  # the first mixtures once more, which are as random as all
            count = round(self.absent / (1 - self.absent) * there)
            rows = torch.cat([rows, torch.arange(count, device=mix.device) % len(mix)])
            known = torch.cat([enrolled, enrolled[strangers(people, sex, rows[there:], self.alike)]])
        spectrum, reference = model.stft(mix)[rows], model.stft(target)
        mix = mix[rows]
        mask = model.mask(spectrum.abs(), model.condition(known, heard[rows]))
        est = model.istft(spectrum * mask, mix.shape[-1])
        si_snr, scale = -negative_si_snr(est[:there], target), reference.abs().mean((1, 2), keepdim=True) + 1e-8
        spectral = (
            (((spectrum * mask)[:there].abs() / scale + 1e-4) ** 0.5 - (reference.abs() / scale + 1e-4) ** 0.5)
            .abs()
            .mean((1, 2))
        )
        loss = -si_snr.clamp_max(25) + self.spectral * spectral
        if there < len(rows):
            loss = loss + LEVEL * level_deviation(est[:there], target)
            loss = torch.cat([loss, SILENCE * residual_level(est[there:], mix[there:])])
        loss = loss.mean()
        if self.teacher is not None and self.training:
            loss = loss + 5 * distance(enrolled, self.teacher, enrollment)[0]
        improvement = si_snr + negative_si_snr(mix[:there], target)
        return {"loss": loss, "score": improvement.detach().view(-1, persons)}


def strangers(people, sex, rows, share=ALIKE):
    """For each mixture of `rows` the place, `(len(rows),)` in `(batch * 2)`, of an enrollment of somebody who does not
    speak in it: in a share of the questions of its first person's sex, else of the other, where the batch has one.
    """
    who, of = people[:, :2].flatten(), sex.flatten()
    fits = (who[None, None] != people[rows, :, None]).all(1)  # (questions, enrollments)
    alike = (of[None] == sex[rows, :1]) == (torch.rand(len(rows), 1, device=who.device) < share)
    best = torch.where((fits & alike).any(1, keepdim=True), fits & alike, fits)
    if not best.any(1).all():
        raise ValueError(
            "all mixtures of a batch are of the same people, so nobody can be absent: enlarge --batch-size"
        )
    return torch.multinomial(best.float(), 1).squeeze(1)
