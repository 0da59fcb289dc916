"""The pictures of `lib.training.benchmark` and of `lib.pretraining.place_study`."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots import COLOURS, DPI


def speed(table):
    """How many times faster than the plain path a training step is, a group of bars a strategy, of the table of
    `lib.training.benchmark`.
    """
    table = table[table["convolution"] != "whole"] if "convolution" in table else table  # that one is 1
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


def cures(table):
    """Gain in a place over what is left at home (SI-SDRi in dB), a line a cure along the way between the weights
    before and after, of the table `cures` of `lib.pretraining.place_study`.
    """
    figure, axis = plt.subplots(figsize=(7.5, 3.6), dpi=DPI, layout="constrained")
    side = 1  # labels of one line stand to its right, those of the next to its left, so that they do not meet
    for (name, rows), colour in zip(table.groupby("row", sort=False), COLOURS):
        axis.plot(rows["source"], rows["test"].fillna(rows["test"].mean()), marker="o", color=colour, label=name)
        how = dict(textcoords="offset points", size=8, color=colour, ha="left" if side > 0 else "right", va="center")
        for row in rows.dropna(subset=["test"]).itertuples() if len(rows) > 2 else ():
            axis.annotate(f"{row.share:.0%}", (row.source, row.test), (7 * side, -7), **how)
        side *= -1 if len(rows) > 2 else 1
    axis.margins(x=0.15)
    axis.set(xlabel="at home: SI-SDRi on source (dB)", ylabel="in the place: SI-SDRi on Test (dB)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    plt.close(figure)
    return figure


def amounts(table):
    """Test SI-SDRi (dB) over the number of Train mixtures, a line a strategy with its 95 % interval, and the equaliser
    fitted on as many, of the table `amounts` of `lib.pretraining.place_study`.
    """
    figure, axis = plt.subplots(figsize=(7.5, 3.2), dpi=DPI, layout="constrained")
    for (name, rows), colour in zip(table.groupby("strategy", sort=False), COLOURS):
        axis.plot(rows["mixtures"], rows["test"], marker="o", color=colour, label=name)
        axis.fill_between(
            rows["mixtures"],
            rows["equaliser"] + rows["low"],
            rows["equaliser"] + rows["high"],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    first = table[table["strategy"] == table["strategy"].iloc[0]]
    axis.plot(first["mixtures"], first["equaliser"], "k--", marker=".", label="equaliser alone")
    axis.set_xscale("log")
    axis.set_xticks(first["mixtures"], [str(count) for count in first["mixtures"]])
    axis.minorticks_off()
    axis.set(xlabel="Train mixtures of the place", ylabel="SI-SDRi on Test (dB)")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    plt.close(figure)
    return figure


def matrix(table):
    """Fine-tuned in (rows) and heard in (columns): Test SI-SDRi in dB against the starter, a number a square, of the
    table `matrix` of `lib.pretraining.place_study`.
    """
    starter = table[table["system"] == "starter"].iloc[0]
    tuned = table[~table["system"].isin(["starter", "equaliser"])]
    places = list(dict.fromkeys(tuned["trained_in"]))
    labels = [p if s == "fine-tuned" else f"{p}, {s}" for p, s in zip(tuned["trained_in"], tuned["system"])]
    tuned = tuned.set_index(pd.Index(labels))
    columns = [*places, "source"]
    change = tuned[columns] - starter[columns].astype(float)
    figure, axis = plt.subplots(figsize=(8.4, 1.2 + 0.4 * len(tuned)), dpi=DPI, layout="constrained")
    most = change.abs().max().max()
    image = axis.imshow(change.to_numpy(), cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(change.to_numpy()):
        dark = abs(value) > 0.6 * most
        axis.text(column, row, f"{value:+.1f}", ha="center", va="center", color="white" if dark else "black")
    names = [*places, "home, left on"]
    axis.set_xticks(range(len(columns)), [f"{n}\n(starter {starter[c]:.1f})" for n, c in zip(names, columns)])
    axis.set_yticks(range(len(tuned)), tuned.index)
    axis.set(xlabel="heard in", ylabel="fine-tuned in")
    figure.colorbar(image, label="change of SI-SDRi (dB)")
    plt.close(figure)
    return figure
