"""Between the model before fine-tuning and the one after: how much of a place to take, for how much of home.

The weights that lie some way from the one to the other are a model too ("WiSE-FT", Wortsman and others, CVPR 2022).
Close to the start it forgets little, and most of the gain comes early on the way.
"""

import copy

import pandas as pd
import torch

from lib.losses import SILENT_DB
from lib.training.comparison import score
from lib.training.settings import TrainingError


@torch.no_grad()
def interpolate(before, after, share):
    """A copy of `after` whose weights lie `share` of the way from `before` to it: 0 is `before`, 1 is `after`.

    Both hold the same tensors; whole numbers (counters) are those of `after`, as is an equaliser.
    """
    between, start = copy.deepcopy(after), before.state_dict()
    for name, tensor in between.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(start[name].to(tensor) + share * (tensor - start[name].to(tensor)))
    return between.eval()


def curve(before, after, sets, shares=(0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0), **how):
    """Mean SI-SDRi (dB) of each domain of `sets` along the way from `before` to `after`: a row a share.

    `silent`, where `val` asks for people who are silent: the share of them who got silence. On the domain `source` an
    equaliser is off. how: see `lib.training.fit.measure`.
    """
    rows = []
    for share in shares:
        found = score(interpolate(before, after, share), sets, **how)
        rows.append({"share": share, **found.groupby("domain")["si_sdri"].mean()})
        levels = found.loc[found["domain"] == "val", "level_db"].dropna() if "level_db" in found else []
        if len(levels):
            rows[-1]["silent"] = float((levels <= SILENT_DB).mean())
    table = pd.DataFrame(rows)
    return table[["share", *sets, *(["silent"] if "silent" in table else [])]]


def choose(along, most=0.3):
    """The largest share of the table `along` (`curve`) at which `source` loses no more than `most` dB against share
    0.
    """
    if "source" not in along or not (along["share"] == 0).any():
        raise TrainingError("nothing says what is forgotten: measure the domain source, and share 0 for a start.")
    lost = along.loc[along["share"] == 0, "source"].item() - along["source"]
    return float(along.loc[lost <= most, "share"].max())
