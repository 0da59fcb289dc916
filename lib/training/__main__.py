"""Train again, or elsewhere, what a run's settings.json says: `python -m lib.training results/runs/NAME/settings.json`.

The same under `torchrun` on several GPUs or machines: each process takes its share of every batch, so that `batch_size`
stays what it was. The file's `notes` say what to train on: pretrained (folder or hub id), dataset (folder), strategy
(as `lib.training.strategies.freeze_as` takes it), equalise where an equaliser was fitted first, and, where only a part
was used, train_items and val_items.
"""

import argparse
import json
import os
from pathlib import Path

from lib import runs
from lib.data.dataset import collate, part
from lib.training import strategies
from lib.training.equaliser import fit_equaliser
from lib.training.fit import fit

NEEDED = ("pretrained", "dataset", "strategy")


def train_as(settings_file, out=None, resume=False, **changes):
    """Train by the file's settings and notes into the folder `out` (default: the file's own). Returns the history.

    changes: settings to use in place of the file's. Raises `RunError`, naming the file, when it does not say what is
    needed.
    """
    from lib.models.convoifilter import ConVoiFilter

    record = runs.read_json(settings_file)
    notes = record.get("notes", {})
    if missing := [name for name in NEEDED if name not in notes]:
        raise runs.RunError(
            f"{settings_file}: its notes do not say {', '.join(missing)}, so this run cannot be made again from the"
            " file alone. Runs of chapter 2 do; others pass them as fit(..., notes=dict(pretrained=..., dataset=...,"
            " strategy=...))."
        )
    place = runs.place(notes["pretrained"])
    model = ConVoiFilter.from_pretrained(place if place.is_dir() else notes["pretrained"])
    folder = runs.place(notes["dataset"])
    train, val = (part(folder, split, notes.get(f"{split.lower()}_items")) for split in ("Train", "Val"))
    model = fit_equaliser(model, train) if notes.get("equalise") else model
    out = Path(out or Path(settings_file).parent)
    if told := notes.get("fresh"):  # new mixtures in each epoch: the voices that the folder was made of
        from lib.data import voices  # these need more than a bare machine has
        from lib.data.fresh import FreshMixtures
        from lib.data.splits import split_by_speaker

        train = FreshMixtures(split_by_speaker(voices.load(**told)), folder, len(train), out / "mixtures.jsonl")
    strategies.freeze_as(model, notes["strategy"])
    settings = {**record["settings"], **changes}
    return fit(model, train, val, out, resume=resume, collate=collate, notes=notes, **settings)


def value(text):
    """What a `name=value` on the command line means: a number where it is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(arguments=None):
    """The command line. One line to the reader from the first process, the history in the run's folder."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.training", description="Train what a run's settings.json says, also under torchrun."
    )
    parser.add_argument("settings", type=Path, help="settings.json of a run")
    parser.add_argument("--out", type=Path, help="folder of the new run; default: that of the file")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in that folder")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings to change, as epochs=20")
    options = parser.parse_args(arguments)
    changes = {name: value(text) for name, _, text in (pair.partition("=") for pair in options.set)}
    try:
        history = train_as(options.settings, options.out, options.resume, **changes)
    except (ValueError, RuntimeError) as error:  # the project's own errors are of these kinds, and say what to do
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    if int(os.environ.get("RANK", 0)) == 0:
        best = history.loc[history["val_loss"].idxmin()]
        print(
            f"best epoch {best.epoch:.0f}: validation loss {best.val_loss:.4f} dB, in"
            f" {options.out or options.settings.parent}/best"
        )


if __name__ == "__main__":
    main()
