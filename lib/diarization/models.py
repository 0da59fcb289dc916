"""Segmentation models of pyannote.audio: the project's small PyanNet and the public one, what of them trains, and what
augments.

A segmentation model hears a window of a few seconds and says, frame by frame, which of up to three local speakers
talks. Importing this module turns pyannote's usage reports off (nothing is sent anywhere) and makes torchaudio
importable. Audio always goes in as `{"waveform": (1, samples), "sample_rate": 16000}`, read by `lib.audio`, so
torchcodec and FFmpeg's libraries are not needed.
"""

import logging
import os
import warnings
from pathlib import Path

from lib import extras  # lib makes torchaudio importable, which pyannote wants

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "false")
with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchcodec without FFmpeg
    from pyannote.audio import Model
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

import numpy as np
import torch

from lib.data.wheels import WheelError
from lib.diarization import packaged
from lib.diarization.network import Segmenter
from lib.models.checkpoint import fill, read_weights
from lib.runs import place, read_json, write_json
from lib.training import freezing

PUBLIC = "pyannote/segmentation-3.0"  # on the hub, for who has a token
PACKAGED = packaged.NAME  # its predecessor, which needs none
STARTER = "pretrained/diarization"
SR = 16000
SMALL = dict(
    sincnet={"stride": 20}, lstm={"hidden_size": 64, "num_layers": 2}, linear={"hidden_size": 64, "num_layers": 2}
)
WINDOW, LOCAL_SPEAKERS = 5.0, 3  # s a window; people told apart inside it
STRATEGIES = {  # name -> the groups that train; the classifier always does
    "classifier": ("classifier",),
    "linear and classifier": ("linear", "classifier"),
    "LSTM and up": ("lstm", "linear", "classifier"),
    "all but the filters": ("convolutions", "lstm", "linear", "classifier"),
    "everything": ("filters", "convolutions", "lstm", "linear", "classifier"),
}


class ModelError(ValueError):
    """A model cannot be had or used as asked; the message says what to do."""


def new(config=None, window=WINDOW, seed=0):
    """A PyanNet with random weights, its output one independent probability a local speaker: `(batch, frames, 3)`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Segmenter(**(config or SMALL))
        model.specifications = Specifications(
            problem=Problem.MULTI_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=window,
            min_duration=window,
            classes=[f"speaker#{k + 1}" for k in range(LOCAL_SPEAKERS)],
            permutation_invariant=True,
        )
        model.build()
    return model.eval()


def save(model, folder):
    """Write a multi-label PyanNet as config.json and half-precision model.safetensors: no pickle, a few hundred kB."""
    from safetensors.torch import save_file

    folder = Path(folder)
    config = {name: dict(model.hparams[name]) for name in ("sincnet", "lstm", "linear")}
    config["sincnet"].pop("sample_rate", None)
    config["lstm"].pop("batch_first", None)
    write_json(
        folder / "config.json",
        {
            **config,
            "window_seconds": model.specifications.duration,
            "local_speakers": len(model.specifications.classes),
        },
    )
    tensors = {
        name: value.detach().half().contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith(("powerset", "validation_metric"))
    }
    save_file(tensors, folder / "model.safetensors")


def load(source=STARTER, token=None, progress=True):
    """A segmentation model in eval mode: a folder that `save` wrote, pyannote's own (a checkpoint, or a folder of the
    hub with its pytorch_model.bin, which is a pickle: only from people you trust), `PACKAGED`, or a name on the Hugging
    Face hub.

    `PACKAGED` is fetched once (`lib.diarization.packaged`). `pyannote/segmentation-3.0` needs a token of an account
    that has accepted its terms. Without network, or a token, a line says what to do and the starter is used instead.
    """
    source = str(source)
    if source == PACKAGED and not place(source).is_dir():
        return _packaged()
    if (place(source) / "pytorch_model.bin").is_file():
        return Model.from_pretrained(place(source) / "pytorch_model.bin").eval()
    if place(source).is_dir():
        if not (place(source) / "config.json").is_file():
            raise ModelError(
                f"{source}: neither config.json (this project's models) nor pytorch_model.bin (pyannote's) is in there."
            )
        config = read_json(place(source) / "config.json")
        if len(weights := list(place(source).glob("*.safetensors"))) != 1:
            raise ModelError(f"{source}: expected one .safetensors file beside config.json; found {len(weights)}.")
        model = new({name: config[name] for name in ("sincnet", "lstm", "linear")}, config["window_seconds"])
        fill(model, {name: value.float() for name, value in read_weights(weights[0]).items()}, weights[0])
        return model.eval()
    if place(source).is_file():
        return Model.from_pretrained(place(source)).eval()
    if source == STARTER or source.startswith((".", "/")):
        raise ModelError(
            f"{source}: no such folder or checkpoint. `python -m lib.pretraining.diarization OUT` makes a starter."
        )
    return _from_hub(source, token)


def usual():
    """What a name stands for where none is given: `PUBLIC` for who has a token, else `PACKAGED`."""
    return PUBLIC if has_token() else PACKAGED


def has_token():
    """Whether the Hugging Face hub would be asked with a token."""
    from huggingface_hub import get_token

    return bool(get_token())


def _packaged():
    try:
        return load(packaged.folder())
    except (WheelError, OSError) as error:
        print(
            f"{PACKAGED} is not to be had, which needs a network once: {error}. Used instead: the small starter in"
            f" {STARTER}, which knows simulated talk alone."
        )
        return load(STARTER)


def _from_hub(name, token):
    from huggingface_hub import get_token

    try:
        if not (token or get_token()):
            raise ModelError("there is no Hugging Face token")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = Model.from_pretrained(name, token=token or get_token())
        if model is None:
            raise ModelError("the hub did not hand it out")
        return model.eval()
    except Exception as error:  # the hub's client raises a family of its own, and the network another
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        print(
            f"{name} is not to be had: {reason}. To use it, accept its terms on its page on huggingface.co, make an"
            " access token there, and set the environment variable HF_TOKEN (or run `hf auth login`). Used instead:"
            f" the offline starter in {STARTER}."
        )
        return load(STARTER)


class quiet:
    """Lightning's and pyannote's remarks on workers, sizes and hardware are not for the reader of a chapter."""

    def __enter__(self):
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")
        self.loggers = [
            logging.getLogger(name)
            for name in (
                "lightning.pytorch",
                "lightning.fabric",
                "pytorch_lightning",
                "lightning.pytorch.utilities.rank_zero",
            )
        ]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error):
        for logger, level in zip(self.loggers, self.levels):
            logger.setLevel(level)
        self.caught.__exit__(*error)


# --- what trains


def groups_of(model):
    """The parts of a PyanNet by name, in the order of the signal."""
    sincnet = model.sincnet
    groups = {
        "filters": [sincnet.wav_norm1d, sincnet.conv1d[0]],
        "convolutions": [*sincnet.conv1d[1:], sincnet.norm1d],
        "lstm": model.lstm,
    }
    groups |= {"linear": model.linear} if hasattr(model, "linear") else {}
    return groups | {"classifier": model.classifier}


def freeze(model, strategy="all but the filters"):
    """Freeze a PyanNet by one of `STRATEGIES`, first by pyannote's own calls, then so that the modes hold whatever
    calls `train()`.

    pyannote's `freeze_by_name` sets frozen modules to eval mode once, and the next `model.train()` puts them back.
    Returns the table of
    `lib.training.freezing`; its attribute `frozen_by_pyannote` has the names that pyannote's calls gave back. Raises
    `FreezeError`.
    """
    if strategy not in STRATEGIES:
        raise freezing.FreezeError(f"unknown strategy {strategy!r}; known are: {', '.join(STRATEGIES)}")
    if not isinstance(model, PyanNet):
        raise freezing.FreezeError(f"these strategies name the parts of a PyanNet; this is a {type(model).__name__}")
    freezing.thaw(model)
    opened, groups = STRATEGIES[strategy], groups_of(model)
    frozen = model.freeze_by_name([name for name in ("lstm", "linear") if name in groups and name not in opened])
    frozen += model.freeze_by_name("sincnet") if "convolutions" not in opened else []
    table = freezing.freeze_groups(model, groups, [name for name in opened if name in groups])
    table.attrs["frozen_by_pyannote"] = frozen
    return table


# --- augmentation


def augmentation(noise=True, room=True, gain=True, rooms=12, seed=0, chance=0.5):
    """A torch-audiomentations transform for training windows: coloured noise, simulated rooms (pyroomacoustics), gain;
    or None.

    Each is applied to a window with `chance`. Labels stay, because responses begin with the direct sound.
    """
    with extras():
        from torch_audiomentations import AddColoredNoise, ApplyImpulseResponse, Compose, Gain

    class Room(ApplyImpulseResponse):
        """The library's transform with responses in memory instead of files, which it would read by torchcodec."""

        supports_target = True  # a response that begins with the direct sound moves nothing

        def __init__(self, responses, **settings):
            super(ApplyImpulseResponse, self).__init__(**settings)
            self.responses, self.convolve_mode, self.compensate_for_propagation_delay = responses, "full", False

        def randomize_parameters(self, samples=None, sample_rate=None, targets=None, target_rate=None):
            picked = torch.randint(len(self.responses), (len(samples),))
            self.transform_parameters["ir"] = self.responses[picked][:, None]
            self.transform_parameters["ir_paths"] = picked

    common = dict(p=chance, sample_rate=SR, output_type="dict", target_rate=None)
    parts = [Room(responses(rooms, seed), **common)] if room else []
    parts += [AddColoredNoise(min_snr_in_db=3.0, max_snr_in_db=20.0, **common)] if noise else []
    parts += [Gain(min_gain_in_db=-8.0, max_gain_in_db=6.0, **common)] if gain else []
    return Compose(parts, output_type="dict") if parts else None


def responses(count, seed=0, seconds=0.4):
    """Impulse responses of `count` simulated rooms `(count, samples)`, beginning with the direct sound, of equal
    energy.
    """
    from lib.data import rooms

    rng, out = np.random.default_rng(seed), np.zeros((count, int(seconds * SR)), np.float32)
    click = np.zeros(int(seconds * SR) + 1000, np.float32)
    click[0] = 1.0
    for row in out:
        (wet,) = rooms.place([click], rooms.draw(rng, 1), SR)
        first = int(np.argmax(np.abs(wet)))
        row[:] = wet[first : first + len(row)]
        row /= np.sqrt(np.sum(row**2))
    return torch.from_numpy(out)
