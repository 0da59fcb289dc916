"""Recipes for overlapped words, from the earlier solution to the better network, each trained by `lib.training.fit` and
measured alike.

A recipe is a dict; `RECIPES` adds one idea after the other, so that a table of them says what each brought.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import runs
from lib.training import freezing
from lib.training.fit import fit
from lib.training.settings import pick_precision
from lib.words import scores as word_scores
from lib.words.cnn import WordCNN, kl
from lib.words.encoder import TransferWords, speech_embedding
from lib.words.mixtures import Mixtures, Stored
from lib.words.net import Averaged, WordNet
from lib.words.sources import WordsError

FIRST = dict(
    net="cnn",
    fresh=False,
    shift=0.0,
    varied=False,
    ffts=(512,),
    spec_augment=False,
    mixup=0.0,
    dropout=0.0,
    optimizer="Adam",
    learning_rate=1e-3,
    batch_size=256,
    averaged=False,
)
ALL = dict(
    fresh=True,
    shift=0.1,
    varied=True,
    spec_augment=True,
    mixup=0.3,
    dropout=0.3,
    optimizer="NAdam",
    learning_rate=2e-3,
    batch_size=32,
    averaged=True,
)
STEPS = [  # name -> what changes against the row above
    ("reproduction", {}),
    ("+ new clips every epoch, time shift, batch 32", dict(fresh=True, shift=0.1, batch_size=32)),
    ("+ speed and pitch", dict(varied=True)),
    ("+ residual network", dict(net="residual")),
    ("+ four mel resolutions", dict(ffts=(256, 512, 1024, 2048))),
    ("+ SpecAugment, mixup", dict(spec_augment=True, mixup=0.3)),
    ("+ dropout, NAdam, averaged weights", ALL),
]
TRANSFER = {  # name -> how many of the last stages of the pretrained encoder train (None: all)
    "pretrained encoder, head only": 0,
    "pretrained encoder, last block open": 2,
    "pretrained encoder, last two blocks open": 3,
}
RANDOM = "the same encoder, random weights, all open"
LONGER = (  # 40,960 heard, 12,288 different ones, where every other recipe hears 6,144
    "reproduction, 6.7 times the clips"
)
MORE = dict(clips=2048, fixed=12288, epochs=20)


def _recipes():
    found, recipe = {}, dict(FIRST)
    for name, change in STEPS:
        recipe = {**recipe, **change}
        found[name] = recipe
    for name, blocks in TRANSFER.items():
        found[name] = {**recipe, "net": "pretrained", "open": blocks, "spec_augment": False}
    longer = {**FIRST, "scheduler": "constant", "calibrated": True}
    return {**found, RANDOM: {**recipe, "net": "random", "open": None, "spec_augment": False}, LONGER: longer}


RECIPES = _recipes()
SCRATCH = [name for name, _ in STEPS]
LADDER = [SCRATCH[0], LONGER, *SCRATCH[1:], *TRANSFER]


def build(recipe, words, seed=0):
    """The network of a recipe, its new weights by `seed`, frozen where the recipe says so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe["net"] == "cnn":
            net = WordCNN(words)
        elif recipe["net"] == "residual":
            net = WordNet(
                words,
                recipe["ffts"],
                spec_augment=recipe["spec_augment"],
                mixup=recipe["mixup"],
                dropout=recipe["dropout"],
            )
        else:
            rates = dict(stage_rate=1.0, rate_decay=1.0) if recipe["net"] == "random" else {}
            net = TransferWords(
                speech_embedding(recipe["net"], seed), words, recipe["open"], mixup=recipe["mixup"], **rates
            )
            freezing.freeze_groups(net, net.groups(), net.opened())
        return Averaged(net) if recipe["averaged"] else net


def train_recipe(
    recipe, pools, out, seed=0, clips=512, epochs=12, fixed=4096, val_clips=256, patience=0, resume=False, **settings
):
    """One recipe trained in the folder `out`. Returns `(network, history)`; the network holds the epoch with the least
    KL on Val.

    pools: `train`, `varied` and `val` (see `lib.words.sources.pool`). clips: heard in one epoch, the same for every
    recipe; one that does not draw new clips goes round through `fixed` of them. Val clips are the same for all, and
    choose a temperature for each network. A recipe that is `calibrated` has its epoch chosen by the KL at each epoch's
    own temperature.
    """
    own = pools["varied" if recipe["varied"] else "train"]
    data = Mixtures(
        own, clips if recipe["fresh"] else fixed, seed=1000 + seed, fresh=recipe["fresh"], shift=recipe["shift"]
    )
    model = build(recipe, len(own.words), seed)
    inner = model.net if isinstance(model, Averaged) else model
    answering = model.mean if isinstance(model, Averaged) else model
    val = stored(inner, Mixtures(pools["val"], val_clips, seed=1))
    model = Calibrated(inner, val) if recipe.get("calibrated") else model
    train = data if recipe["fresh"] else stored(inner, data, visits=min(clips, fixed))
    how = {
        name: recipe[name] for name in ("batch_size", "learning_rate", "optimizer", "scheduler") if name in recipe
    } | settings
    history = fit(
        model,
        train,
        val,
        out,
        resume=resume,
        score=_scores_of(model),
        notes={"recipe": recipe, "words": own.words},
        seed=seed,
        epochs=epochs,
        patience=patience,
        **how,
    )
    calibrate(answering.eval(), val)
    return answering, history


@torch.no_grad()
def calibrate(net, held):
    """Set the temperature of `net` to the one with the least KL on the stored clips `held`; returns it."""
    net.temperature = 1.0
    features, shares = held.arrays["features"], held.arrays["shares"]
    with autocast():
        logs = [
            net(features=torch.from_numpy(features[k : k + 128]).float()).log_shares
            for k in range(0, len(features), 128)
        ]
    net.temperature = word_scores.best_temperature(torch.cat(logs).double().exp().numpy(), shares)
    return net.temperature


class Calibrated(torch.nn.Module):
    """Trains `net` as it is, and whenever training pauses finds the temperature for `held`: so `fit` keeps the epoch
    that is best *with* it.

    A network that fits few recordings is soon far too sure on a new voice, so that by the plain KL no epoch beats the
    uniform guess.
    """

    def __init__(self, net, held):
        super().__init__()
        self.net, self.held = net, held

    def train(self, mode=True):
        super().train(mode)
        if not mode:
            calibrate(self.net, self.held)
        return self

    def forward(self, clip=None, features=None, shares=None):
        return self.net(clip=clip, features=features, shares=shares)


def _scores_of(model):
    """`loudest_score`, and of a `Calibrated` network the KL that its answers would cost as they are, `as_is`."""

    def scores(output, batch):
        plain = torch.log_softmax(output.log_shares * model.net.temperature, -1)
        return {**loudest_score(output, batch), "as_is": kl(plain, batch["shares"])}

    return scores if isinstance(model, Calibrated) else loudest_score


def train_on_clips(model, train, val, out, epochs=20, **settings):
    """Train `model` on a competition's clips (`lib.words.clips.Competition`): features computed once, then `fit` as the
    earlier solution did.
    """
    from lib.words.clips import cached_features

    sets = [Stored(features=cached_features(model, part, progress=False), shares=part.shares) for part in (train, val)]
    how = dict(epochs=epochs, batch_size=256, learning_rate=1e-3, optimizer="Adam", progress="none") | settings
    return fit(model, *sets, out, score=loudest_score, notes={"words": train.words}, **how)


def train_head(net, pool, val, out, clips=1024, epochs=12, seed=0, **settings):
    """Only what is open in `net` (a frozen `TransferWords`) trained on features of `clips` clips of `pool`, computed
    once. Returns the history.

    val: the pool to validate on, which chooses epoch and temperature.
    """
    bank, held = stored(net, Mixtures(pool, clips, seed=seed, shift=0.1)), stored(net, Mixtures(val, 256, seed=1))
    how = (
        dict(
            epochs=epochs, batch_size=32, learning_rate=2e-3, optimizer="NAdam", patience=0, seed=seed, progress="none"
        )
        | settings
    )
    history = fit(net, bank, held, out, score=loudest_score, notes={"words": pool.words}, **how)
    calibrate(net, held)
    return history


@torch.no_grad()
def stored(net, clips, visits=None, batch=64):
    """The features of all `clips` (a dataset) by `net`, computed in batches, with their shares: a `Stored` dataset."""
    features, shares = [], []
    for first in range(0, len(clips), batch):
        items = [clips[k] for k in range(first, min(first + batch, len(clips)))]
        with autocast():
            found = net.features(torch.from_numpy(np.stack([item["clip"] for item in items])))
        features.append(found.half().numpy())  # half precision: a bank of some thousand clips is held in memory
        shares.append(np.stack([item["shares"] for item in items]))
    return Stored(visits, features=np.concatenate(features), shares=np.concatenate(shares))


def loudest_score(output, batch):
    """For `fit`: 1 where the loudest word is the most probable."""
    return {"loudest": (output.log_shares.argmax(1) == batch["shares"].argmax(1)).float()}


@torch.no_grad()
def answers(model, clips, batch=128):
    """Probabilities `(clips, words)` of waves `(clips, 16000)`, numpy; in batches, in bounded memory."""
    model.eval()
    with autocast():
        parts = [
            model(clip=torch.from_numpy(np.ascontiguousarray(clips[k : k + batch], np.float32))).log_shares
            for k in range(0, len(clips), batch)
        ]
    return torch.cat(parts).double().softmax(-1).numpy()


def autocast():
    """The precision that `lib.training.fit` would pick here."""
    kind = pick_precision("auto", torch.device("cpu"))
    return torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16")


def measure(model, sets, words):
    """Scores on each of `sets` (name -> (clips, shares)): a dict `<name>_<score>`, and the answers by name."""
    given = {name: answers(model, clips) for name, (clips, _) in sets.items()}
    row = {
        f"{name}_{score}": value
        for name, (_, shares) in sets.items()
        for score, value in word_scores.summary(given[name], shares, words).items()
    }
    return row, given


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
            f"The least is **{best['recipe']}**: {_within(best)}, {1 - best['kl'] / first['kl']:.0%} under the"
            " reproduction."
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
        lines.append(f"What pretraining brought: {told}; the best recipe from scratch {min(scratch):.2f}.")
    if table["seeds"].max() == 1:
        lines.append(
            "One seed only, so what seeds alone would change is not known: small steps are not ranked by this table."
        )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _under(row):
    return f"{row['under_uniform']:.1%} (95 %: {row['under_low']:.1%} to {row['under_high']:.1%}) under"


def _within(row):
    return f"{row['kl']:.2f} ({row['kl_low']:.2f} to {row['kl_high']:.2f})"
