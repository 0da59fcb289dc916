"""Networks for overlapped words trained by `lib.training.fit`, given a temperature, and asked for their answers."""

import numpy as np
import torch

from lib.training.fit import fit
from lib.training.settings import pick_precision
from lib.words import scores as word_scores
from lib.words.cnn import kl
from lib.words.mixtures import Mixtures, Stored
from lib.words.net import Averaged
from lib.words.recipes import build


def train_recipe(
    recipe,
    pools,
    out,
    seed=0,
    clips=512,
    epochs=12,
    fixed=4096,
    val_clips=256,
    one_voice=False,
    patience=0,
    resume=False,
    **settings,
):
    """One recipe trained in the folder `out`. Returns `(network, history)`; the network holds the epoch with the least
    KL on Val.

    pools: `train`, `varied` and `val` (see `lib.words.recordings.pool`). clips: heard in one epoch, the same for every
    recipe; one that does not draw new clips goes round through `fixed` of them. Val clips are the same for all, and
    choose a temperature for each network. A recipe that is `calibrated` has its epoch chosen by the KL at each epoch's
    own temperature. one_voice: see `lib.words.mixtures.draw`.
    """
    own = pools["varied" if recipe["varied"] else "train"]
    data = Mixtures(
        own,
        clips if recipe["fresh"] else fixed,
        seed=1000 + seed,
        fresh=recipe["fresh"],
        shift=recipe["shift"],
        one_voice=one_voice,
    )
    model = build(recipe, len(own.words), seed)
    inner = model.net if isinstance(model, Averaged) else model
    answering = model.mean if isinstance(model, Averaged) else model
    val = stored(inner, Mixtures(pools["val"], val_clips, seed=1, one_voice=one_voice))
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


def train_head(net, train, val, out, epochs=12, seed=0, **settings):
    """Only what is open in `net` (a `TransferWords`) trained on stored clips (see `stored`). Returns the history.

    val: stored clips of others, which choose epoch and temperature.
    """
    how = dict(epochs=epochs, batch_size=32, learning_rate=2e-3, optimizer="NAdam", patience=0, progress="none")
    history = fit(net, train, val, out, score=loudest_score, seed=seed, **(how | settings))
    calibrate(net, val)
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
