"""The committed words model: an ensemble of pretrained encoders with their last blocks opened, trained longer than a chapter may take.

    python -m lib.word_pretraining OUT              trains the members in OUT (goes on after an interruption), measures, writes OUT/words
    python -m lib.word_pretraining OUT --tables     trains the chapter's table of recipes in OUT, writes results/05_ladder.csv and .png
"""
import argparse
from pathlib import Path

import pandas as pd
import torch

from lib import freezing, runs, training, word_scores
from lib import word_training as teach
from lib.data import word_mixtures, words
from lib.models.checkpoint import CheckpointError, fill, read_checkpoint
from lib.models.word_encoder import TransferWords, speech_embedding
from lib.models.word_net import Averaged, Ensemble

PLACE = runs.ROOT / "pretrained" / "words"
MEMBERS, BANK, EPOCHS = 3, 6144, 6
TRACT = 1.18  # the last member hears resonances moved apart from the pitch too, so that it errs differently


def pools_of(table, variants=12):
    """The pools that `train_recipe` takes, by split, with the varied Train pool."""
    found = {"train": words.pool(table, "Train"), "val": words.pool(table, "Val"), "test": words.pool(table, "Test")}
    return {**found, "varied": found["train"].varied(variants)}


def test_clips(pools, count=600, seed=2):
    """Clips and shares of the unseen voices: `{"val": ..., "test": ...}`, always the same."""
    return {part: word_mixtures.Mixtures(pools[part], count, seed=seed).stacked() for part in ("val", "test")}


def member(pools, out, seed=0, bank=BANK, epochs=EPOCHS, resume=True, **settings):
    """One encoder with its last two blocks and a new head trained on a bank of `bank` clips; what is frozen is computed once a clip."""
    torch.manual_seed(seed)
    net = TransferWords(speech_embedding(), len(pools["train"].words), open=3, mixup=0.3)
    freezing.freeze_groups(net, net.groups(), net.opened())
    model = Averaged(net, 0.995)
    train = teach.stored(net, word_mixtures.Mixtures(pools["varied"], bank, seed=100 + seed, shift=0.1))
    val = teach.stored(net, word_mixtures.Mixtures(pools["val"], 512, seed=1))
    how = dict(epochs=epochs, batch_size=32, learning_rate=2e-3, optimizer="NAdam", patience=0, seed=seed, progress="none") | settings
    history = training.fit(model, train, val, out, resume=resume and Path(out).is_dir(), score=teach.loudest_score,
                           notes={"words": pools["train"].words}, **how)
    return model.mean.eval(), history


def save(members, names, folder, temperature=1.0):
    """Only what was trained, in half precision: the frozen stages come from the package each time. `config.json` and `model.safetensors`."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{k}.{name}": value.half() if value.is_floating_point() else value for k, net in enumerate(members)
               for name, value in net.state_dict().items() if _is_new(net, name)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    runs.write_json(folder / "config.json", dict(members=len(members), temperature=temperature, word_list=list(names), **members[0].settings))


def _is_new(net, name):
    return not name.startswith("prepare.") and not any(name.startswith(f"stages.{stage}.") for stage in net.stages if stage not in net.open_stages)


def load(folder=PLACE):
    """`(ensemble, words)` of a folder that `save` wrote. Raises `CheckpointError`, `BackboneError`."""
    config, state, file = read_checkpoint(folder)
    if not {"members", "word_list", "open", "width"} <= set(config):
        raise CheckpointError(f"{folder}: config.json is not of a words model; expected members, word_list, open and width.")
    nets = []
    for k in range(config["members"]):
        net = TransferWords(speech_embedding(), len(config["word_list"]), config["open"], config["width"])
        own = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith(f"{k}.")}
        kept = {name: value for name, value in net.state_dict().items() if not _is_new(net, name)}
        fill(net, {**kept, **own}, file)
        nets.append(net.eval())
    return Ensemble(nets, config["temperature"]).eval(), config["word_list"]


def for_words(names, trained, folder=PLACE):
    """The model in `folder` where it knows just the words `names`; else `trained`, as an ensemble of one, which is said."""
    file = Path(folder) / "config.json"
    if file.is_file() and runs.read_json(file).get("word_list") == list(names):
        return load(folder)[0]
    print(f"{Path(folder).name}: no model of these {len(names)} words there, so what was trained here takes its place.")
    return Ensemble([trained]).eval()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    pools = pools_of(words.load(), 24)
    sets, names = test_clips(pools), pools["train"].words
    if asked.tables:
        write_tables(pools, sets, asked.out, asked.seeds)
        return
    members, rows, others = [], [], {**pools, "varied": pools["train"].varied(24, tract=TRACT, seed=1)}
    for seed in range(MEMBERS):
        net, history = member(pools if 2 * seed < MEMBERS else others, asked.out / f"member_{seed}", seed)
        members.append(net)
        rows.append({"model": f"member {seed}", "epoch": history.attrs["best_epoch"], **teach.measure(net, sets, names)[0]})
        print(rows[-1], flush=True)
    row, given = teach.measure(Ensemble(members), sets, names)
    temperature = word_scores.best_temperature(given["val"], sets["val"][1])
    cooled, _ = teach.measure(Ensemble(members, temperature), sets, names)
    rows += [{"model": f"ensemble of {MEMBERS}", **row}, {"model": f"ensemble, temperature {temperature:.2f} (by Val)", **cooled}]
    print(pd.DataFrame(rows).T.to_string())
    save(members, names, asked.out / "words", temperature)
    runs.write_text(asked.out / "scores.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.4f"))


def write_tables(pools, sets, out, seeds=(0, 1, 2), place=runs.ROOT / "results", names=None, **settings):
    """`05_ladder.csv` and its picture in `place`, after every seed that is complete. Returns the table."""
    from lib import word_views

    rows, given = [], {}
    for seed in seeds:
        more, answered, _ = teach.table_of(names or teach.LADDER, pools, sets, out, (seed,), **settings)
        rows.append(more)
        for name, answers in answered.items():
            given.setdefault(name, []).extend(answers)
        shares = sets["test"][1]
        table = teach.ladder(pd.concat(rows), given, shares, pools["train"].words)
        uniform = float(word_scores.uniform(shares).mean())
        runs.write_text(Path(place) / "05_ladder.csv", table.to_csv(index=False, float_format="%.4f"))
        word_views.ladder(table, uniform).savefig(Path(place) / "05_ladder.png")
    return table


if __name__ == "__main__":
    main()
