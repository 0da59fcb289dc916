"""How to train: the settings, their errors, and what `auto` means on this machine."""

import inspect
from dataclasses import dataclass, fields

import torch

from lib.models.precision import bf16_is_faster

CHOICES = {
    "optimizer": ("Adam", "AdamW", "RAdam", "NAdam"),
    "scheduler": ("cosine", "constant", "plateau"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "report_to": ("none", "mlflow", "tensorboard"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "progress": ("auto", "none"),
    "resident": ("auto", "on", "off"),
    "graphs": ("auto", "compile", "off"),
}
MAY_DIFFER = (
    "cache_gb",
    "workers",
    "report_to",
    "progress",
    "resident",
)  # settings that a resumed run may change: they do not touch the numbers


class SettingsError(ValueError):
    """A setting that does not exist or cannot be; the message lists what can."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where, and what to try."""


@dataclass
class Settings:
    """How to train. An epoch is one pass over the training data; a step is one batch."""

    epochs: int = 10
    batch_size: int = 4  # items a step, over all processes together
    learning_rate: float = 1e-4
    optimizer: str = "AdamW"  # Adam, AdamW, RAdam, NAdam
    # cosine: falls to 0 over all epochs; constant; plateau: halved when validation stands still for 2 epochs
    scheduler: str = "cosine"
    warmup_steps: int = 0  # steps over which the learning rate rises from 0; for cosine and constant
    weight_decay: float = 0.0  # not on biases and norms
    patience: int = 5  # epochs without a better validation loss after which to stop; 0 never stops early
    grad_clip: float = 5.0  # L2 norm of the whole gradient; 0 does not clip
    spectral: float = 0.0  # weight of `lib.losses.spectral_distance` beside the model's own loss in dB; 0: that alone
    perceptual: float = 0.0  # weight of `lib.losses.perceptual.perceptual_distance` beside it: what PESQ hears
    level: float = 0.0  # weight of `lib.losses.level_deviation` (dB) beside it; 0: a whisper costs nothing
    precision: str = "auto"  # fp32, bf16 or fp16 autocast; auto: bf16 where the GPU or CPU is faster with it, else fp32
    seed: int = 0
    # disk for what frozen parts before the first trainable one say of the data (`lib.training.prefix`); 0: compute it
    # each step
    cache_gb: float = 4.0
    resident: str = (
        "auto"  # data that stays on the device (`lib.training.resident`): auto: on a GPU where it fits; on, off
    )
    # a step as one CUDA graph (`lib.training.replay`): auto: on a GPU where it can be; compile: the blocks are compiled
    # first, which takes a minute or two and is for long runs; off
    graphs: str = "auto"
    workers: int = 0  # processes that load data which is not resident
    report_to: str = "none"  # none, mlflow, tensorboard
    device: str = "auto"  # auto: the GPU where there is one; cpu, cuda, mps
    progress: str = "auto"  # auto: a live curve in a notebook, a bar on a terminal, a line an epoch elsewhere; none

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SettingsError(f"unknown {name} {getattr(self, name)!r}; known are: {', '.join(known)}")
        for name, least in dict(epochs=1, batch_size=1, warmup_steps=0, patience=0, seed=0, workers=0).items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingsError(f"{name} is {value!r}; give a whole number from {least} on")
        for name in ("learning_rate", "weight_decay", "grad_clip", "spectral", "perceptual", "level", "cache_gb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise SettingsError(f"{name} is {value!r}; give a number from 0 on")
        if self.scheduler == "plateau" and self.warmup_steps:
            raise SettingsError(
                "warmup_steps works with the schedulers cosine and constant, not with plateau; set it to 0"
            )

    @classmethod
    def of(cls, settings):
        """Settings from a dict. An unknown name is a `SettingsError` that lists the known ones."""
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise SettingsError(f"unknown setting {', '.join(unknown)}; known are: {', '.join(known)}")
        return cls(**settings)


def accepted_by(model):
    """The names that the model's `forward` takes."""
    return set(inspect.signature(type(model).forward).parameters) - {"self"}


def pick_device(device):
    """ "auto", "cpu", "cuda" or "mps" -> torch.device;

    `SettingsError` where this machine has none of the kind asked for.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(name for name in there if there[name]) if device == "auto" else device
    if not there[name]:
        raise SettingsError(
            f"device {name!r} is not there; this machine has: {', '.join(kind for kind in there if there[kind])}"
        )
    return torch.device(name)


def pick_precision(precision, device):
    """What "auto" means on `device`:

    bf16 where the hardware is faster with it (2 to 2.4 times where it has units for that), else fp32.
    """
    if precision == "fp16" and device.type == "cpu":
        raise SettingsError("precision 'fp16' needs a GPU; on a CPU use auto, fp32 or bf16")
    if precision != "auto":
        return precision
    return "bf16" if bf16_is_faster(device) else "fp32"
