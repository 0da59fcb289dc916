"""Pictures of chapter 6: masks, scores over the reading guide, learning curves of several runs. Figures come back
closed, to be displayed.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from lib.music import evaluation
from lib.plots import COLOURS

BANDS = {"failed": "#f4d6d2", "poor": "#fae6cf", "fair": "#fbf6d0", "good": "#e0f0d6", "excellent": "#c9e6cf"}


def masks(shown, sr, hop):
    """dict name -> mask `(frames, bins)` (0 to 1), in a row on one scale."""
    figure, axes = plt.subplots(
        1, len(shown), figsize=(3.2 * len(shown), 2.4), dpi=75, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (name, mask) in zip(axes[0], shown.items()):
        image = axis.imshow(
            np.asarray(mask).T,
            origin="lower",
            aspect="auto",
            vmin=0,
            vmax=1,
            cmap=plt.get_cmap("viridis", 20),
            interpolation="nearest",
            extent=(0, len(mask) * hop / sr, 0, sr / 2000),
        )
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("time (s)", fontsize=8)
    axes[0, 0].set_ylabel("frequency (kHz)", fontsize=8)
    figure.colorbar(image, ax=axes.ravel().tolist(), pad=0.01).set_label("mask", fontsize=8)
    plt.close(figure)
    return figure


def scores(table, value="museval_sdr"):
    """A group of bars a song, a colour a system, over the bands of the reading guide.

    `table` as `music_evaluation.score` returns it.
    """
    wide = table.pivot(index="song", columns="system", values=value)[list(table["system"].unique())]
    figure, axis = plt.subplots(figsize=(8.5, 3.0), dpi=75, layout="constrained")
    low, high = min(-1.0, float(np.nanmin(wide)) - 0.5), max(8.0, float(np.nanmax(wide)) + 0.5)
    edges = [low, *(bound for bound, _ in evaluation.GUIDE), high]
    for (name, colour), bottom, top in zip(BANDS.items(), edges, edges[1:]):
        axis.axhspan(bottom, top, color=colour, zorder=0)
        axis.text(len(wide) - 0.45, (bottom + top) / 2, name, fontsize=8, va="center")
    width = 0.8 / wide.shape[1]
    for number, system in enumerate(wide):
        axis.bar(
            np.arange(len(wide)) + (number - (wide.shape[1] - 1) / 2) * width,
            wide[system],
            width,
            label=system,
            color=COLOURS[number],
        )
    axis.set_xticks(np.arange(len(wide)), [name[:24] for name in wide.index], fontsize=8, rotation=20, ha="right")
    axis.set_ylim(low, high)
    axis.set_xlim(-0.6, len(wide) + 0.15)
    axis.set_ylabel("SDR (museval, dB)", fontsize=9)
    axis.legend(fontsize=8, ncols=wide.shape[1], loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


def curves(histories):
    """Loss in training and validation, and validation SI-SDRi, over epochs; `histories`: dict name -> what
    `lib.training.fit` returned.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 2.6), dpi=75, layout="constrained")
    for number, (name, history) in enumerate(histories.items()):
        axes[0].plot(history["epoch"], history["train_loss"], "--", color=COLOURS[number], label=f"{name}, training")
        axes[0].plot(
            history["epoch"],
            history["val_loss"],
            "o-",
            markersize=3,
            color=COLOURS[number],
            label=f"{name}, validation",
        )
        axes[1].plot(history["epoch"], history["val_si_sdri"], "o-", markersize=3, color=COLOURS[number], label=name)
    for axis, label in zip(axes, ("L1 relative to the mixture", "validation SI-SDRi (dB)")):
        axis.set_xlabel("epoch", fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylabel(label, fontsize=9)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure
