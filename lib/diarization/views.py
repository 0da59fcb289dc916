"""Diarization seen and heard: timelines under each other, bars of the errors' parts, curves, players that jump to a
turn.

Figures are closed matplotlib figures (make one the last line of a cell); players are HTML that also works in a stored
notebook.
"""

import html
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML

from lib import listening
from lib.diarization.scores import PARTS, DiarizationErrorRate
from lib.plots import COLOURS, DPI

OVERLAP = "#d9d9d9"


def matched(found, reference):
    """`found` with its speakers called as the people of `reference` whom they fit best."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no uem: all that is annotated counts
        return found.rename_labels(DiarizationErrorRate().optimal_mapping(reference, found))


def timelines(rows, seconds, start=0.0, width=9.0):
    """Annotations under each other (`rows`: label -> Annotation), a line a speaker, from `start` for `seconds`;
    overlaps shaded.

    The first is the reference: speakers of the others get the names and colours of the people they fit best.
    """
    reference = next(iter(rows.values()))
    rows = {label: row if row is reference else matched(row, reference) for label, row in rows.items()}
    heights = [max(1, len(annotation.labels())) for annotation in rows.values()]
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(width, 0.45 + 0.24 * sum(heights) + 0.25 * len(rows)),
        dpi=DPI,
        sharex=True,
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    order = list(dict.fromkeys(itertools.chain.from_iterable(annotation.labels() for annotation in rows.values())))
    for axis, (label, annotation) in zip(axes[:, 0], rows.items()):
        names = [name for name in order if name in annotation.labels()]
        for segment in annotation.get_overlap():
            axis.axvspan(segment.start, segment.end, color=OVERLAP, linewidth=0)
        for segment, _, name in annotation.itertracks(yield_label=True):
            axis.barh(
                names.index(name),
                segment.duration,
                left=segment.start,
                height=0.75,
                color=COLOURS[order.index(name) % len(COLOURS)],
            )
        axis.set_yticks(range(len(names)), [str(name) for name in names], fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_title(
            f"{label} (grey: two or more at once)" if annotation.get_overlap() else label, fontsize=8, loc="left", pad=2
        )
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlim(start, start + seconds)
    axes[-1, 0].set_xlabel("time (s)", fontsize=8)
    axes[-1, 0].tick_params(axis="x", labelsize=8)
    plt.close(figure)
    return figure


def error_bars(summaries, ylabel="share of the speech"):
    """Stacked bars of confusion, false alarm and miss, a bar a system; the line is the DER's 95 % interval.
    `summaries`: label -> `summary`.
    """
    figure, axis = plt.subplots(figsize=(max(4.5, 1.25 * len(summaries) + 1.5), 2.9), dpi=DPI, layout="constrained")
    bottom = np.zeros(len(summaries))
    for part, colour in zip(PARTS, (COLOURS[0], COLOURS[4], COLOURS[1])):
        values = np.array([row[part] for row in summaries.values()])
        axis.bar(range(len(summaries)), values, bottom=bottom, width=0.65, color=colour, label=part)
        bottom += values
    low, high = (np.array([row[name] for row in summaries.values()]) for name in ("low", "high"))
    axis.errorbar(
        range(len(summaries)),
        bottom,
        [bottom - low, high - bottom],
        linestyle="",
        color="black",
        capsize=4,
        linewidth=1,
    )
    for place, row in enumerate(summaries.values()):
        axis.text(place + 0.05, bottom[place] + 0.005, f"{row['DER']:.1%}", fontsize=8, va="bottom")
    axis.set_xticks(range(len(summaries)), list(summaries), fontsize=8)
    axis.set_ylabel(ylabel, fontsize=9)
    axis.set_ylim(0, max(high.max(), bottom.max()) * 1.15)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


def curves(histories, columns=("DER", "loss/val", "loss/train"), width=10.5):
    """One panel a column over epochs, one line a run (the mean where a run has several seeds)."""
    figure, axes = plt.subplots(1, len(columns), figsize=(width, 2.6), dpi=DPI, layout="constrained")
    for axis, column in zip(axes, columns):
        for number, (run, rows) in enumerate(histories.groupby("run", sort=False)):
            mean = rows.groupby("epoch")[column].mean()
            axis.plot(
                mean.index,
                mean,
                marker="o",
                markersize=2.5,
                color=COLOURS[number % len(COLOURS)],
                linestyle="-" if number < len(COLOURS) else "--",
                label=run,
            )
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_title(f"{column} (windows of dev)" if column == "DER" else column, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    plt.close(figure)
    return figure


def window(chances, truth, seconds):
    """What the model says inside one window, `(frames, speakers)`, over what is so, in the order of speakers that fits
    best.
    """
    orders = itertools.permutations(range(truth.shape[1]))
    truth = min((truth[:, list(order)] for order in orders), key=lambda ordered: np.abs(ordered - chances).sum())
    figure, axis = plt.subplots(figsize=(9.0, 0.6 + 0.6 * chances.shape[1]), dpi=DPI, layout="constrained")
    time = np.linspace(0, seconds, len(chances))
    for number in range(chances.shape[1]):
        axis.fill_between(
            time, number, number + 0.9 * truth[:, number], color=COLOURS[number], alpha=0.25, linewidth=0, step="mid"
        )
        axis.plot(time, number + 0.9 * chances[:, number], color=COLOURS[number], linewidth=1)
    axis.set_yticks(
        np.arange(chances.shape[1]) + 0.45, [f"local speaker {k + 1}" for k in range(chances.shape[1])], fontsize=8
    )
    axis.set_xlabel("time in the window (s); filled: reference, line: probability", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


def turn_player(wave, annotation, sr=16000, most=40, reference=None):
    """A player of `wave` with a button a turn that plays just that turn, in the speaker's colour; at most `most`
    turns. With a `reference` names and colours are those of `timelines` with the same one.
    """
    import base64

    if reference is not None:
        annotation = matched(annotation, reference)
    names = list(dict.fromkeys([*(reference.labels() if reference is not None else []), *annotation.labels()]))
    content = base64.b64encode(listening.encode(wave * min(1.0, 0.99 / max(np.abs(wave).max(), 1e-9)), sr)).decode()
    buttons = []
    for segment, _, name in itertools.islice(annotation.itertracks(yield_label=True), most):
        jump = (
            "const"
            f" a=this.closest('div').querySelector('audio');a.currentTime={segment.start:.2f};a.play();"
            "clearTimeout(a.stopper);"
            f"a.stopper=setTimeout(()=>a.pause(),{1000 * segment.duration:.0f});"
        )
        colour = COLOURS[names.index(name) % len(COLOURS)]
        buttons.append(
            f'<button style="margin:1px;padding:1px 4px;font-size:11px;color:white;background:{colour};border:0"'
            f' title="{html.escape(str(name))}" onclick="{jump}">{segment.start:.1f}</button>'
        )
    more = len(list(annotation.itertracks())) - most
    note = f" (the first {most} turns)" if more > 0 else ""
    legend = " ".join(
        f'<span style="color:{COLOURS[k % len(COLOURS)]}">&#9632; {html.escape(str(name))}</span>'
        for k, name in enumerate(names)
    )
    seconds = f"{len(wave) / sr:.0f} s"
    return HTML(
        f'<div style="max-width:900px"><audio controls preload="metadata" aria-label="the conversation, {seconds}"'
        f' onplay="{listening.ALONE}" style="display:block" src="data:audio/mpeg;base64,{content}"></audio>'
        f"<small>Press a second to hear that turn{note}. {legend}</small>{listening.NEEDS_SCRIPTS}<br>"
        f"{''.join(buttons)}</div>"
    )
