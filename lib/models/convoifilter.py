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
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from lib.losses import negative_si_snr
from lib.models import checkpoint
from lib.models.conformer import Conformer
from lib.models.xvector import XVector

# what the public config may say about its separator, and that this implementation takes for granted
FIXED = {
    "num_spk": 1,
    "positionwise_layer_type": "conv1d",
    "positionwise_conv_kernel_size": 1,
    "normalize_before": False,
    "concat_after": False,
    "input_layer": "linear",
    "nonlinear": "relu",
    "conformer_pos_enc_layer_type": "rel_pos",
    "conformer_self_attn_layer_type": "rel_selfattn",
    "conformer_activation_type": "swish",
    "use_macaron_style_in_conformer": True,
    "use_cnn_in_conformer": True,
    "predict_noise": False,
}
SIZES = {
    "adim": "adim",
    "aheads": "aheads",
    "layers": "layers",
    "linear_units": "linear_units",
    "conformer_enc_kernel_size": "kernel_size",
    "dropout_rate": "dropout",
    "positional_dropout_rate": "positional_dropout",
    "attention_dropout_rate": "attention_dropout",
}


def _sizes_from(enh_args):
    """Flat settings from the nested `enh_args` of the public config; raises ValueError for a graph that this is not."""
    separator, stft = dict(enh_args.get("separator_conf") or {}), dict(enh_args.get("encoder_conf") or {})
    for name, value in FIXED.items():
        if separator.get(name, value) != value:
            raise ValueError(f"enh_args: separator_conf.{name} is {separator[name]!r}; only {value!r} is supported")
    sizes = {ours: separator[theirs] for theirs, ours in SIZES.items() if theirs in separator}
    sizes.update({name: stft[name] for name in ("n_fft", "hop_length") if name in stft})
    if "xvector_emb_dim" in enh_args:
        sizes["xvector_dim"] = enh_args["xvector_emb_dim"]
    return sizes


def _check_sizes(sizes):
    """ValueError, naming the setting, for a size that is no whole number from 1 on, or a dropout not from 0 to 1."""
    for name, value in sizes.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if "dropout" in name and not (number and 0 <= value < 1):
            raise ValueError(f"{name} must be from 0 to under 1, got {value!r}")
        if "dropout" not in name and not (number and 0 < value < 2**31 and (name[:3] == "enh" or value == int(value))):
            raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")


class ConVoiFilterConfig(PretrainedConfig):
    """Sizes and options of `ConVoiFilter`; the defaults are the public checkpoint's (54,285,567 parameters).

    magnitude_power: exponent on the magnitudes that enter the Conformer (1 is the public graph; 0.3 compresses).
    xvector_channels, xvector_pool: widths inside the x-vector. xvector_front: "public", or "log" to keep the long-term
    spectrum (`SincNet`).
    fill: what stands behind the end of a wave that does not fill its last chunk: "zeros" (public), or "repeat", the
    wave again, so that
    what the x-vector averages over time is speech alone.
    equaliser: a fixed complex gain a frequency behind the mask, `[[real, imaginary], ...]`, which brings the device of
    a place into order (`lib.training.equaliser`); None, as in the public graph, for everywhere else.
    enh_args: the public config's nested form, wins where given.
    """

    model_type = "voicefilter"

    def __init__(
        self,
        enh_args=None,
        sample_rate=16000,
        enh_chunk_size=5,
        n_fft=512,
        hop_length=128,
        adim=1024,
        aheads=8,
        layers=4,
        linear_units=896,
        kernel_size=5,
        dropout=0.1,
        positional_dropout=0.1,
        attention_dropout=0.1,
        condition_dropout=0.3,
        xvector_dim=512,
        xvector_channels=512,
        xvector_pool=1500,
        xvector_front="public",
        magnitude_power=1.0,
        fill="zeros",
        equaliser=None,
        **kwargs,
    ):
        sizes = dict(
            n_fft=n_fft,
            hop_length=hop_length,
            adim=adim,
            aheads=aheads,
            layers=layers,
            linear_units=linear_units,
            kernel_size=kernel_size,
            dropout=dropout,
            positional_dropout=positional_dropout,
            attention_dropout=attention_dropout,
            xvector_dim=xvector_dim,
        )
        sizes.update(_sizes_from(enh_args) if enh_args else {})
        _check_sizes({**sizes, "sample_rate": sample_rate, "enh_chunk_size": enh_chunk_size})
        if sizes["adim"] % sizes["aheads"]:
            raise ValueError(f"adim ({sizes['adim']}) must be a multiple of aheads ({sizes['aheads']})")
        if fill not in ("zeros", "repeat"):
            raise ValueError(f"fill must be 'zeros' or 'repeat', got {fill!r}")
        for name, value in sizes.items():
            setattr(self, name, value)
        if equaliser is not None and len(equaliser) != sizes["n_fft"] // 2 + 1:
            raise ValueError(f"equaliser must hold a gain a frequency, {sizes['n_fft'] // 2 + 1}, got {len(equaliser)}")
        self.fill, self.sample_rate, self.enh_chunk_size = fill, sample_rate, enh_chunk_size
        self.equaliser = equaliser
        self.condition_dropout, self.magnitude_power = condition_dropout, magnitude_power
        self.xvector_channels, self.xvector_pool, self.xvector_front = xvector_channels, xvector_pool, xvector_front
        super().__init__(**kwargs)

    @classmethod
    def from_enh_args(cls, enh_args, **rest):
        """Build from the nested `enh_args` of the public checkpoint's config; `rest` are this class's other
        settings.
        """
        return cls(enh_args=enh_args, **rest)


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

    def __init__(self, config):
        super().__init__(config)
        self.enh_model = _EnhModel(config)
        self.filter_condition_transform = nn.Linear(2 * config.xvector_dim, config.xvector_dim)
        self.xvector_model = XVector(
            config.xvector_dim, config.xvector_channels, config.xvector_pool, config.sample_rate, config.xvector_front
        )
        self.dropout = nn.Dropout(config.condition_dropout)
        self.chunk = int(config.enh_chunk_size * config.sample_rate)
        self._windows = {}
        self.all_tied_weights_keys = {}

    @classmethod
    def from_pretrained(cls, path, **settings):
        """Load from a folder or hub id that holds `config.json` with `model.safetensors` or `pytorch_model.bin`.

        Pickles are read with `weights_only=True`. Settings override the config's. Raises `CheckpointError`, which names
        the
        file, the tensor and the remedy, for anything missing, unexpected, of another shape, or not a checkpoint at all.
        The model comes back in eval mode.
        """
        config, state, source = checkpoint.read_checkpoint(path)
        try:
            model = cls(cls.config_class(**{**config, **settings}))
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
        dB over each row's `lengths`. Returns
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
        loss = None if target is None else negative_si_snr(est, target, lengths).mean()
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
        if self.config.equaliser is None:
            return spectrum
        gains = torch.tensor(self.config.equaliser, dtype=torch.float32, device=spectrum.device)
        return spectrum * torch.view_as_complex(gains)

    def stft(self, wave):
        """`(batch, samples)` -> complex `(batch, frames, bins)`; Hann window, centred."""
        config = self.config
        spectrum = torch.stft(
            wave.float(), config.n_fft, config.hop_length, window=self._window(wave.device), return_complex=True
        )
        return spectrum.transpose(1, 2)

    def istft(self, spectrum, samples):
        """Complex `(batch, frames, bins)` -> `(batch, samples)`."""
        config = self.config
        return torch.istft(
            spectrum.transpose(1, 2),
            config.n_fft,
            config.hop_length,
            window=self._window(spectrum.device),
            length=samples,
        )

    def _window(self, device):
        if str(device) not in self._windows:
            with torch.inference_mode(False):  # a window made in inference could not be used in training afterwards
                self._windows[str(device)] = torch.hann_window(self.config.n_fft, device=device)
        return self._windows[str(device)]

    def cut(self, wave, lengths=None, count=None):
        """Cut `(batch, samples)` into `count` chunks a row, default as many as it takes: `(batch * count, chunk)` and
        the count.

        Behind the end of a row (lengths, `(batch,)`, default all samples) stand zeros, or with the config's fill
        "repeat" the row again.
        """
        count = count or max(1, math.ceil(wave.shape[1] / self.chunk))
        if self.config.fill == "repeat":
            ends = torch.full((len(wave),), wave.shape[1]) if lengths is None else torch.as_tensor(lengths)
            places = torch.arange(count * self.chunk, device=wave.device)[None] % ends.to(wave.device)[
                :, None
            ].clamp_min(1)
            return wave.gather(1, places).reshape(-1, self.chunk), count
        return F.pad(wave, (0, count * self.chunk - wave.shape[1])).reshape(-1, self.chunk), count

    def extract(self, mix, enrollment, sr=16000, overlap=0.0, batch=8, progress=None, precision="fp32", speeds=(1.0,)):
        """Pull the enrolled person out of `mix`, of any length and at any rate; the everyday way to use the model.

        mix, enrollment: numpy or torch, `(samples,)` or `(channels, samples)` (mixed down), in [-1, 1], both at `sr`
        Hz.
        overlap: share of a chunk, 0 to under 1, that neighbours share; they are cross-faded, so that no seam is heard.
        batch: chunks computed at a time, which bounds the memory. progress: wraps the list of batches (tqdm fits).
        precision: bf16 is
        about twice as fast where the hardware multiplies it natively, and within some 40 dB of fp32
        (`lib.training.benchmark`).
        speeds: the estimate is the mean over mixture and enrollment played this much faster; `lib.models.chunks.SPEEDS`
        takes five
        times as long and is better by some tenths of a decibel (`lib.pretraining.scores --speeds`).
        Returns numpy float32 `(samples,)` at `sr`. Raises ValueError for empty, silent or NaN input or an enrollment
        under
        1 s; warns under 3 s.
        """
        from lib.models.chunks import extract  # kept apart: plumbing, not the model

        return extract(self, mix, enrollment, sr, overlap, batch, progress, precision, speeds)
