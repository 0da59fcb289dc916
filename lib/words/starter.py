"""The committed words model: read, written, and the pools that the chapter's networks learn from.

`lib.pretraining.words` trained it.
"""

from pathlib import Path

from lib import runs
from lib.models.checkpoint import CheckpointError, fill, read_checkpoint
from lib.words import mixtures, people, recordings
from lib.words.encoder import TransferWords, speech_embedding
from lib.words.net import Ensemble

PLACE = runs.ROOT / "pretrained" / "words"


def pools_of(table, variants=12):
    """The pools that `train_recipe` takes, by split, with the varied Train pool."""
    found = {
        "train": recordings.pool(table, "Train"),
        "val": recordings.pool(table, "Val"),
        "test": recordings.pool(table, "Test"),
    }
    return {**found, "varied": found["train"].varied(variants)}


def pools_of_everyone(table, variants=4):
    """`all`, the recordings of those who take part in `lib.words.people` whatever their split, and `varied`, the same
    with variants.
    """
    everyone = recordings.pool(table)
    everyone = people.of(everyone, people.who(everyone))
    return {"all": everyone, "varied": everyone.varied(variants)}


def test_clips(pools, count=600, seed=2):
    """Clips and shares of the unseen voices: `{"val": ..., "test": ...}`, always the same."""
    return {part: mixtures.Mixtures(pools[part], count, seed=seed).stacked() for part in ("val", "test")}


def save(members, names, folder, temperature=1.0):
    """Only what was trained, in half precision: the frozen stages come from the package each time. `config.json` and
    `model.safetensors`.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{k}.{name}": value.half() if value.is_floating_point() else value
        for k, net in enumerate(members)
        for name, value in net.state_dict().items()
        if _is_new(net, name)
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    runs.write_json(
        folder / "config.json",
        dict(members=len(members), temperature=temperature, word_list=list(names), **members[0].settings),
    )


def _is_new(net, name):
    return not name.startswith("prepare.") and not any(
        name.startswith(f"stages.{stage}.") for stage in net.stages if stage not in net.open_stages
    )


def load(folder=PLACE):
    """`(ensemble, words)` of a folder that `save` wrote. Raises `CheckpointError`, `BackboneError`."""
    config, state, file = read_checkpoint(folder)
    if not {"members", "word_list", "open", "width"} <= set(config):
        raise CheckpointError(
            f"{folder}: config.json is not of a words model; expected members, word_list, open and width."
        )
    nets = []
    for k in range(config["members"]):
        net = TransferWords(speech_embedding(), len(config["word_list"]), config["open"], config["width"])
        own = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith(f"{k}.")}
        kept = {name: value for name, value in net.state_dict().items() if not _is_new(net, name)}
        fill(net, {**kept, **own}, file)
        nets.append(net.eval())
    return Ensemble(nets, config["temperature"]).eval(), config["word_list"]


def for_words(names, trained, folder=PLACE):
    """The model in `folder` where it knows just the words `names`; else `trained`, as an ensemble of one, which is
    said.
    """
    file = Path(folder) / "config.json"
    if file.is_file() and runs.read_json(file).get("word_list") == list(names):
        return load(folder)[0]
    print(f"{Path(folder).name}: no model of these {len(names)} words there, so what was trained here takes its place.")
    return Ensemble([trained]).eval()
