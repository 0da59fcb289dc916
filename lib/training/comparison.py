"""Compare freeze strategies: the same start, data, steps and seed for each, and one table (`tables.py` reads it).

Domains: `val` chooses (epochs, and which strategy a reader would take), `test` reports, `source` is the kind of mixture
the starter comes from, so that a loss there shows what fine-tuning forgets. Val and Test people are never trained on.
"""

import contextlib
import re
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from lib import runs
from lib.losses import SILENT_DB
from lib.metrics import bootstrap_interval, people_interval
from lib.runs import place
from lib.training import freezing, strategies
from lib.training.adapters import merge_adapters
from lib.training.equaliser import at_home, fit_equaliser
from lib.training.fit import fit, measure
from lib.training.settings import Settings

BEFORE, EQUALISER, RANDOM = "before fine-tuning", "no training: an equaliser", "from random weights"
STRATEGIES = (*strategies.STRATEGIES, RANDOM)
DOMAINS = ("val", "test", "source")
SOURCE = dict(interferers=(1, 1), sir_db=(-5.0, 5.0), background_share=0.0)  # mixtures as the starter learned from


def source_domain(folder="data/Dataset_source", source="auto", root=None, test=40, val=0):
    """Plain mixtures for the domain `source`: two people at an SIR of -5 to 5 dB, no background, no room, of Test
    people, and of Val people where what is forgotten shall choose something.

    Made in `folder` where they are not there yet. Returns the folder; where no voices can be had, says so and returns
    None.
    """
    from lib.data import mixtures, voices
    from lib.data.splits import split_by_speaker

    try:
        table = split_by_speaker(voices.load(source, root=root))
    except voices.VoicesError as error:
        print(f"No source domain, so what is forgotten is not measured: {error}")
        return None
    with contextlib.redirect_stdout(None):  # what build says of its pools belongs to chapter 1
        mixtures.build(
            table,
            place(folder),
            overwrite=True,
            progress=False,
            train=0,
            val=val,
            test=test,
            seed=1,
            **SOURCE,
        )
    return place(folder)


def before_after(samples, names):
    """A row a domain: mixtures, mean SI-SDRi (dB) of each of two `names`, their difference with its paired 95 %
    interval.

    samples: name -> DataFrame as `score` returns it.
    """
    first, second = (samples[name] for name in names)
    rows = []
    for domain in first["domain"].unique():
        a, b = (
            table[table["domain"] == domain].dropna(subset=["si_sdri"]).sort_values("index")["si_sdri"].to_numpy()
            for table in (first, second)
        )
        difference, low, high = bootstrap_interval(b - a)
        means = {names[0]: a.mean(), names[1]: b.mean()}
        rows.append({"domain": domain, "mixtures": len(a), **means, "difference": difference, "low": low, "high": high})
    return pd.DataFrame(rows)


def score(model, sets, **how):
    """SI-SDRi (dB) of every item of `sets` (domain -> dataset): a DataFrame domain, index, si_sdri; and level_db, where
    somebody who is asked for is silent: then the estimate's level over the mixture's, in place of si_sdri (NaN).

    On `source`, where the model is at home, an equaliser made for a place is off. how: see `training.measure`.
    """
    rows = []
    for domain, data in sets.items():
        with at_home(model) if domain == "source" else contextlib.nullcontext():
            rows.append(measure(model, data, **how).assign(domain=domain))
    return pd.concat(rows, ignore_index=True)


def compare(
    start,
    names,
    train,
    sets,
    out,
    before=None,
    resume=False,
    collate=None,
    say=print,
    seeds=(0,),
    equalise=True,
    people=None,
    equaliser=None,
    **settings,
):
    """Fine-tune `start` by each of `strategies`, once a seed, and measure it. Returns `(table, samples)`.

    start: the model, left as it is. names: of strategies, out of `STRATEGIES`. sets: domain -> dataset, `val` among
    them. before: the start's scores, where `score` has them already. equalise: every strategy trains behind the
    equaliser fitted on `train`, so that it learns what is left to learn; else from `start` alone. equaliser:
    `start` with an equaliser, and its scores, where they are there already. people: who is asked for in each Test
    mixture (a Series over its index), where the interval over people is wanted as well. settings: see
    `training.Settings`. Each strategy is a run in `out`, whose weights are dropped once measured. A `learning_rate`
    of 0 or None is each strategy's own (`lib.training.strategies`). With `resume` those that are done are not done
    again.

    table: a row a strategy, after the model before and the one with an equaliser fitted on `train` behind it:
    strategy, trainable, rate, seconds, memory_mb, best_epoch, and for each domain <domain>_si_sdri with
    <domain>_low and _high (95 % bootstrap over mixtures), <domain>_change against before with its paired interval,
    <domain>_beyond against the equaliser with its paired interval (test_beyond_people_low and _high: people drawn
    anew), <domain>_spread: standard deviation of the mean over seeds, <domain>_silent: the share of mixtures whose
    person is silent to which the answer is (20 dB or more under the mixture), where there are such. samples:
    strategy, seed, domain, index, si_sdri. Both are written to `out` as CSV.
    """
    if unknown := [name for name in names if name not in STRATEGIES]:
        raise freezing.FreezeError(f"unknown strategy {', '.join(unknown)}; known are: {', '.join(STRATEGIES)}")
    how, rows = (
        dict(collate=collate, device=settings.get("device", "auto")),
        [{"strategy": BEFORE, "trainable": 0, "seconds": 0.0}],
    )
    before, started = score(start, sets, **how) if before is None else before, time.perf_counter()
    samples = [before.assign(strategy=BEFORE, seed=seeds[0])]
    filtered, equalised = equaliser or (fit_equaliser(start, train), None)
    seconds = time.perf_counter() - started
    equalised = score(filtered, sets, **how) if equalised is None else equalised
    rows.append({"strategy": EQUALISER, "trainable": 0, "seconds": seconds})
    samples.append(equalised.assign(strategy=EQUALISER, seed=seeds[0]))
    todo = [(name, seed) for seed in seeds for name in names]
    for done, (name, seed) in enumerate(todo, start=1):
        folder = Path(out) / (slug(name) + (f"_seed_{seed}" if seed != seeds[0] else ""))
        asked = {**settings, "seed": seed, "learning_rate": settings.get("learning_rate") or rate_of(name)}
        row, scores = _one(filtered if equalise else start, name, train, sets, folder, resume, how, asked)
        rows.append({**row, "seeds": len(seeds)})
        samples.append(scores.assign(strategy=name, seed=seed))
        left = (time.perf_counter() - started) / done * (len(todo) - done)
        say(
            f"{done} of {len(todo)}  {name}{f', seed {seed}' * (len(seeds) > 1)}: {row['seconds']:.0f} s, "
            f"val {scores[scores['domain'] == 'val']['si_sdri'].mean():.2f} dB"
            + (f", about {left:.0f} s to go" if left else "")
        )
    samples = pd.concat(samples, ignore_index=True)
    means = (
        pd.DataFrame(rows)
        .groupby("strategy", sort=False)
        .mean(numeric_only=True)
        .reset_index()
        .astype({"trainable": int})
    )
    table = pd.DataFrame([{**row, **_summary(samples, row["strategy"], people)} for row in means.to_dict("records")])
    runs.write_text(Path(out) / "strategies.csv", table.to_csv(index=False))
    runs.write_text(Path(out) / "samples.csv", samples.to_csv(index=False))
    return table, samples


def rate_of(name):
    """The learning rate that the strategy `name` stands; a model from random weights takes the highest."""
    return 1e-3 if name == RANDOM else strategies.STRATEGIES[name].rate


def slug(name):
    """A name fit for a folder: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _one(start, name, train, sets, out, resume, how, settings):
    """Train and measure one strategy, or read what an earlier call left of it: (row, scores)."""
    asked = asdict(Settings.of(settings))
    if resume and (out / "scores.csv").is_file() and runs.read_json(out / "settings.json")["settings"] == asked:
        return runs.read_json(out / "row.json"), pd.read_csv(out / "scores.csv")
    model, counts = prepared(start, name, settings.get("seed", 0))
    history = fit(
        model, train, sets["val"], out, resume=resume, collate=how["collate"], notes={"strategy": name}, **settings
    )
    scores = score(merge_adapters(model) if name.startswith("adapters") else model, sets, **how)
    row = {
        "strategy": name,
        "trainable": counts.attrs["trainable"],
        "rate": settings["learning_rate"],
        "seconds": history.attrs["seconds"],
        "memory_mb": history.attrs["peak_memory_mb"],
        "best_epoch": history.attrs["best_epoch"],
    }
    runs.write_json(out / "row.json", row)
    runs.write_text(out / "scores.csv", scores.to_csv(index=False))
    shutil.rmtree(out / "best")
    return row, scores


def prepared(start, name, seed=0):
    """A copy of `start` frozen by the strategy, or a model of its size with random weights; with the table of
    `freeze`.
    """
    torch.manual_seed(seed)
    if name == RANDOM:
        model = type(start)(type(start).config_class(**{**start.config.to_dict(), "equaliser": None}))
        return model, strategies.freeze_as(model, "everything")
    model = type(start)(type(start).config_class(**start.config.to_dict()))
    model.load_state_dict(start.state_dict())
    return model, strategies.freeze_as(model, name)


def _summary(samples, strategy, people=None):
    """The numbers of one row: each mixture counts once, with its mean over seeds."""
    row, by_mixture = {}, samples.groupby(["strategy", "domain", "index"])["si_sdri"].mean().dropna()
    for domain in samples.loc[samples["strategy"] == strategy, "domain"].unique():
        own, before, equalised = (by_mixture[name][domain] for name in (strategy, BEFORE, EQUALISER))
        chosen = samples[(samples["strategy"] == strategy) & (samples["domain"] == domain)]
        row[f"{domain}_spread"] = float(chosen.groupby("seed")["si_sdri"].mean().std())
        for name, values in (("si_sdri", own), ("change", own - before), ("beyond", own - equalised)):
            mean, low, high = bootstrap_interval(values.to_numpy())
            kind = "" if name == "si_sdri" else f"{name}_"
            row |= {f"{domain}_{name}": mean, f"{domain}_{kind}low": low, f"{domain}_{kind}high": high}
            if people is not None and people.nunique() > 1 and domain == "test" and name == "beyond":
                _, low, high = people_interval(values.to_numpy(), people.reindex(values.index).to_numpy())
                row |= {"test_beyond_people_low": low, "test_beyond_people_high": high}
        if "level_db" in chosen and len(levels := chosen["level_db"].dropna()):
            row[f"{domain}_silent"] = float((levels <= SILENT_DB).mean())
    return row
