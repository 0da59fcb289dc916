"""Checkpoints as others save them: prefixes, wrappers, shards; and those that cannot be used, each with its remedy."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from lib.models.checkpoint import CheckpointError, fill, read_checkpoint, read_weights

STATE = {"enh.weight": torch.ones(2, 3), "enh.bias": torch.zeros(2)}


def equal(found):
    return set(found) == set(STATE) and all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_prefix_that_all_names_share_is_taken_off_and_said(tmp_path, prefix, suffix):
    file, state = tmp_path / f"w.{suffix}", {prefix + name: tensor for name, tensor in STATE.items()}
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    with pytest.warns(UserWarning, match=f"w.{suffix}: all names begin with {prefix}, which is taken off"):
        model = torch.nn.Module()
        model.enh = torch.nn.Linear(3, 2)
        fill(model, read_weights(file), file)
    assert equal(model.state_dict())


@pytest.mark.parametrize("wrap", [("state_dict",), ("model_state_dict",), ("model",), ("model", "state_dict")])
def test_wrappers_are_opened(tmp_path, wrap):
    state = STATE
    for name in reversed(wrap):
        state = {name: state, "epoch": 3, "hyper_parameters": {"lr": 0.1}}
    torch.save(state, tmp_path / "w.ckpt")
    assert equal(read_weights(tmp_path / "w.ckpt"))


def test_sharded_weights_are_read_by_their_index(tmp_path):
    for name, file in zip(STATE, ("a.safetensors", "b.safetensors")):
        save_file({name: STATE[name]}, tmp_path / file)
    index = {"weight_map": dict(zip(STATE, ("a.safetensors", "b.safetensors")))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    assert equal(read_checkpoint(tmp_path)[1])
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match="b.safetensors: not there, though .*index.json names it"):
        read_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no index of weights"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_are_refused(tmp_path, value):
    save_file({**STATE, "enh.bias": torch.tensor([0.0, value])}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="1 tensors hold NaN or infinite weights, such as enh.bias"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "cannot be read as weights"),
        (b"not weights", "cannot be read as weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Run `git lfs pull`"),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_what_is_no_weights_is_named_with_the_remedy(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}: .*{said}"):
        read_weights(tmp_path / name)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match="w.bin: .*a pickle that holds more than tensors"):
        read_weights(tmp_path / "w.bin")
    torch.save([torch.ones(1)], tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match="Give a state dict"):
        read_weights(tmp_path / "w.bin")


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", '"a"', "[" * 100000])
def test_a_config_that_is_none(tmp_path, text):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json: (not a JSON config|holds a)"):
        read_checkpoint(tmp_path)


def test_a_wrapper_that_holds_itself_ends(tmp_path):
    loop = {"x": 1}
    loop["model"] = loop
    torch.save(loop, tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match=r"w\.bin: holds something else"):
        read_weights(tmp_path / "w.bin")


def test_what_pythons_own_pickle_wrote_is_told_how_to_save(tmp_path):
    (tmp_path / "w.bin").write_bytes(pickle.dumps({"x": 1.0}, protocol=4))
    with pytest.raises(CheckpointError, match=r"w\.bin.* Save model\.state_dict\(\) alone"):
        read_weights(tmp_path / "w.bin")
