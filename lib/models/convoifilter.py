"""ConVoiFilter: pull one person's voice out of a mixture, given a few seconds of that person (arXiv 2308.11380).

Waves are float32 `(batch, samples)` at 16 kHz in [-1, 1]; spectra `(batch, frames, bins)`; embeddings `(batch, 512)`.
The mixture is cut into chunks of 5 s, each treated alone. The graph and the tensor names are those of the public
checkpoint.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from lib.losses import extraction_loss
from lib.models import checkpoint, spectra
from lib.models.config import ConVoiFilterConfig
from lib.models.conformer import Conformer
from lib.models.dropout import Dropout
from lib.models.tables import Tables
from lib.models.xvector import XVector

__all__ = ["ConVoiFilter", "ConVoiFilterConfig", "ConVoiFilterOutput"]


@dataclass
class ConVoiFilterOutput(ModelOutput):
    """loss: mean negative SI-SNR in dB, where a target was given; est: the estimate `(batch, samples)`."""

    loss: torch.Tensor | None = None
    est: torch.Tensor | None = None


class _Separator(nn.Module):
    def __init__(self, config):
        super().__init__()
        bins = config.n_fft // 2 + 1
        self.conformer = Conformer(
            bins + config.xvector_dim,
            config.adim,
            config.aheads,
            config.layers,
            config.linear_units,
            config.kernel_size,
            config.dropout,
            config.positional_dropout,
            config.attention_dropout,
        )
        self.linear = nn.ModuleList([nn.Linear(config.adim, bins)])


class _EnhModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.separator = _Separator(config)


class ConVoiFilter(PreTrainedModel):
    """The target speaker extractor. See the module's docstring for shapes, `ConVoiFilterConfig` for sizes."""

    config_class = ConVoiFilterConfig
    base_model_prefix = "voicefilter"
    main_input_name = "mix"
    replayable = True  # forward neither asks the device anything nor draws numbers outside of torch

    def __init__(self, config):
        super().__init__(config)
        self.enh_model = _EnhModel(config)
        self.filter_condition_transform = nn.Linear(2 * config.xvector_dim, config.xvector_dim)
        self.xvector_model = XVector(
            config.xvector_dim, config.xvector_channels, config.xvector_pool, config.sample_rate, config.xvector_front
        )
        self.dropout = Dropout(config.condition_dropout)
        self.chunk = int(config.enh_chunk_size * config.sample_rate)
        self._tables = Tables()
        self.all_tied_weights_keys = {}

    @classmethod
    def from_pretrained(cls, path, **settings):
        """Load from a folder or hub id that holds `config.json` with `model.safetensors` or `pytorch_model.bin`.

        Pickles are read with `weights_only=True`. Settings override the config's. Adapters are folded into the weights;
        `adapters=None, equaliser=None` leaves away what was made for a place, its gate too, and gives the model as it
        was before.
        Raises `CheckpointError`, which names the file, the tensor and the remedy, for anything missing, unexpected, of
        another shape, or not a checkpoint at all. The model comes back in eval mode.
        """
        if settings.get("equaliser", 0) is None:
            settings = {"gate": None, **settings}
        config, state, source = checkpoint.read_checkpoint(path)
        state = checkpoint.fold_adapters(state, {**config, **settings}.get("adapters", "unknown"), source)
        try:
            model = cls(cls.config_class(**{**config, **settings, "adapters": None}))
        except (ValueError, TypeError) as error:
            raise checkpoint.CheckpointError(
                f"{source.parent / 'config.json'}: no settings of this model ({error}). Is it of another model?"
            ) from error
        checkpoint.fill(model, state, source)
        return model.eval()

    def embed(self, enrollment, lengths=None):
        """Speaker embedding of `enrollment`, `(samples,)` or `(batch, samples)` -> `(batch, 512)`: mean over 5 s
        pieces.

        lengths: samples that count in each row, `(batch,)`; pieces of padding alone are left out of its mean. Default
        all.
        """
        return self.xvector_model.embedding(self.enrollment_statistics(enrollment, lengths))

    def enrollment_statistics(self, enrollment, lengths=None):
        """What the last Linear of the x-vector sees of an enrollment, `(batch, 2 * pool)`, averaged over its 5 s
        pieces.
        """
        enrollment = enrollment[None] if enrollment.dim() == 1 else enrollment
        pieces, count = self.cut(enrollment, lengths)
        statistics = self.xvector_model.statistics(pieces).view(enrollment.shape[0], count, -1)
        if lengths is None:
            return statistics.mean(1)
        starts = torch.arange(count, device=enrollment.device)[None] * self.chunk
        counts = (starts < torch.as_tensor(lengths, device=enrollment.device)[:, None]).to(statistics.dtype)[..., None]
        return (statistics * counts).sum(1) / counts.sum(1)

    def forward(
        self, mix, lengths=None, embedding=None, enrollment=None, target=None, enrollment_lengths=None, prefix=None
    ):
        """Estimate the enrolled person's voice in `mix` `(batch, samples)`.

        lengths: samples that count in each row, default all. embedding: `(batch, 512)`, or enrollment `(batch,
        samples)` to
        compute it from, with enrollment_lengths as in `embed`; or prefix, `(batch, chunks, ...)` each, what frozen
        parts said of both
        (`lib.training.prefix`). target: the reference; where given, the output's `.loss` is the mean negative SI-SNR in
        dB over each row's `lengths`, for a silent target what `extraction_loss` says. Returns
        `ConVoiFilterOutput`.
        """
        if sum(given is not None for given in (embedding, enrollment, prefix)) != 1:
            raise ValueError("give either embedding or enrollment, and not both")
        pieces, count = self.cut(mix, lengths)
        if prefix is None:
            embedding = self.embed(enrollment, enrollment_lengths) if embedding is None else embedding
            if embedding.shape[0] != mix.shape[0]:
                raise ValueError(
                    f"mix has {mix.shape[0]} rows and the embedding {embedding.shape[0]}; they must be equal"
                )
            est = self.separate(pieces, embedding.repeat_interleave(count, 0))
        else:
            est = self.separate_from(
                pieces, {name: value[:, :count].flatten(0, 1).float() for name, value in prefix.items()}
            )
        est = est.reshape(mix.shape[0], -1)[:, : mix.shape[1]]
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=mix.device)
            est = est * (torch.arange(est.shape[1], device=mix.device)[None] < lengths[:, None])
        loss = None if target is None else extraction_loss(est, target, mix, lengths).mean()
        return ConVoiFilterOutput(loss=loss, est=est)

    def separate(self, chunk, embedding):
        """The graph on waves taken whole: `chunk` `(batch, samples)`, `embedding` `(batch, 512)` -> `(batch,
        samples)`.
        """
        spectrum = self.stft(chunk)
        mask = self.mask(spectrum.abs(), self.condition(embedding, self.xvector_model(chunk)))
        return self.istft(self.equalise(spectrum * mask), chunk.shape[-1])

    def separate_from(self, chunk, prefix):
        """As `separate`, from what is known of each chunk already, `(batch, ...)` each.

        prefix: `hidden_<k>` (what leaves the first k blocks), or `enrolled` and `heard` (the two embeddings), or
        `enrolled_statistics` and `heard_statistics` (what enters the x-vector's last Linear).
        """
        spectrum, conformer = self.stft(chunk), self.enh_model.separator.conformer
        if hidden := [name for name in prefix if name.startswith("hidden_")]:
            state = conformer.run(prefix[hidden[0]], first=int(hidden[0].removeprefix("hidden_")))
        else:
            enrolled, heard = (
                prefix[name] if name in prefix else self.xvector_model.embedding(prefix[f"{name}_statistics"])
                for name in ("enrolled", "heard")
            )
            state = conformer(self.features(spectrum.abs(), self.condition(enrolled, heard)))
        return self.istft(self.equalise(spectrum * self.mask_of(state)), chunk.shape[-1])

    def condition(self, enrolled, heard):
        """Join the enrollment's embedding and the mixture's own, each `(batch, 512)`, into one condition `(batch,
        512)`.
        """
        return self.filter_condition_transform(self.dropout(torch.cat([enrolled, heard], dim=-1)))

    def features(self, magnitude, condition):
        """What enters the Conformer: `magnitude` `(batch, frames, bins)` with `condition` `(batch, 512)` beside each
        frame.
        """
        power = self.config.magnitude_power
        if power != 1.0:
            magnitude = (magnitude + 1e-8) ** power
        return torch.cat([magnitude, condition[:, None].expand(-1, magnitude.shape[1], -1).to(magnitude.dtype)], dim=-1)

    def mask(self, magnitude, condition):
        """`magnitude` `(batch, frames, bins)`, `condition` `(batch, 512)` -> the mask `(batch, frames, bins)`, 0 or
        more.
        """
        return self.mask_of(self.enh_model.separator.conformer(self.features(magnitude, condition)))

    def mask_of(self, state):
        """The Conformer's output `(batch, frames, dim)` -> the mask `(batch, frames, bins)`, 0 or more."""
        return F.relu(self.enh_model.separator.linear[0](state)).float()

    def equalise(self, spectrum):
        """Complex `(batch, frames, bins)` through the config's equaliser, where there is one."""
        gains = self.config.equaliser
        if gains is None:
            return spectrum

        def table(device):
            return torch.view_as_complex(torch.tensor(gains, dtype=torch.float32, device=device))

        return spectrum * self._tables.get(("equaliser", *map(tuple, gains)), spectrum.device, table)

    def stft(self, wave):
        """`(batch, samples)` -> complex `(batch, frames, bins)`; Hann window, centred."""
        return spectra.stft(wave, self.config.n_fft, self.config.hop_length, self._tables)

    def istft(self, spectrum, samples):
        """Complex `(batch, frames, bins)` -> `(batch, samples)`."""
        return spectra.istft(spectrum, samples, self.config.n_fft, self.config.hop_length, self._tables)

    def cut(self, wave, lengths=None, count=None):
        """Cut `(batch, samples)` into `count` chunks a row, default as many as it takes: `(batch * count, chunk)` and
        the count.

        Behind the end of a row (lengths, `(batch,)`, default all samples) stand zeros, or with the config's fill
        "repeat" the row again.
        """
        count = count or max(1, math.ceil(wave.shape[1] / self.chunk))
        if self.config.fill == "repeat":
            ends = (
                wave.shape[1] if lengths is None else torch.as_tensor(lengths, device=wave.device).clamp_min(1)[:, None]
            )
            places = (torch.arange(count * self.chunk, device=wave.device)[None] % ends).expand(len(wave), -1)
            return wave.gather(1, places).reshape(-1, self.chunk), count
        return F.pad(wave, (0, count * self.chunk - wave.shape[1])).reshape(-1, self.chunk), count

    def extract(self, mix, enrollment, sr=16000, overlap=0.0, batch=8, progress=None, precision="auto", speeds=(1.0,)):
        """Pull the enrolled person out of `mix`, of any length and at any rate; the everyday way to use the model.

        mix, enrollment: numpy or torch, `(samples,)` or `(channels, samples)` (mixed down), in [-1, 1], both at `sr`
        Hz.
        overlap: share of a chunk, 0 to under 1, that neighbours share; they are cross-faded, so that no seam is heard.
        batch: chunks computed at a time, which bounds the memory. progress: wraps the list of batches (tqdm fits).
        precision: "fp32", "bf16", or "auto": bf16 where this machine is faster with it, the mixture is long enough to
        try it (four chunks, on a GPU eight batches), and what comes out of its loudest chunk lies within 40 dB of fp32
        (`lib.models.precision`).
        speeds: the estimate is the mean over mixture and enrollment played this much faster; `lib.models.chunks.SPEEDS`
        takes five
        times as long and is better by some tenths of a decibel (`lib.pretraining.scores --speeds`).
        Returns numpy float32 `(samples,)` at `sr`. Raises ValueError for empty, silent or NaN input or an enrollment
        under
        1 s; warns under 3 s.
        """
        from lib.models.chunks import extract  # kept apart: plumbing, not the model

        return extract(self, mix, enrollment, sr, overlap, batch, progress, precision, speeds)
