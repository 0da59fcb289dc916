"""The data and the trainings of `lib.pretraining.place_study`, each made once and read back after."""

import contextlib
from pathlib import Path

import pandas as pd

from lib import runs
from lib.data import mixtures, voices
from lib.data.dataset import collate, part
from lib.data.fresh import FreshMixtures
from lib.data.places import NAMED
from lib.data.splits import split_by_speaker
from lib.models.convoifilter import ConVoiFilter
from lib.training import comparison
from lib.training.adapters import merge_adapters
from lib.training.equaliser import fit_equaliser
from lib.training.fit import fit

SEED = 7  # of the mixtures; chapter 1's is 0
COUNTS = dict(train=450, val=60, test=100)  # mixtures of a place
TRAINED, EPOCHS = 240, 3  # mixtures of an epoch, and epochs, where a part says nothing else
RECIPE = "adapters of rank 8, every projection"  # what chapter 2 trains
BLOCKS = "adapters of rank 8"  # beside attention and feed-forward, `beside = "all"`
ALONE = "adapters of rank 8, attention alone"  # the same with `beside = "attn"`
ATTENTION = "attention of all blocks"
LEVEL = 0.1  # of the term in the loss, where a part says nothing else; the part `losses` has what it brings


class Study:
    """The data and the runs of one study in the folder `out`."""

    def __init__(self, out, pretrained="pretrained/starter", source="auto", root=None, counts=None, **settings):
        self.out, self.start = Path(out), ConVoiFilter.from_pretrained(runs.place(pretrained))
        self.table, self.counts = split_by_speaker(voices.load(source, root=root)), {**COUNTS, **(counts or {})}
        self.settings = {"progress": "none", "level": LEVEL, **settings}

    def data(self, place, split, limit=None):
        """Mixtures of `place`, or of a folder of that name in OUT/data; the source domain is the place `source`: two
        people, no noise, no room.
        """
        folder = self.out / "data" / place
        if place not in ("source", *NAMED):
            return part(folder, split, limit)
        told = {**comparison.SOURCE, "train": 0} if place == "source" else dict(place=place, absent_share=0.2)
        with contextlib.redirect_stdout(None):  # what build says of its pools belongs to chapter 1
            mixtures.build(self.table, folder, progress=False, seed=SEED, **{**self.counts, **told})
        return part(folder, split, limit)

    def sets(self, place="office"):
        """What a run is measured on."""
        found = {"val": self.data(place, "Val"), "test": self.data(place, "Test")}
        return {**found, "source": self.data("source", "Test", 60)}

    def equaliser(self, place="office", amount=TRAINED):
        """The starter with the place's equaliser behind it."""
        return fit_equaliser(self.start, self.data(place, "Train", amount))

    def run(self, strategy, place="office", amount=TRAINED, seed=0, epochs=EPOCHS, val="", fresh=False, **terms):
        """The starter behind the place's equaliser, and the same fine-tuned by `strategy` at its own rate:
        `(before, after, history)`. A finished run is read back.
        val: the place that chooses the epoch, where it is another. fresh: each epoch hears new mixtures of the place,
        made beside the training.
        """
        train, val = self.data(place, "Train", amount), self.data(val or place, "Val")
        new = {"fresh": True} if fresh else {}
        before = self.equaliser(place, amount)
        model, _ = comparison.prepared(before, strategy, seed)
        differs = dict(place=place, amount=amount, seed=seed, epochs=epochs, **terms, **new)
        folder = self.out / "runs" / comparison.slug("_".join([strategy, *map(str, differs.values()), *terms, *new]))
        told = dict(learning_rate=comparison.rate_of(strategy), seed=seed, epochs=epochs, workers=int(fresh))
        history = fit(
            model,
            FreshMixtures(self.table, self.out / "data" / place, amount) if fresh else train,
            val,
            folder,
            resume=True,
            collate=collate,
            notes={"strategy": strategy},
            **{**told, **self.settings, **terms},
        )
        return before, (merge_adapters(model) if strategy.startswith("adapters") else model), history

    def rows(self, name, makers):
        """Write OUT/<name>.csv: for each key of `makers` (a row's first column) the row or rows that its function
        makes.
        """
        path = self.out / f"{name}.csv"
        table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        for key, make in makers.items():
            if len(table) and (table["row"] == key).any():
                continue
            made = make()
            made = pd.DataFrame(made if isinstance(made, list) else [made])
            made.insert(0, "row", key)
            table = pd.concat([table, made], ignore_index=True)
            runs.write_text(path, table.to_csv(index=False, float_format="%.4f"))
            print(made.round(2).to_string(index=False), flush=True)
        return table
