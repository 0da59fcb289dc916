"""Everybody held out in turn: how well networks hear the next person, with an interval over people.

A fold tests on some people, lets others choose epoch and temperature, and teaches with the rest. Weights of a fold are
measured and thrown away: over all folds everybody has taught somewhere, so none of them may be used for anything else.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib import runs
from lib.words import scores
from lib.words.mixtures import Mixtures, Stored
from lib.words.recipes import RECIPES
from lib.words.training import measure, stored, train_head, train_recipe
from lib.words.vocabularies import WordsError

LEAST = 0.5  # of the words that who says most of them says; who says fewer takes no part
FROM_SCRATCH = dict(clips=1024, fixed=6144, epochs=12)  # 12,288 heard, half of them different
MOST = 30  # people; of more, as many spread over their names


class Fold(NamedTuple):
    """Names: who is tested, who chooses epoch and temperature, and who teaches."""

    test: list
    val: list
    train: list


def who(pool, most=MOST):
    """The names of those in `pool` who say enough of its words to take part, `most` of them."""
    said = pd.Series(pool.word).groupby(np.asarray(pool.speaker)).nunique()
    people = sorted(said.index[said >= LEAST * said.max()])
    return [people[k] for k in np.unique(np.linspace(0, len(people) - 1, most).round().astype(int))]


def folds(pool, count=None):
    """`count` `Fold`s (None: one a person) of the people in `pool` who say enough (`who`); each is tested once.

    Who chooses in a fold is tested in the next one. Raises `WordsError` for fewer than three folds.
    """
    people = who(pool)
    count = len(people) if count is None else min(count, len(people))
    if count < 3:
        raise WordsError(
            f"holding people out in turn takes three folds or more; here are {len(people)} people who say enough of the"
            f" {len(pool.words)} words, and {count} folds. Add people, or a shorter list of words."
        )
    groups = [people[k::count] for k in range(count)]
    return [
        Fold(
            groups[k],
            groups[(k + 1) % count],
            [name for name in people if name not in (*groups[k], *groups[(k + 1) % count])],
        )
        for k in range(count)
    ]


def of(pool, names):
    """The recordings of the people `names`."""
    return pool.by(np.isin(pool.speaker, names))


def clips_of(pool, names, count, seed=2):
    """Test clips of each person alone: name -> (clips, shares)."""
    return {name: Mixtures(of(pool, [name]), count, seed=seed).stacked() for name in names}


def rows_of(model, sets, words):
    """A row a person: person, uniform (KL of guessing all words alike), kl and the other scores on their clips."""
    rows = []
    for name, (clips, shares) in sets.items():
        row, _ = measure(model, {"one": (clips, shares)}, words)
        found = {key.removeprefix("one_"): value for key, value in row.items() if not key.endswith(("_low", "_high"))}
        rows.append({"person": name, "uniform": float(scores.uniform(shares).mean()), **found})
    return rows


def from_scratch(name, pools, out, count=None, seed=0, test_clips=100):
    """The recipe `name` trained anew in every fold: a DataFrame, a row a person tested, of what was not done in `out`.

    pools: as for `in_turn`. Every fold hears `FROM_SCRATCH`; all words of a clip are said by one voice.
    """
    found = []
    for number, fold in enumerate(folds(pools["all"], count)):
        run = Path(out) / f"fold_{number}"
        if not (run / "people.csv").is_file():
            own = {
                "train": of(pools["all"], fold.train),
                "varied": of(pools["varied"], fold.train),
                "val": of(pools["all"], fold.val),
            }
            how = dict(progress="none", one_voice=True, resume=run.is_dir(), **FROM_SCRATCH)
            model, history = train_recipe(RECIPES[name], own, run, seed, **how)
            sets, same = clips_of(pools["all"], fold.test, test_clips), facts(model, history, number, fold)
            rows = [{**row, **same} for row in rows_of(model, sets, own["train"].words)]
            runs.write_text(run / "people.csv", pd.DataFrame(rows).to_csv(index=False))
        found.append(pd.read_csv(run / "people.csv"))
    return pd.concat(found, ignore_index=True)


def difference(rows, better, worse):
    """How many nats `better` lies under `worse`, person by person: `Interval` over people, positive where it does."""
    kl = rows.pivot(index="person", columns="recipe", values="kl")
    return scores.over_people(kl[worse] - kl[better])


def in_turn(make, pools, out, count=None, clips=256, val_clips=96, test_clips=100, visits=None, seed=0, **settings):
    """A pretrained encoder's open parts trained in each fold: a DataFrame, a row a person tested, kept in `out`.

    make: seed -> a `TransferWords`. What is frozen in it is computed once a person and serves in all folds, as every
    clip is overlapped by one voice. pools: `all`, the recordings as they are, and `varied`. clips, val_clips,
    test_clips: of each person. visits: of those, heard in an epoch (None: all). What is in `out` is not done again.
    """
    file = Path(out) / "people.csv"
    if file.is_file():
        return pd.read_csv(file)
    plain, varied, net, found = pools["all"], pools["varied"], make(seed), []
    parts = folds(plain, count)
    people = [name for fold in parts for name in fold.test]
    banks = {name: stored(net, Mixtures(of(varied, [name]), clips, seed=100 + seed, shift=0.1)) for name in people}
    held = {name: stored(net, Mixtures(of(plain, [name]), val_clips, seed=1)) for name in people}
    sets = clips_of(plain, people, test_clips)
    for number, fold in enumerate(parts):
        net, train, run = make(seed), joined(banks, fold.train, visits), Path(out) / f"fold_{number}"
        val = joined(held, fold.val)
        history = train_head(net, train, val, run, seed=seed, resume=run.is_dir(), **settings)
        same = facts(net, history, number, fold)
        found += [{**row, **same} for row in rows_of(net, {name: sets[name] for name in fold.test}, plain.words)]
    runs.write_text(file, pd.DataFrame(found).to_csv(index=False))
    return pd.read_csv(file)


def facts(net, history, number, fold):
    """What the rows of a fold share."""
    return dict(
        fold=number,
        parameters=sum(p.numel() for p in net.parameters()),
        taught_by=len(fold.train),
        seconds=history.attrs["seconds"],
        best_epoch=history.attrs["best_epoch"],
        temperature=net.temperature,
    )


def joined(banks, names, visits=None):
    """The stored clips of several people as one data set, in random order. visits: see `Stored`."""
    arrays = {key: np.concatenate([banks[name].arrays[key] for name in names]) for key in ("features", "shares")}
    order = np.random.default_rng(0).permutation(len(arrays["shares"]))
    return Stored(visits, **{key: values[order] for key, values in arrays.items()})
