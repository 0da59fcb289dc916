"""The picture of `lib.training.benchmark`."""

import matplotlib.pyplot as plt

from lib.plots import COLOURS, DPI


def speed(table):
    """How many times faster than the plain path a training step is, a group of bars a strategy, of the table of
    `lib.training.benchmark`.
    """
    label = [
        f"{row.precision}, {row.attention} attention{', cached' if row.cache else ''}" for row in table.itertuples()
    ]
    wide = (
        table.assign(label=label)
        .pivot(index="strategy", columns="label", values="faster")
        .loc[list(table["strategy"].unique()), list(dict.fromkeys(label))]
    )
    figure, axis = plt.subplots(figsize=(9, 3.8), dpi=DPI, layout="constrained")
    wide.plot.bar(ax=axis, width=0.8, rot=20, color=COLOURS)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="", ylabel="times faster than plain")
    axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure
