"""Read a checkpoint strictly: what is missing, unexpected or of another shape is an error that names it."""

import json
from pathlib import Path

import torch

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file or tensor and says what to do."""


def read_checkpoint(path):
    """Return `(config dict, state dict, path of the weights)` from a folder or a Hugging Face hub id.

    Raises `CheckpointError` when a file is missing, is not what its name says, or the hub cannot be reached.
    """
    config_file, weights_file = _find(str(path))
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{config_file}: not a JSON config ({error}). Download it again.") from error
    return config, read_weights(weights_file), weights_file


def _find(path):
    folder = Path(path)
    if folder.is_dir():
        config = folder / "config.json"
        weights = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not config.is_file() or not weights:
            lacking = "config.json" if not config.is_file() else " or ".join(WEIGHTS)
            raise CheckpointError(
                f"{folder}: no {lacking} in this folder. A checkpoint is config.json with {' or '.join(WEIGHTS)}."
            )
        return config, weights[0]
    if folder.exists() or path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise CheckpointError(
            f"{path}: not a folder. Give a folder that holds config.json and the weights, or a hub id like name/model."
        )
    return _find_on_hub(path)


def _find_on_hub(hub_id):
    from transformers.utils.hub import cached_file

    missing_is_none = dict(_raise_exceptions_for_missing_entries=False)
    try:
        config = cached_file(hub_id, "config.json")
        for name in WEIGHTS:
            if weights := cached_file(hub_id, name, **missing_is_none):
                return Path(config), Path(weights)
        raise FileNotFoundError(f"it has none of {', '.join(WEIGHTS)}")
    except Exception as error:  # the hub's client raises many kinds: no network, no such model, no permission
        raise CheckpointError(
            f"{hub_id}: neither a folder here nor to be had from the Hugging Face hub ({type(error).__name__}). "
            "Without a network, put config.json and pytorch_model.bin into a folder and give its path."
        ) from error


def read_weights(file, key=None):
    """The table of tensors in a weight file; `key`: where a pickle holds it beside other things. Raises
    `CheckpointError`, naming the file.
    """
    file = Path(file)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        state = torch.load(str(file), map_location="cpu", weights_only=True)
        state = state[key] if key and isinstance(state, dict) and key in state else state
    except Exception as error:  # a text file, a cut download and a malicious pickle each raise their own kind
        raise CheckpointError(
            f"{file}: cannot be read as weights ({type(error).__name__}: {str(error)[:120]}). Download it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{file}: holds something else than a table of tensors. Give a state dict.")
    return state


def fill(model, state, source):
    """Put `state` into `model`; raises `CheckpointError` that names each missing, unexpected or misshapen tensor."""
    own = model.state_dict()
    wrong = [f"missing {name}" for name in own if name not in state]
    wrong += [f"unexpected {name}" for name in state if name not in own]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, the config says {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(
            f"{source}: does not fit its config: {'; '.join(wrong[:5])}{more}. Is it a checkpoint of another model or"
            " size?"
        )
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()})
