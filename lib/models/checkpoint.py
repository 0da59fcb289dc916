"""Read a checkpoint strictly: what is missing, unexpected or of another shape is an error that names it."""

import json
import warnings
from pathlib import Path

import torch

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")  # which file holds which tensor
WEIGHTS = ("model.safetensors", "pytorch_model.bin", *INDICES)
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "weights", "params")
DEEPEST = 8  # wrappers within wrappers; one may hold itself
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # data parallel, torch.compile, Lightning


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file or tensor and says what to do."""


def read_checkpoint(path):
    """Return `(config dict, state dict, path of the weights)` from a folder or a Hugging Face hub id.

    Raises `CheckpointError` when a file is missing, is not what its name says, or the hub cannot be reached.
    """
    config_file, weights_file = _find(str(path))
    try:
        config = json.loads(config_file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{config_file}: not a JSON config ({error}). Download it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{config_file}: holds a {type(config).__name__}, not settings by name. Download it again."
        )
    return config, read_weights(weights_file), weights_file


def _find(path):
    folder = Path(path)
    if folder.is_dir():
        config = folder / "config.json"
        weights = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not config.is_file() or not weights:
            lacking = "config.json" if not config.is_file() else " or ".join(WEIGHTS[:2])
            raise CheckpointError(
                f"{folder}: no {lacking} in this folder. A checkpoint is config.json with {' or '.join(WEIGHTS[:2])}."
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
                if name in INDICES:
                    for shard in set(_index(Path(weights)).values()):
                        cached_file(hub_id, shard)
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
    if file.name.endswith(".index.json"):
        state = {}
        for shard in sorted(set(_index(file).values())):
            if not (file.parent / shard).is_file():
                raise CheckpointError(
                    f"{file.parent / shard}: not there, though {file.name} names it. Download it too."
                )
            state |= read_weights(file.parent / shard, key)
        return state
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file. Check the path, or download it.")
    if file.stat().st_size < 1024 and file.read_bytes().startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file}: a pointer of Git LFS, not the weights. Run `git lfs pull` in its folder.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(str(file))
        else:
            state = torch.load(str(file), map_location="cpu", weights_only=True)
    except Exception as error:  # a text file, a cut download and a malicious pickle each raise their own kind
        if "Unsupported global" in str(error) or "GLOBAL" in str(error) or _plain_pickle(file):
            raise CheckpointError(
                f"{file}: cannot be read as weights: a pickle that holds more than tensors, which could run code. Save"
                " model.state_dict() alone, best as safetensors."
            ) from error
        raise CheckpointError(
            f"{file}: cannot be read as weights ({type(error).__name__}: {str(error)[:120]}). Download it again."
        ) from error
    return _plain(state, file, key)


def _plain_pickle(file):
    """Whether Python's own pickle wrote it, in a protocol that torch.save never takes."""
    with open(file, "rb") as handle:
        return handle.read(2) in (b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _index(file):
    """name of a tensor -> the file that holds it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        if all(isinstance(name, str) for name in found.values()):
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise CheckpointError(f"{file}: no index of weights. Download it again.")


def _plain(state, file, key=None):
    """The table of tensors in what a file held: wrappers opened, NaN refused."""
    for _ in range(DEEPEST):
        if isinstance(state, dict):
            state = next((state[one] for one in (key, *WRAPPERS) if isinstance(state.get(one), dict)), state)
    if not isinstance(state, dict) or not state or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise CheckpointError(f"{file}: holds something else than a table of tensors. Give a state dict.")
    if broken := [name for name, one in state.items() if one.is_floating_point() and not torch.isfinite(one).all()]:
        raise CheckpointError(
            f"{file}: {len(broken)} tensors hold NaN or infinite weights, such as {broken[0]}. The training broke down:"
            " take an earlier checkpoint, or train again with a lower learning rate."
        )
    return state


def _without_prefix(state, own, source):
    """`state` without a prefix that all its names share and the names in `own` do not; said where one is taken off."""
    taken = ""
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in state)), None):
        if all(name.startswith(prefix) for name in own):
            break
        state, taken = {name.removeprefix(prefix): tensor for name, tensor in state.items()}, taken + prefix
    if taken:
        warnings.warn(f"{source}: all names begin with {taken}, which is taken off.", stacklevel=4)
    return state


def fold_adapters(state, scale, source):
    """`state` with its low-rank adapters (peft's names, LoRA) folded into the weights beside them: `scale` times B A is
    added; with scale None they are left away. Without adapters it comes back as it is.
    """
    if not any(".lora_" in name for name in state):
        return state
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, (int, float))):
        raise CheckpointError(
            f"{source}: holds adapters, and its config.json does not say at which scale (adapters, a number: alpha over"
            " rank). Write it there, or give adapters=None to leave them away."
        )
    plain = {name.replace(".base_layer.", "."): one for name, one in state.items() if ".lora_" not in name}
    for name in [name for name in state if name.endswith(".lora_A.default.weight")] if scale is not None else ():
        layer = name.removesuffix(".lora_A.default.weight")
        if (up := state.get(f"{layer}.lora_B.default.weight")) is None or f"{layer}.weight" not in plain:
            raise CheckpointError(f"{source}: an adapter is not whole: {layer}. Download it again.")
        weight, product = plain[f"{layer}.weight"], up.flatten(1).float() @ state[name].flatten(1).float()
        plain[f"{layer}.weight"] = weight + (scale * product).view(weight.shape).to(weight.dtype)
    return plain


def fill(model, state, source):
    """Put `state` into `model`; raises `CheckpointError` that names each missing, unexpected or misshapen tensor."""
    own = model.state_dict()
    state = _without_prefix(state, own, source)
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
