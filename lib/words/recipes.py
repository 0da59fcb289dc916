"""Recipes for overlapped words, from the earlier solution to the better network: one idea added after the other.

A recipe is a dict of the network, its data and how it is trained; `lib.words.training.train_recipe` carries it out.
"""

import torch

from lib.training import freezing
from lib.words.cnn import WordCNN
from lib.words.encoder import TransferWords, speech_embedding
from lib.words.net import Averaged, WordNet

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
