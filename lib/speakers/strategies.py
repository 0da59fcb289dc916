"""Freeze strategies for recognising people, compared in one table: what trains, how long it takes, what it reaches on
unseen recordings.

Everything is trained by `lib.training.fit`; clips are as `lib.speakers.clips` makes them.
"""

import copy
import itertools
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import backbones, runs
from lib.speakers import transfer
from lib.speakers.training import by_person, features, labels_of
from lib.training import freezing
from lib.training.fit import fit, measure

STRATEGIES = {
    "head only": 0,
    "last block": 1,
    "last two": 2,
    "everything": None,
}  # how many of the last blocks train, None: all
FROM_RANDOM = "everything, random weights"


def table_of(
    backbone, control, clips, people, settings, strategies=(*STRATEGIES, FROM_RANDOM), seeds=(0, 1, 2), folder=None
):
    """Rows as `train_strategy` gives them for all strategies and seeds; a line is printed for each.

    control: the same network from random weights. settings: strategy -> settings for `fit`. folder: where each finished
    row is kept as
    a file, so that an interrupted table goes on with the next; rows of other clips, weights or settings are made anew.
    """
    rows = []
    for strategy in strategies:
        start, name = (control, "everything") if strategy == FROM_RANDOM else (backbone, strategy)
        for seed in seeds:
            made_of = dict(
                clips=zlib.crc32(clips.waves.tobytes()),
                weights=runs.fingerprint(start),
                seed=seed,
                **settings[strategy],
            )
            file = Path(folder) / f"{strategy}, seed {seed}.json".replace(" ", "_") if folder else None
            row = _kept(file, made_of)
            if row is None:
                with tempfile.TemporaryDirectory() as run:
                    row = train_strategy(
                        start, clips, people, name, Path(run) / "run", seed=seed, progress="none", **settings[strategy]
                    )
                _keep(file, made_of, row)
            rows.append({**row, "strategy": strategy})
            print(
                f"{strategy}, seed {seed}: {row['accuracy']:.1%} of {row['test_clips']} clips,"
                f" {row['core_seconds']:.0f} s of a core",
                flush=True,
            )
    return rows


def _kept(file, made_of):
    """The row in `file` if it was made of just that, else None."""
    found = runs.read_json(file) if file and file.is_file() else {}
    return {**found["row"], "right": np.array(found["row"]["right"])} if found.get("made_of") == made_of else None


def _keep(file, made_of, row):
    if file:
        runs.write_json(file, {"made_of": made_of, "row": {**row, "right": row["right"].tolist()}})


class Items(torch.utils.data.Dataset):
    """Inputs of a `SpeakerNet` with their labels, as `lib.training.fit` takes them."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        return {"inputs": self.inputs[place], "label": self.labels[place]}


def accuracy(output, batch):
    """The score that `fit` and `measure` report: 1 where a clip is named right."""
    return {"accuracy": (output.logits.argmax(1) == batch["label"]).float()}


def opened(net, blocks):
    """The groups of a whole `net` that train when its last `blocks` blocks do (None: all): those, what follows them,
    and the head.
    """
    names = list(net.groups())
    if blocks is None:
        return names
    inner = [name for name in names if name.startswith("block")]
    return ["head"] if not blocks else names[names.index(inner[-blocks]) :]


def train_strategy(
    backbone,
    clips,
    people,
    strategy,
    out,
    seed=0,
    epochs=10,
    learning_rate=1e-3,
    rate_decay=0.5,
    batch_size=16,
    **settings,
):
    """One strategy of `STRATEGIES` trained by `lib.training.fit` in the folder `out`. Returns a dict: a row of the
    table.

    Stages below the open ones are frozen in eval mode, so what they give never changes: it is computed once
    (`features`) and training
    starts behind them. The weights with the least loss on the Val clips are tested. `backbone` itself is left as it
    was.
    """
    own = copy.deepcopy(backbone)
    whole = transfer.SpeakerNet(own, len(people), rate_decay=rate_decay)
    counts = freezing.freeze_groups(whole, whole.groups(), opened(whole, STRATEGIES[strategy]))
    names, first = list(own.stages), opened(whole, STRATEGIES[strategy])[0]
    after = names[-1] if first == "head" else ([None, *names])[names.index(first)]
    inputs = (
        own.prepare(torch.from_numpy(clips.waves))
        if after is None
        else features(own, clips.waves, None if after == names[-1] else after)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = transfer.SpeakerNet(own, len(people), after=after, rate_decay=rate_decay)
    freezing.thaw(net)
    labels, part = labels_of(clips.table, people), clips.table["part"].to_numpy()
    sets = {name: Items(inputs[part == name], labels[part == name]) for name in ("Train", "Val", "Test")}
    _meet(net, sets["Train"].inputs)
    with torch.inference_mode():
        net.head.fit_scale(_upper(net.eval(), sets["Train"].inputs))
    started = time.process_time()  # not the clock: that would count whatever else the machine does
    history = fit(
        net,
        sets["Train"],
        sets["Val"],
        out,
        score=accuracy,
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        optimizer="Adam",
        patience=0,
        **settings,
    )
    seconds = time.process_time() - started
    test = measure(net, sets["Test"], score=accuracy, batch_size=32)["accuracy"].to_numpy()
    return {
        "backbone": own.name,
        "strategy": strategy,
        "seed": seed,
        "trainable": int(counts["trainable"].sum()),
        "core_seconds": seconds,
        "epochs": epochs,
        "best_epoch": history.attrs["best_epoch"],
        "train_clips": len(sets["Train"]),
        "test_clips": len(test),
        "people": len(people),
        "accuracy": float(test.mean()),
        "right": test,
    }


def _meet(net, inputs, momentum=0.1):
    """Give the open BatchNorms the statistics of `inputs` before training starts, and a momentum for tens of steps.

    Those of ImageNet do not fit log-mel images, and those of random weights fit nothing: features that train mode then
    makes would be
    thousands of times the scale that the head was fitted to. ImageNet's momentum of 0.01 is for thousands of steps.
    """
    norms = [module for module in net.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of what follows
    if norms:
        with torch.no_grad():
            _upper(net.train(), inputs)
    for norm in norms:
        norm.momentum = momentum


def _upper(net, inputs, batch=32):
    return torch.cat([backbones.run(net.stages.values(), part) for part in inputs.split(batch)])


def summarise(rows, speakers):
    """A row a strategy: trainable, core_seconds (of training, all cores added), accuracy over seeds with its interval
    over people.

    seed_spread: standard deviation over seeds. best_epoch: the mean over seeds of the pass whose weights were tested.
    """
    table = []
    for strategy, part in pd.DataFrame(rows).groupby("strategy", sort=False):
        mean, low, high = by_person(np.mean(list(part["right"]), axis=0), speakers)
        table.append(
            {
                "strategy": strategy,
                "trainable": int(part["trainable"].iloc[0]),
                "core_seconds": part["core_seconds"].mean(),
                "accuracy": mean,
                "low": low,
                "high": high,
                "seed_spread": part["accuracy"].std(ddof=0),
                "seeds": len(part),
                "epochs": int(part["epochs"].iloc[0]),
                "best_epoch": part["best_epoch"].mean(),
                "train_clips": int(part["train_clips"].iloc[0]),
            }
        )
    return pd.DataFrame(table)


def reading(table, chance):
    """The numbered reading of a table of strategies, written by its numbers."""
    rows = {row["strategy"]: row for row in table.to_dict("records")}
    best, head = max(rows.values(), key=lambda row: row["accuracy"]), rows.get("head only")
    lines = [
        f"Chance is {chance:.1%}. The highest row is **{best['strategy']}**: {_percent(best)}, {best['trainable']:,}"
        f" trainable parameters, {best['core_seconds']:.0f} s of a core."
    ]
    if head and best is not head:
        overlap = "overlap, so the order is not certain" if head["high"] > best["low"] else "do not overlap"
        lines.append(
            f"**head only** reaches {_percent(head)} with {head['trainable']:,} parameters in"
            f" {head['core_seconds']:.0f} s: {100 * (best['accuracy'] - head['accuracy']):.1f} points less; the"
            f" intervals {overlap}."
        )
    steps = [rows[name] for name in ("head only", "last block", "last two") if name in rows]
    for lower, upper in itertools.pairwise(steps):
        lines.append(
            f"Opening **{upper['strategy']}** instead of {lower['strategy']} changes accuracy by"
            f" {100 * (upper['accuracy'] - lower['accuracy']):+.1f} points and the time by"
            f" {upper['core_seconds'] - lower['core_seconds']:+.0f} s."
        )
    if {"everything", FROM_RANDOM} <= set(rows):
        full, none = rows["everything"], rows[FROM_RANDOM]
        lines.append(
            f"**everything** from pretrained weights reaches {full['accuracy']:.1%}, the same network from random"
            f" weights {none['accuracy']:.1%} after the same {full['epochs']} epochs: what pretraining on pictures is"
            " worth here."
        )
    unfinished = [name for name, row in rows.items() if row["best_epoch"] > row["epochs"] - 1]
    if unfinished:
        lines.append(
            "The budget ended while these still improved on Val, so more passes may help them:"
            f" {', '.join(unfinished)}."
        )
    untaught = [name for name, row in rows.items() if row["best_epoch"] < 1]
    if untaught:
        lines.append(
            f"{', '.join(untaught)}: on Val no pass beat the weights from before training (for most seeds), so those"
            " were tested."
        )
    spread = max(rows.values(), key=lambda row: row["seed_spread"])
    lines.append(
        f"Seeds move a row by up to {100 * spread['seed_spread']:.1f} points ({spread['strategy']}, standard deviation"
        f" of {spread['seeds']}); people move it more: the widest interval over people is"
        f" {100 * max(row['high'] - row['low'] for row in rows.values()):.0f} points."
    )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _percent(row):
    return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
