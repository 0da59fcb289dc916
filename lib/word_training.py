"""Recipes for overlapped words, from the earlier solution to the better network, each trained by `lib.training.fit` and measured alike.

A recipe is a dict; `RECIPES` adds one idea after the other, so that a table of them says what each brought.
"""
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import freezing, runs, training, word_scores
from lib.data.word_mixtures import Mixtures, Stored
from lib.data.words import WordsError
from lib.models import transfer
from lib.models.word_cnn import WordCNN
from lib.models.word_net import Averaged, Ensemble, TransferWords, WordNet

FIRST = dict(net="cnn", fresh=False, shift=0.0, varied=False, ffts=(512,), spec_augment=False, mixup=0.0, dropout=0.0, optimizer="Adam",
             learning_rate=1e-3, averaged=False)
STEPS = [  # name -> what changes against the row above
    ("reproduction", {}),
    ("+ new clips every epoch, time shift", dict(fresh=True, shift=0.1)),
    ("+ speed and pitch", dict(varied=True)),
    ("+ residual network", dict(net="residual")),
    ("+ four mel resolutions", dict(ffts=(256, 512, 1024, 2048))),
    ("+ SpecAugment", dict(spec_augment=True)),
    ("+ mixup", dict(mixup=0.3)),
    ("+ dropout, NAdam, averaged weights", dict(dropout=0.3, optimizer="NAdam", learning_rate=2e-3, averaged=True)),
]


def _recipes():
    found, recipe = {}, dict(FIRST)
    for name, change in STEPS:
        recipe = {**recipe, **change}
        found[name] = recipe
    return found


RECIPES = _recipes()
BETTER = list(RECIPES)[-1]


def build(recipe, words, seed=0):
    """The network of a recipe, its weights by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe["net"] == "cnn":
            net = WordCNN(words)
        else:
            net = WordNet(words, recipe["ffts"], spec_augment=recipe["spec_augment"], mixup=recipe["mixup"], dropout=recipe["dropout"])
        return Averaged(net) if recipe["averaged"] else net


def train_recipe(recipe, pools, out, seed=0, clips=2048, epochs=24, batch_size=128, val_clips=512, patience=0, resume=False, **settings):
    """One recipe trained in the folder `out`. Returns `(network, history)`; the network holds the epoch with the least KL on Val.

    pools: `train`, `varied` and `val` (see `lib.data.words.pool`). clips: of one epoch. Every recipe gets the same number of clips,
    epochs and steps; Val clips are the same for all.
    """
    own = pools["varied" if recipe["varied"] else "train"]
    data = Mixtures(own, clips, seed=1000 + seed, fresh=recipe["fresh"], shift=recipe["shift"])
    model = build(recipe, len(own.words), seed)
    inner = model.net if isinstance(model, Averaged) else model
    val = stored(inner, Mixtures(pools["val"], val_clips, seed=1))
    train = data if recipe["fresh"] else stored(inner, data)
    history = training.fit(model, train, val, out, resume=resume, score=loudest_score, notes={"recipe": recipe, "words": own.words}, seed=seed,
                           epochs=epochs, batch_size=batch_size, learning_rate=recipe["learning_rate"], optimizer=recipe["optimizer"],
                           patience=patience, **settings)
    return (model.mean if isinstance(model, Averaged) else model).eval(), history


@torch.no_grad()
def stored(net, clips, batch=256):
    """The features of all `clips` (a dataset) by `net`, computed in batches, with their shares: a `Stored` dataset."""
    features, shares = [], []
    for first in range(0, len(clips), batch):
        items = [clips[k] for k in range(first, min(first + batch, len(clips)))]
        features.append(net.features(torch.from_numpy(np.stack([item["clip"] for item in items]))).numpy())
        shares.append(np.stack([item["shares"] for item in items]))
    return Stored(features=np.concatenate(features), shares=np.concatenate(shares))


def loudest_score(output, batch):
    """For `fit`: 1 where the loudest word is the most probable."""
    return {"loudest": (output.log_shares.argmax(1) == batch["shares"].argmax(1)).float()}


@torch.no_grad()
def answers(model, clips, batch=128):
    """Probabilities `(clips, words)` of waves `(clips, 16000)`, numpy; in batches, in bounded memory."""
    model.eval()
    parts = [model(clip=torch.from_numpy(np.ascontiguousarray(clips[k: k + batch], np.float32))).log_shares.exp() for k in range(0, len(clips), batch)]
    return torch.cat(parts).double().numpy()


def measure(model, sets, words):
    """Scores on each of `sets` (name -> (clips, shares)): a dict `<name>_<score>`, and the answers by name."""
    given = {name: answers(model, clips) for name, (clips, _) in sets.items()}
    row = {f"{name}_{score}": value for name, (_, shares) in sets.items() for score, value in word_scores.summary(given[name], shares, words).items()}
    return row, given


def table_of(names, pools, sets, out, seeds=(0, 1, 2), say=print, **settings):
    """Train recipes with several seeds and measure them; runs that are done in `out` are not done again. Returns `(rows, answers, models)`.

    rows: a DataFrame, a row a recipe and seed, kept in `out/rows.csv`. answers: name -> list over seeds of `{set: (clips, words)}`.
    """
    if unknown := [name for name in names if name not in RECIPES]:
        raise WordsError(f"unknown recipe {', '.join(unknown)}; known are: {', '.join(RECIPES)}")
    rows, given, models, words = [], {}, {}, pools["train"].words
    for name in names:
        for seed in seeds:
            folder = Path(out) / f"{list(RECIPES).index(name)}_{seed}"
            model, history = train_recipe(RECIPES[name], pools, folder, seed, resume=folder.is_dir(), progress="none", **settings)
            scores, answered = measure(model, sets, words)
            rows.append({"recipe": name, "seed": seed, "parameters": sum(p.numel() for p in model.parameters()), "seconds": history.attrs["seconds"],
                         "best_epoch": history.attrs["best_epoch"], "val_loss": history["val_loss"].min(), **scores})
            given.setdefault(name, []).append(answered)
            models.setdefault(name, []).append(model)
            say(f"{name}, seed {seed}: KL {' '.join(f'{part} {scores[part + chr(95) + chr(107) + chr(108)]:.3f}' for part in sets)}, "
                f"best epoch {history.attrs['best_epoch']}, {history.attrs['seconds']:.0f} s")
            runs.write_text(Path(out) / "rows.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.5f"))
    return pd.DataFrame(rows), given, models
