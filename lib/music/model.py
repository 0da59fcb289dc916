"""CRNN: one stem out of a song, by a light convolutional-recurrent U-Net that masks the mixture's magnitudes.

Waves are float32 mono `(batch, samples)` at 22,050 Hz in [-1, 1]; spectra `(batch, frames, bins)`; features `(batch,
channels, frames, bins)`. A U-Net in frequency alone: the encoder compresses 512 bins to 16 and leaves the frames as
they are, so that the recurrent bottleneck sees every frame, and each decoder layer gets the encoder's features of its
size beside its own.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from lib.models import checkpoint

TARGETS = ("vocals", "drums", "bass", "other")
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
LOSSES = ("magnitude", "spectrum", "compressed", "snr", "both")
MASKS = ("magnitude", "complex")
COMPRESSION = 0.5  # power of the magnitudes in the loss "compressed"
SNR_SHARE = 0.05  # weight of a dB of SNR beside the L1 in the loss "both": both then pull about equally


class CRNNConfig(PretrainedConfig):
    """Sizes and options of `CRNN`.

    target: the stem it separates. channels, strides: of the four encoder layers, strides in frequency. hidden: width of
    one direction of
    a recurrent layer. rnn: "gru" or "lstm". magnitude_power: compression of the magnitudes that enter. mask: of the
    "magnitude", or "complex": it turns the phase as well. loss: L1 of the complex "spectrum" of estimate less target,
    which counts what the mixture's phase costs, or of the "magnitude" alone; "compressed": the first with square roots
    of the magnitudes; "snr": minus the waves' SNR in dB, for which a faint voice counts as much as a loud one; "both":
    "spectrum" and a share of "snr".
    """

    model_type = "crnn_separator"

    def __init__(
        self,
        target="vocals",
        sample_rate=22050,
        n_fft=1024,
        hop_length=256,
        channels=(8, 16, 32, 32),
        strides=(4, 2, 2, 2),
        hidden=96,
        layers=3,
        rnn="gru",
        magnitude_power=0.3,
        loss="spectrum",
        mask="magnitude",
        **kwargs,
    ):
        choices = (
            ("target", target, TARGETS),
            ("rnn", rnn, tuple(CELLS)),
            ("loss", loss, LOSSES),
            ("mask", mask, MASKS),
        )
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; known are: {', '.join(known)}")
        steps = 1
        for stride in strides:
            steps *= stride
        if len(channels) != len(strides) or n_fft // 2 % steps:
            raise ValueError(
                f"channels {tuple(channels)} and strides {tuple(strides)} must be equally many, and the strides'"
                f" product must divide n_fft / 2 = {n_fft // 2}"
            )
        self.target, self.sample_rate, self.n_fft, self.hop_length = target, sample_rate, n_fft, hop_length
        self.channels, self.strides, self.hidden, self.layers = list(channels), list(strides), hidden, layers
        self.rnn, self.magnitude_power, self.loss, self.mask = rnn, magnitude_power, loss, mask
        super().__init__(**kwargs)


@dataclass
class CRNNOutput(ModelOutput):
    """loss: mean L1 relative to the mixture's own magnitude, where a target was given; est: `(batch, samples)`; None
    while training.
    """

    loss: torch.Tensor | None = None
    est: torch.Tensor | None = None


class _Down(nn.Sequential):
    """A convolution over 3 frames and a few bins that keeps the frames and divides the bins by `stride`."""

    def __init__(self, inputs, outputs, stride):
        kernel = stride + 3 if stride > 2 else 5
        super().__init__(
            nn.Conv2d(inputs, outputs, (3, kernel), (1, stride), (1, (kernel - stride + 1) // 2)),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class _Up(nn.Sequential):
    """The way back: bins times `stride`; the last layer has no norm, for its output becomes the mask."""

    def __init__(self, inputs, outputs, stride, last):
        layers = [nn.ConvTranspose2d(inputs, outputs, (3, 2 * stride), (1, stride), (1, stride // 2))]
        super().__init__(*layers, *([] if last else [nn.BatchNorm2d(outputs), nn.ReLU()]))


class CRNN(PreTrainedModel):
    """The separator. See the module's docstring for shapes, `CRNNConfig` for sizes."""

    config_class = CRNNConfig
    base_model_prefix = "crnn"
    main_input_name = "mix"

    def __init__(self, config):
        super().__init__(config)
        widths, strides = [1, *config.channels], list(config.strides)
        self.encoder = nn.ModuleList([_Down(widths[k], widths[k + 1], strides[k]) for k in range(len(strides))])
        bins = config.n_fft // 2
        for stride in strides:
            bins //= stride
        self.bottleneck = CELLS[config.rnn](
            widths[-1] * bins, config.hidden, config.layers, batch_first=True, bidirectional=True
        )
        self.back = nn.Linear(2 * config.hidden, widths[-1] * bins)
        outputs = [3 if config.mask == "complex" else 1, *widths[1:]]  # size, and where to turn the phase
        self.decoder = nn.ModuleList(
            [_Up(2 * widths[k + 1], outputs[k], strides[k], k == 0) for k in reversed(range(len(strides)))]
        )
        self._windows = {}
        self.all_tied_weights_keys = {}

    @classmethod
    def from_pretrained(cls, path, **settings):
        """Load from a folder or hub id with `config.json` and weights, in eval mode; `CheckpointError` names what is
        missing or unfit.
        """
        config, state, source = checkpoint.read_checkpoint(path)
        model = cls(cls.config_class(**{**{k: v for k, v in config.items() if k != "dtype"}, **settings}))
        checkpoint.fill(model, _widened(model, state), source)
        return model.eval()

    def groups(self):
        """The parts in the order of the signal, for `lib.training.freezing.freeze_groups`."""
        return {"encoder": self.encoder, "bottleneck": [self.bottleneck, self.back], "decoder": self.decoder}

    def forward(self, mix, target=None):
        """Estimate the target in `mix` `(batch, samples)`; with `target` of the same shape the output has the loss
        too.
        """
        if mix.dim() != 2 or (target is not None and target.shape != mix.shape):
            raise ValueError(
                f"expected mix (batch, samples) and a target of the same shape; got {tuple(mix.shape)}"
                + ("" if target is None else f" and {tuple(target.shape)}")
            )
        spectrum = self.stft(mix)
        mask = self.mask(spectrum.abs())
        waves = not self.training or self.config.loss in ("snr", "both")
        est = self.istft(spectrum * mask, mix.shape[-1]) if waves else None
        loss = None if target is None else self._loss(mask, spectrum, est, mix, target)
        return CRNNOutput(loss=loss, est=None if self.training else est)

    def mask(self, magnitude):
        """`magnitude` `(batch, frames, bins)` -> the mask of the same shape, 0 to 1, or complex of that modulus.

        Blind to the level of the whole.
        """
        level = magnitude.mean((1, 2), keepdim=True) + 1e-8
        x = ((magnitude[..., :-1] / level + 1e-6) ** self.config.magnitude_power)[
            :, None
        ]  # without the bin at half the rate: 512 are left
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        batch, channels, frames, bins = x.shape
        x = self.bottleneck(x.transpose(1, 2).reshape(batch, frames, channels * bins))[0]
        x = self.back(x).reshape(batch, frames, channels, bins).transpose(1, 2)
        for layer, skip in zip(self.decoder, reversed(skips)):
            x = layer(torch.cat([x, skip.to(x.dtype)], dim=1))
        mask = torch.sigmoid(x[:, 0].float())
        if self.config.mask == "complex":
            across, along = x[:, 1].float() + 1, x[:, 2].float()
            mask = mask * torch.complex(across, along) / (across.square() + along.square() + 1e-6).sqrt()
        return torch.cat([mask, mask[..., -1:]], dim=-1)

    def _loss(self, mask, spectrum, est, mix, target):
        kind, loss = self.config.loss, 0.0
        if kind in ("snr", "both"):
            loss = (SNR_SHARE if kind == "both" else 1.0) * negative_snr(est, target, mix)
        if kind == "snr":
            return loss
        found, wanted, whole = mask * spectrum, self.stft(target), spectrum.abs()
        if kind == "compressed":
            found, wanted, whole = (compressed(value) for value in (found, wanted, spectrum))
        wrong = found.abs() - wanted.abs() if kind == "magnitude" else found - wanted
        return loss + (wrong.abs().mean((1, 2)) / (whole.abs().mean((1, 2)) + 1e-5)).mean()

    def separate(self, mix):
        """The target in `mix` `(batch, samples)`, without gradient: `(batch, samples)`."""
        with torch.inference_mode():
            spectrum = self.stft(mix)
            return self.istft(spectrum * self.mask(spectrum.abs()), mix.shape[-1])

    def stft(self, wave):
        """`(batch, samples)` -> complex `(batch, frames, bins)`; Hann window, centred."""
        config = self.config
        return torch.stft(
            wave.float(), config.n_fft, config.hop_length, window=self._window(wave.device), return_complex=True
        ).transpose(1, 2)

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


def compressed(spectrum, power=COMPRESSION):
    """`spectrum` with its magnitudes to the power `power` and its phase as it was."""
    size = (spectrum.real.square() + spectrum.imag.square() + 1e-10) ** ((power - 1) / 2)
    return spectrum * size


def negative_snr(est, ref, mix):
    """Minus the SNR of `est` `(batch, samples)` in dB, the mean over the batch; at most 30 dB, and where `ref` is
    silent the level of `est` re 25 dB under the mixture.
    """
    error, signal, whole = ((wave.float()).square().mean(-1) for wave in (est - ref, ref, mix))
    wrong = error + 1e-3 * signal + 1e-6 * whole + 1e-10
    return (10 * torch.log10(wrong / (signal + 0.003 * whole + 1e-10))).mean()


def _widened(model, state):
    """`state` for `model`: a model without a turn of the phase is one with a turn of zero."""
    for end in ("weight", "bias"):
        name = f"decoder.{len(model.decoder) - 1}.0.{end}"
        wanted, found = model.state_dict()[name], state.get(name)
        axis = 1 if end == "weight" else 0
        if found is not None and found.shape[axis] == 1 and wanted.shape[axis] == 3:
            more = torch.zeros([2 if k == axis else size for k, size in enumerate(found.shape)], dtype=found.dtype)
            state = {**state, name: torch.cat([found, more], dim=axis)}
    return state


@torch.inference_mode()
def operations(model, seconds=10.0):
    """Multiplications and additions (each counted) that a second of audio takes, by part: dict encoder, bottleneck,
    decoder, total.

    Counted from the layers' shapes on a wave of `seconds`; Fourier transforms, norms and activations are left out
    (under 1 %).
    """
    counts, hooks = {}, []

    def count(part):
        def hook(module, inputs, output):
            x, y = inputs[0], output[0] if isinstance(output, tuple) else output
            if isinstance(module, nn.RNNBase):
                each = (
                    sum(weight.numel() for name, weight in module.named_parameters() if "weight" in name) * x.shape[1]
                )
            elif isinstance(module, nn.Linear):
                each = module.weight.numel() * y.numel() / y.shape[-1]
            else:  # a transposed convolution spreads each input, a convolution gathers for each output
                places = x if isinstance(module, nn.ConvTranspose2d) else y
                each = module.weight.numel() * places.shape[-1] * places.shape[-2]
            counts[part] = counts.get(part, 0) + 2 * each / seconds

        return hook

    for part, modules in model.groups().items():
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase, nn.Linear)):
                    hooks.append(layer.register_forward_hook(count(part)))
    modes = {module: module.training for module in model.modules()}
    model.eval().separate(torch.randn(1, int(seconds * model.config.sample_rate)))
    for hook in hooks:
        hook.remove()
    for module, mode in modes.items():
        module.training = mode
    return {**counts, "total": sum(counts.values())}
