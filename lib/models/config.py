"""The settings of `ConVoiFilter`: sizes, options, and what a public checkpoint's own config says of them."""

import math

from transformers import PretrainedConfig

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


def check_gate(gate):
    """ValueError where `gate` is not `[weight, threshold]`, two finite numbers, the first from 0 on."""
    numbers = list(gate) if isinstance(gate, (list, tuple)) else []
    finite = [type(number) in (int, float) and math.isfinite(number) for number in numbers]
    if len(numbers) != 2 or not all(finite) or numbers[0] < 0:
        raise ValueError(f"gate must be two numbers, a weight from 0 on and a threshold, got {gate!r}")


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
    adapters: the scale of the low-rank adapters that the weight file holds beside its weights
    (`lib.training.adapters`); None where it holds none, and as a setting of `from_pretrained` to leave them away.
    gate: `[weight, threshold]` of the gate calibrated for the model's place (`lib.evaluation.gate`); None: none yet.
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
        adapters=None,
        gate=None,
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
        if gate is not None:
            check_gate(gate)
        self.fill, self.sample_rate, self.enh_chunk_size = fill, sample_rate, enh_chunk_size
        self.equaliser, self.adapters, self.gate = equaliser, adapters, gate
        self.condition_dropout, self.magnitude_power = condition_dropout, magnitude_power
        self.xvector_channels, self.xvector_pool, self.xvector_front = xvector_channels, xvector_pool, xvector_front
        super().__init__(**kwargs)

    @classmethod
    def from_enh_args(cls, enh_args, **rest):
        """Build from the nested `enh_args` of the public checkpoint's config; `rest` are this class's other
        settings.
        """
        return cls(enh_args=enh_args, **rest)
