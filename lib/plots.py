"""Curves, bars, histograms and tables of the chapters (matplotlib and pandas alone).

Each function returns a closed matplotlib figure: make it the last line of a cell, or `display` it, and it appears once.
Levels, ratios and metrics in dB; intervals are `low` and `high`, not half-widths.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.ticker import MaxNLocator

DPI = 85
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6A3D9A",
    "#7F7F7F",
)  # told apart by colour-blind readers
SPLIT_COLOURS = {"Train": COLOURS[0], "Val": COLOURS[4], "Test": COLOURS[1]}
HIGHER_IS_BETTER = (
    "si_sdr",
    "si_sdri",
    "sdr",
    "sdri",
    "pesq",
    "estoi",
    "sig",
    "bak",
    "ovrl",
    "p808",
    "similarity",
    "share_over_1_db",
)
LOWER_IS_BETTER = ("share_below_0", "rtf", "seconds")


def minutes_by_speaker(voices):
    """A bar a speaker, minutes of speech, coloured by split.

    `voices`: DataFrame with `speaker`, `seconds` and maybe `split`.
    """
    voices = voices.assign(split=voices.get("split", "all"))
    minutes = voices.groupby(["split", "speaker"])["seconds"].sum().div(60)
    splits = [
        name
        for name in (*SPLIT_COLOURS, *sorted(set(voices["split"]) - set(SPLIT_COLOURS)))
        if name in set(voices["split"])
    ]
    figure, axis = _figure(9.0, 3.4)
    labels, start = [], 0
    for number, split in enumerate(splits):
        values = minutes[split].sort_values(ascending=False)
        places = np.arange(start, start + len(values))
        axis.bar(
            places,
            values,
            width=0.85,
            color=SPLIT_COLOURS.get(split, COLOURS[number % len(COLOURS)]),
            label=f"{split}: {len(values)} speakers, {values.sum():.0f} min",
        )
        labels += list(values.index)
        start += len(values) + 1
        labels.append("")
    axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
    axis.set_xlim(-1, len(labels) - 1)
    return _done(figure, axis, ylabel="speech (min)", legend=True)


def histograms(table, columns, by=None, unit="dB", bins=30):
    """A histogram a column of `table`. With `by` an outline a value of that column, each of shares of its own rows, so
    that groups of unlike size can be compared. NaN is left out and counted in the title.
    """
    columns = _present(table, columns)
    figure, axes = _figure(4.2 * len(columns), 2.7, columns=len(columns))
    for axis, column in zip(np.atleast_1d(axes), columns):
        known = table.dropna(subset=[column])
        edges = np.histogram_bin_edges(known[column], bins=bins)
        for number, (name, rows) in enumerate(known.groupby(by, sort=True) if by else [("all", known)]):
            how = dict(histtype="step", lw=1.8, weights=np.full(len(rows), 1 / len(rows))) if by else dict(alpha=0.65)
            axis.hist(rows[column], bins=edges, color=_colour(name, number), label=f"{name} ({len(rows)})", **how)
        missing = len(table) - len(known)
        _style(axis, xlabel=f"{column} ({unit})", ylabel="share of each" if by else "count", legend=by is not None)
        axis.xaxis.set_major_locator(MaxNLocator(7))
        axis.set_title(f"{missing} without a value" if missing else "", fontsize=8)
    return _close(figure)


def level_before_after(before, after, target=None):
    """Histograms of levels (dBFS) of targets before and after normalisation, as many of each; `target` draws a line."""
    figure, axis = _figure(5.5, 2.7)
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    edges = np.linspace(min(before.min(), after.min()) - 1, max(before.max(), after.max()) + 1, 50)
    for name, values, colour in (("before", before, COLOURS[7]), ("after", after, COLOURS[0])):
        axis.hist(
            values, bins=edges, alpha=0.7, color=colour, label=f"{name}: {values.mean():.1f} ± {values.std():.1f} dBFS"
        )
    if target is not None:
        axis.axvline(target, color="black", linewidth=1, linestyle="--", label=f"level set: {target:.0f} dBFS")
    return _done(figure, axis, xlabel="RMS level (dBFS)", ylabel="mixtures", legend=True)


def learning_curve(history, title=""):
    """Loss and validation SI-SDRi over epochs.

    `history`: DataFrame with `epoch` and any of `train_loss`, `val_loss`, `val_si_sdri`.
    """
    if not {"train_loss", "val_loss", "val_si_sdri"} & set(history.columns):
        raise ValueError(f"a history has train_loss, val_loss or val_si_sdri; got the columns {list(history.columns)}.")
    epochs = history["epoch"] if "epoch" in history else np.arange(1, len(history) + 1)
    figure, (left, right) = _figure(8.0, 2.6, columns=2)
    for column, colour in (("train_loss", COLOURS[7]), ("val_loss", COLOURS[0])):
        if column in history:
            left.plot(epochs, history[column], marker="o", markersize=3, color=colour, label=column.replace("_", " "))
    _style(left, xlabel="epoch", ylabel="loss (dB)", legend=True)
    if "val_si_sdri" in history and history["val_si_sdri"].notna().any():
        values = history["val_si_sdri"].to_numpy(dtype=float)
        right.plot(epochs, values, marker="o", markersize=3, color=COLOURS[2])
        kept, by_loss = int(np.nanargmax(values)), "val_loss" in history and history["val_loss"].notna().any()
        if by_loss:  # the weights kept are those of the lowest validation loss
            kept = int(np.nanargmin(history["val_loss"].to_numpy(dtype=float)))
        epoch, word = np.asarray(epochs)[kept], "kept" if by_loss else "best"
        label = f"{word}: epoch {epoch:.0f}, {values[kept]:.2f} dB"
        right.plot(epoch, values[kept], marker="*", markersize=12, color=COLOURS[1], linestyle="", label=label)
        right.legend(fontsize=8)
    _style(right, xlabel="epoch", ylabel="validation SI-SDRi (dB)")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=9)
    return _close(figure)


class LiveCurve:
    """A learning curve that redraws in place: make it before training, call it with the history after each epoch."""

    def __init__(self, title=""):
        self.title, self.handle = title, None

    def __call__(self, history):
        figure = learning_curve(history, self.title)
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)


def strategies(
    table,
    x="trainable",
    y="test_si_sdri",
    low="test_low",
    high="test_high",
    label="strategy",
    xlabel="trainable parameters",
    ylabel="test SI-SDRi (dB)",
    log=True,
    baseline=None,
):
    """A point a strategy with its interval: `y` (with `low`, `high`) over cost `x` (parameters, seconds). `baseline`: a
    line in dB.
    """
    _present(table, [x, y, label])
    figure, axis = _figure(6.5, 3.4)
    for number, (_, row) in enumerate(table.iterrows()):
        error = [[row[y] - row[low]], [row[high] - row[y]]] if low in table and high in table else None
        axis.errorbar(
            row[x],
            row[y],
            error,
            linestyle="",
            capsize=3,
            color=COLOURS[number % len(COLOURS)],
            label=row[label],
            marker="os^Dv<>"[number // len(COLOURS) % 7],
        )
    if baseline is not None:
        axis.axhline(
            baseline, color="black", linewidth=1, linestyle="--", label=f"before fine-tuning: {baseline:.2f} dB"
        )
    if log and (table[x] > 0).all():
        axis.set_xscale("log")
    _style(axis, xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _close(figure)


def trade(along, kept):
    """Val SI-SDRi (dB) of a place over that of the source domain, along the way between two models.

    along: table of `lib.training.forgetting.curve`. kept: the share of one model for both, marked with a ring.
    """
    _present(along, ["share", "val", "source"])
    figure, axis = _figure(5.0, 3.0)
    axis.plot(along["source"], along["val"], marker="o", color=COLOURS[0])
    for row in along.to_dict("records"):
        axis.annotate(f"{row['share']:.0%}", (row["source"], row["val"]), (6, -10), textcoords="offset points")
    chosen, ring = along[along["share"] == kept], f"one model for both: {kept:.0%}"
    axis.plot(chosen["source"], chosen["val"], "o", markersize=14, fillstyle="none", color=COLOURS[1], label=ring)
    _style(axis, xlabel="at home: SI-SDRi on source, Val people (dB)", ylabel="in the place (dB)", legend=True)
    return _close(figure)


def improvement_by_sample(values, over=1.0, ylabel="SI-SDRi (dB)"):
    """Samples sorted by their improvement (dB): over `over` marked as improved, below 0 as the wrong person."""
    values = np.sort(np.asarray(values, dtype=float)[~np.isnan(np.asarray(values, dtype=float))])
    kinds = (
        (values > over, COLOURS[2], f"improved (over {over:g} dB)"),
        (values < 0, COLOURS[1], "worse (below 0 dB)"),
        ((values >= 0) & (values <= over), COLOURS[7], "about as before"),
    )
    figure, axis = _figure(7.5, 2.8)
    for chosen, colour, name in kinds:
        axis.bar(
            np.flatnonzero(chosen),
            values[chosen],
            width=0.9,
            color=colour,
            label=f"{name}: {chosen.sum()} of {len(values)}",
        )
    axis.axhline(0, color="black", linewidth=0.8)
    return _done(figure, axis, xlabel="test samples, sorted", ylabel=ylabel, legend=True)


def improvement_by_ratio(
    table,
    ratio="sir_db",
    y="si_sdri",
    by="system",
    bins=4,
    interval=None,
    xlabel="SIR of the mixture (dB)",
    ylabel="SI-SDRi (dB)",
):
    """Each sample as a dot, and per `by` the mean in `bins` equal-count bins of `ratio`; `interval(values)` -> (mean,
    low, high).
    """
    table = table.dropna(subset=[ratio, y])
    edges = np.unique(np.quantile(table[ratio], np.linspace(0, 1, bins + 1)))
    figure, axis = _figure(6.5, 3.2)
    for number, (name, rows) in enumerate(table.groupby(by, sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(rows[ratio], rows[y], ".", alpha=0.3, color=colour, markersize=5)
        groups = rows.groupby(np.clip(np.digitize(rows[ratio], edges[1:-1]), 0, None))
        centres = groups[ratio].mean() + 0.08 * (
            number - 0.5
        )  # side by side, so that two intervals do not hide each other
        stats = np.array([interval(part[y]) if interval else (part[y].mean(),) * 3 for _, part in groups])
        axis.errorbar(
            centres,
            stats[:, 0],
            [stats[:, 0] - stats[:, 1], stats[:, 2] - stats[:, 0]],
            color=colour,
            marker="o",
            capsize=3,
            label=name,
        )
    axis.axhline(0, color="black", linewidth=0.8)
    return _done(figure, axis, xlabel=xlabel, ylabel=ylabel, legend=True)


def groups_with_intervals(table, value="mean", group="difficulty", by="system", ylabel="SI-SDRi (dB)"):
    """Bars of `value` with `low` and `high` for each `group`, side by side for each `by`.

    `table`: a row a group and system.
    """
    groups, names = list(dict.fromkeys(table[group])), list(dict.fromkeys(table[by]))
    width = 0.8 / len(names)
    figure, axis = _figure(max(4.0, 1.3 * len(groups) + 2), 2.8)
    for number, name in enumerate(names):
        rows = table[table[by] == name].set_index(group).reindex(groups)
        places = np.arange(len(groups)) + (number - (len(names) - 1) / 2) * width
        axis.bar(
            places,
            rows[value],
            width * 0.95,
            color=COLOURS[number % len(COLOURS)],
            label=name,
            yerr=[rows[value] - rows["low"], rows["high"] - rows[value]],
            capsize=3,
        )
    axis.set_xticks(range(len(groups)), groups)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.legend(
        fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), frameon=False
    )  # clear of the bars
    return _done(figure, axis, ylabel=ylabel)


def summary_table(frame, digits=2, caption=""):
    """A styled table: `digits` decimals, shares (columns `share*`) in percent, the best of each metric column in
    bold.
    """
    numbers = frame.select_dtypes("number").columns
    formats = {
        column: "{:.0%}" if column.startswith("share") else f"{{:,.{0 if _whole(frame[column]) else digits}f}}"
        for column in numbers
    }
    style = frame.style.format(formats, na_rep="–").set_caption(caption)
    if isinstance(frame.index, pd.RangeIndex):
        style = style.hide(axis="index")
    bold = {"props": "font-weight: bold"}
    style = style.highlight_max(subset=[c for c in numbers if c in HIGHER_IS_BETTER], **bold)
    return style.highlight_min(subset=[c for c in numbers if c in LOWER_IS_BETTER], **bold)


def _figure(width, height, columns=1):
    return plt.subplots(1, columns, figsize=(width, height), dpi=DPI, layout="constrained")


def _style(axis, xlabel="", ylabel="", legend=False):
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(fontsize=8)


def _done(figure, axis, **labels):
    _style(axis, **labels)
    return _close(figure)


def _close(figure):
    plt.close(figure)  # or the notebook would draw it a second time at the end of the cell
    return figure


def _colour(name, number):
    return SPLIT_COLOURS.get(name, COLOURS[number % len(COLOURS)])


def _present(table, columns):
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(table.columns)}.")
    return list(columns)


def _whole(column):
    return str(column.dtype).lower().startswith(("int", "uint", "bool"))
