"""Fine-tuning runs side by side: a grid of optimizers, schedules and batch sizes on one data set, ranked; and what
others saw.
"""

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from lib import runs
from lib.diarization.training import COLUMNS, OPTIMIZERS, Settings, TrainingError, fit

ANNEALED = dict(optimizer="NAdam", cosine=True)
GRIDS = {  # profile of chapter 4 -> its runs
    "default": [dict(optimizer="Adam", cosine=True), ANNEALED, dict(optimizer="NAdam", cosine=False)],
    "one": [ANNEALED],
    "full": [dict(optimizer=name, cosine=cosine) for name in OPTIMIZERS for cosine in (False, True)]
    + [dict(ANNEALED, batch_size=size) for size in (16, 32)],
}


def pairs(profile):
    """The optimizers and schedules that a profile compares, as dicts of settings. Raises `TrainingError`."""
    if profile not in GRIDS:
        raise TrainingError(f"unknown profile {profile!r}; known are: {', '.join(GRIDS)}")
    return GRIDS[profile]


def study(model, root, out, grid, progress=True, **common):
    """Fine-tune `model` once for each settings of `grid` (dicts). Returns (all histories in one table, summary best
    first, best model).

    common: settings that all share. Runs that are already finished in `out` are read, an unfinished one is gone on
    with.
    """
    from tqdm.auto import tqdm

    asked = [replace(Settings.of(common), **settings) for settings in grid]
    histories, summary, best, lowest = [], [], None, float("inf")
    with tqdm(
        total=sum(settings.epochs for settings in asked), desc="fine-tuning", unit="epoch", disable=not progress
    ) as bar:
        for settings in asked:
            bar.set_postfix_str(settings.name())
            folder = Path(out) / f"{settings.name()}_seed{settings.seed}"
            tuned, history = fit(
                model, root, folder, resume=True, each=lambda row: bar.update(row["epoch"] > 0), **asdict(settings)
            )
            row = history.loc[history["DER"].idxmin()]
            histories.append(history.assign(run=settings.name(), seed=settings.seed))
            summary.append(
                {
                    "run": settings.name(),
                    "seed": settings.seed,
                    "best epoch": int(row["epoch"]),
                    "DER before": history["DER"].iloc[0],
                    **{name: row[name] for name in ("DER", "Confusion", "FalseAlarm", "Miss", "Threshold", "loss/val")},
                    "seconds": runs.read_json(folder / "settings.json")["seconds"],
                }
            )
            if row["DER"] < lowest:
                best, lowest = tuned, row["DER"]
    ranked = pd.DataFrame(summary).sort_values("DER", ignore_index=True)
    return pd.concat(histories, ignore_index=True)[["run", "seed", *COLUMNS]], ranked, best


def others():
    """What others saw when they fine-tuned a public segmentation model on Korean conversations with eight settings, in
    our columns (some epochs).
    """
    return pd.read_csv(Path(__file__).with_name("others.csv"))


def beside(ranked):
    """Our ranking over that of the others, best first, in the same columns, the mean where we have several seeds; `DER
    before` is epoch 0.
    """
    theirs = []
    for run, rows in others().groupby("run", sort=False):
        last = rows.loc[rows["DER"].idxmin()]
        theirs.append(
            {
                "whose": "others, Korean",
                "run": run,
                "DER before": rows.loc[rows["epoch"] == 0, "DER"].mean(),  # not noted for all of theirs
                **{name: last[name] for name in ("DER", "Confusion", "FalseAlarm", "Miss", "Threshold", "loss/val")},
            }
        )
    theirs = pd.DataFrame(theirs).sort_values("DER")
    ours = (
        ranked.groupby("run", sort=False)[[name for name in theirs.columns if name not in ("whose", "run")]]
        .mean()
        .reset_index()
    )
    return pd.concat([ours.assign(whose="ours, simulated").sort_values("DER"), theirs], ignore_index=True)[
        theirs.columns
    ]
