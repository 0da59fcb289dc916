"""Teach people to a frozen backbone: features computed once, the short loop for a head, new people added.

Features are `(clips, dim)` float32; labels are places in the sorted list of people. A head on cached features learns in
a second, so it has its own loop of ten lines; what takes longer goes through `lib.training.fit`
(`lib/speakers/strategies.py`).
"""

import copy
import hashlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from lib import backbones, metrics, runs
from lib.data import cache_dir
from lib.speakers import transfer

REHEARSED = 3  # clips of each old person that go along when a new one is learned


def labels_of(table, people):
    """The place of each clip's speaker in the list `people`, `(clips,)`.

    Raises ValueError with fewer than two people.
    """
    if len(people) < 2:
        raise ValueError(f"a classifier needs at least two people; got {list(people)}. Add another person's clips.")
    return torch.tensor([list(people).index(name) for name in table["speaker"]])


# --- features, computed once


def features(backbone, waves, after=None, batch=16, progress=True, cache=True):
    """What `backbone` in eval mode makes of `waves` `(clips, samples)`: its features, or what leaves the stage `after`.

    Kept in the user's cache under the weights' and the waves' own hash, so that a second run reads it.
    """
    path = _feature_file(backbone, waves, after)
    if cache and path.is_file():
        return torch.from_numpy(np.load(path))
    names = list(backbone.stages)
    stages = [backbone.stages[name] for name in names[: len(names) if after is None else names.index(after) + 1]]
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    out = []
    with torch.inference_mode():
        for start in tqdm(
            range(0, len(waves), batch),
            desc=f"{backbone.name} features",
            disable=not progress or len(waves) < 8 * batch,
        ):
            out.append(backbones.run(stages, backbone.prepare(torch.from_numpy(waves[start : start + batch]))))
    for module, mode in modes.items():
        module.training = mode
    out = torch.cat(out).clone()
    if cache:
        _keep(path, out.numpy())
    return out


def _feature_file(backbone, waves, after):
    pixels = getattr(backbone.prepare, "keywords", {}).get("size", "")
    heard = hashlib.sha1(np.ascontiguousarray(waves).tobytes()).hexdigest()[:16]
    return (
        cache_dir()
        / "features"
        / f"{backbone.name}{pixels}-{runs.fingerprint(backbone):08x}-{after or 'features'}-{heard}.npy".replace(" ", "")
    )


def _keep(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=".npy", dir=path.parent)
    os.close(handle)
    try:
        np.save(part, array)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


# --- a head on cached features


def train_head(head, feats, labels, epochs=30, learning_rate=1e-3, batch=32, seed=0):
    """Cross-entropy and Adam on the head alone; returns the mean loss of each epoch."""
    order, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.Adam(head.parameters(), lr=learning_rate, fused=True)  # a third faster, the same to 1e-6
    with metrics.one_thread():  # steps of a few milliseconds: threads would mostly wait for each other
        for _ in range(epochs):
            total = 0.0
            for picked in torch.randperm(len(feats), generator=order).split(batch):
                loss = torch.nn.functional.cross_entropy(head(feats[picked]), labels[picked])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(picked)
            losses.append(total / len(feats))
    return losses


def new_head(feats, people, seed=0):
    """A head with weights by `seed`, standardising as `feats` (those of the training clips) ask for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transfer.Head(feats.shape[1], people).fit_scale(feats)


@torch.no_grad()
def right(head, feats, labels):
    """1.0 for each clip named right, `(clips,)` numpy."""
    return (head(feats).argmax(1) == labels).double().numpy()


def head_only(feats, table, people, seeds=(0, 1, 2), **settings):
    """Head-only transfer with several seeds: dict of accuracy (mean over seeds on Test), low, high (people drawn anew),
    spread, seconds, head.

    feats and table hold all clips; Train clips teach, Test clips test. `head` is that of the first seed.
    """
    labels, part = labels_of(table, people), table["part"].to_numpy()
    taught, asked = torch.from_numpy(part != "Test"), torch.from_numpy(part == "Test")
    answers, heads, started = [], [], time.perf_counter()
    for seed in seeds:
        head = new_head(feats[taught], len(people), seed)
        train_head(head, feats[taught], labels[taught], seed=seed, **settings)
        heads.append(head)
        answers.append(right(head, feats[asked], labels[asked]))
    seconds = (time.perf_counter() - started) / len(seeds)
    mean, low, high = by_person(np.mean(answers, axis=0), table["speaker"][part == "Test"])
    return dict(
        accuracy=mean,
        low=low,
        high=high,
        spread=float(np.std([np.mean(a) for a in answers])),
        seconds=seconds,
        trainable=sum(p.numel() for p in heads[0].parameters()),
        clips=int(asked.sum()),
        head=heads[0],
    )


def by_person(values, speakers, seed=0, level=0.95, draws=5000):
    """Mean of `values` over clips with an interval that draws *people* anew: clips of one person are not
    independent.
    """
    values = np.asarray(values, dtype=float)
    _, place = np.unique(np.asarray(speakers), return_inverse=True)
    sums, sizes = np.bincount(place, values), np.bincount(place)
    picks = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    low, high = np.quantile(sums[picks].sum(1) / sizes[picks].sum(1), [(1 - level) / 2, (1 + level) / 2])
    return metrics.Interval(float(values.mean()), float(low), float(high))


# --- new people


def add_person(head, new, old=None, old_labels=None, rehearsed=REHEARSED, epochs=25, learning_rate=1e-3, seed=0):
    """A copy of `head` with one class more, trained on the clips `new` `(clips, dim)` of that person.

    With `old` features and their labels, `rehearsed` clips of each old person go along, and the new ones are repeated
    up to an equal
    share of the loss; without them (or with rehearsed=0) the head sees the newcomer alone, and forgets.
    """
    if not len(new):
        raise ValueError("a new person needs at least one clip; got none. Record one of a second or more.")
    head = copy.deepcopy(head).add_class()
    place = head.layers[-1].out_features - 1
    feats, labels = new, torch.full((len(new),), place)
    if old is not None and rehearsed:
        random = np.random.default_rng(seed)
        kept = np.concatenate(
            [random.permutation(np.flatnonzero(old_labels.numpy() == one))[:rehearsed] for one in np.unique(old_labels)]
        )
        repeats = -(-2 * rehearsed // len(new))
        feats, labels = (
            torch.cat([new.repeat(repeats, 1), old[kept]]),
            torch.cat([labels.repeat(repeats), old_labels[kept]]),
        )
    train_head(head, feats, labels, epochs=epochs, learning_rate=learning_rate, seed=seed)
    return head


def few_shot(
    head, old, old_labels, asked, asked_labels, clips, feats, shots=(1, 3, 5, 10), rehearsals=(0, REHEARSED), seed=0
):
    """Each person of `clips` added alone to `head`, by 1, 3, 5, 10 examples, with and without rehearsal: a row each.

    old: features that teach, asked: features of old people that test (forgetting). clips and feats: those of the new
    people. Columns:
    speaker, examples, rehearsed, new (share of the person's Test clips named right), old_before, old_after, taken
    (share of the old people's
    clips now given to the newcomer). People with fewer Train clips than the most examples are left out.
    """
    part, before, rows = clips.table["part"].to_numpy(), right(head, asked, asked_labels).mean(), []
    for name, places in clips.table.groupby("speaker").groups.items():
        places = np.asarray(places)
        taught, test = places[part[places] != "Test"], places[part[places] == "Test"]
        if len(taught) < max(shots) or not len(test):
            continue
        for examples in shots:
            for rehearsed in rehearsals:
                grown = add_person(head, feats[taught[:examples]], old, old_labels, rehearsed, seed=seed)
                place = grown.layers[-1].out_features - 1
                with torch.no_grad():
                    answers = grown(asked).argmax(1)
                rows.append(
                    dict(
                        speaker=name,
                        examples=examples,
                        rehearsed=rehearsed,
                        old_before=before,
                        new=float(right(grown, feats[test], torch.full((len(test),), place)).mean()),
                        old_after=float((answers == asked_labels).double().mean()),
                        taken=float((answers == place).double().mean()),
                    )
                )
    return pd.DataFrame(rows)
