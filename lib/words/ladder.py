"""The table of recipes: each trained with several seeds, measured on the fixed split, and read in words.

`lib.words.people` measures recipes on everybody in turn.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from lib import runs
from lib.words import scores as word_scores, views
from lib.words.recipes import LADDER, LONGER, MORE, RECIPES, SCRATCH, TRANSFER
from lib.words.training import measure, train_recipe
from lib.words.vocabularies import WordsError


def table_of(names, pools, sets, out, seeds=(0, 1, 2), say=print, **settings):
    """Train recipes with several seeds and measure them; runs that are done in `out` are not done again. Returns
    `(rows, answers, models)`.

    rows: a DataFrame, a row a recipe and seed, kept in `out/rows.csv`. answers: name -> list over seeds of `{set:
    (clips, words)}`.
    """
    if unknown := [name for name in names if name not in RECIPES]:
        raise WordsError(f"unknown recipe {', '.join(unknown)}; known are: {', '.join(RECIPES)}")
    rows, given, models, words = [], {}, {}, pools["train"].words
    for seed in seeds:
        for name in names:
            folder = Path(out) / f"{list(RECIPES).index(name)}_{seed}"
            how = {"progress": "none", **(MORE if name == LONGER else {}), **settings}
            model, history = train_recipe(RECIPES[name], pools, folder, seed, resume=folder.is_dir(), **how)
            scores, answered = measure(model, sets, words)
            rows.append(
                {
                    "recipe": name,
                    "seed": seed,
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "seconds": history.attrs["seconds"],
                    "best_epoch": history.attrs["best_epoch"],
                    "val_loss": history["val_loss"].min(),
                    "temperature": model.temperature,
                    **scores,
                }
            )
            given.setdefault(name, []).append(answered)
            models.setdefault(name, []).append(model)
            found = ", ".join(f"{part} {scores[f'{part}_kl']:.3f}" for part in sets)
            say(
                f"{name}, seed {seed}: KL {found}; best epoch {history.attrs['best_epoch']},"
                f" {history.attrs['seconds']:.0f} s"
            )
            runs.write_text(Path(out) / "rows.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.5f"))
    return pd.DataFrame(rows), given, models


def ladder(rows, given, shares, words, part="test"):
    """One row a recipe: parameters, seeds, scores of `part` averaged over seeds, the KL's interval over words, the
    seeds' spread of it.

    Every network answers at the temperature that Val chose for it; the column is their mean. under_uniform, under_low,
    under_high: how far its KL is under that of the uniform guess on the same clips, as a share of it, and the paired
    interval.

    Where a recipe has several seeds, a row "<recipe>, ensemble of n" follows for the last from scratch and the last
    pretrained one.
    """
    found = []
    for name, own in rows.groupby("recipe", sort=False):
        answers_of = [answered[part] for answered in given[name]]
        found.append(_rung(name, answers_of, shares, words, own))
        if len(own) > 1 and name in (SCRATCH[-1], list(TRANSFER)[-1]):
            together = own.assign(parameters=own["parameters"] * len(own))
            found.append(
                _rung(f"{name}, ensemble of {len(own)}", [np.mean(answers_of, axis=0)], shares, words, together)
            )
    return pd.DataFrame(found)


def _rung(name, answers_of, shares, words, own):
    values = np.mean([word_scores.kl(one, shares) for one in answers_of], axis=0)
    mean, low, high = word_scores.interval(values, shares)
    under = word_scores.gain(values, word_scores.uniform(shares), shares)
    scores = (
        pd.DataFrame([word_scores.summary(one, shares, words) for one in answers_of])
        .drop(columns=["kl", "kl_low", "kl_high"])
        .mean()
    )
    spread = np.std([word_scores.kl(one, shares).mean() for one in answers_of]) if len(answers_of) > 1 else np.nan
    return dict(
        recipe=name,
        parameters=int(own["parameters"].iloc[0]),
        seeds=len(own),
        seconds=own["seconds"].mean(),
        kl=mean,
        kl_low=low,
        kl_high=high,
        under_uniform=under.mean,
        under_low=under.low,
        under_high=under.high,
        seed_spread=spread,
        temperature=own["temperature"].mean(),
        **scores,
    )


def reading(table, uniform):
    """What the rows of a ladder say, as numbered Markdown lines whose numbers come from the table."""
    rows = {row["recipe"]: row for row in table.to_dict("records")}
    first, best = (
        min((rows[name] for name in (SCRATCH[0], LONGER) if name in rows), key=lambda row: row["kl"]),
        min(rows.values(), key=lambda row: row["kl"]),
    )
    lines = [
        (
            f"Uniform guessing costs {uniform:.2f} nats on these clips. The {first['recipe']} reaches {_within(first)}"
            f" on voices it has never heard, {_under(first)} uniform, clip by clip."
        ),
        (
            f"The least is **{best['recipe']}**: {_within(best)}, {1 - best['kl'] / first['kl']:.0%} under"
            f" {'that' if first['recipe'] == LONGER else 'the reproduction'}."
        ),
    ]
    for before, after in itertools.pairwise(SCRATCH):
        if {before, after} <= set(rows):
            change = rows[after]["kl"] - rows[before]["kl"]
            noise = np.nanmax([rows[before]["seed_spread"], rows[after]["seed_spread"], 0.0])
            lines.append(
                f"{after[2:]}: {change:+.2f} nats"
                + (f", within the spread of seeds ({noise:.2f})." if abs(change) < noise else ".")
            )
    scratch, transfers = (
        [rows[name]["kl"] for name in SCRATCH if name in rows],
        [rows[name] for name in TRANSFER if name in rows],
    )
    if transfers:
        told = "; ".join(f"{row['recipe']} {row['kl']:.2f}" for row in transfers)
        lines.append(
            f"What pretraining brought: {told}; the best recipe from scratch with as many clips {min(scratch):.2f}."
        )
    if table["seeds"].max() == 1:
        lines.append(
            "One seed only, so what seeds alone would change is not known: small steps are not ranked by this table."
        )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _under(row):
    return f"{row['under_uniform']:.1%} (95 %: {row['under_low']:.1%} to {row['under_high']:.1%}) under"


def _within(row):
    return f"{row['kl']:.2f} ({row['kl_low']:.2f} to {row['kl_high']:.2f})"


def write_tables(pools, sets, out, seeds=(0, 1, 2), place=runs.ROOT / "results", names=None, **settings):
    """`05_ladder.csv` and its picture in `place`, after every seed that is complete. Returns the table."""
    rows, given = [], {}
    for seed in seeds:
        more, answered, _ = table_of(names or LADDER, pools, sets, out, (seed,), **settings)
        rows.append(more)
        for name, answers in answered.items():
            given.setdefault(name, []).extend(answers)
        shares = sets["test"][1]
        table = ladder(pd.concat(rows), given, shares, pools["train"].words)
        uniform = float(word_scores.uniform(shares).mean())
        runs.write_text(Path(place) / "05_ladder.csv", table.to_csv(index=False, float_format="%.4f"))
        views.ladder(table, uniform).savefig(Path(place) / "05_ladder.png")
    return table
