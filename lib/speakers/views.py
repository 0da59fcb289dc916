"""Pictures of speaker recognition: mel images, maps of embeddings, who is taken for whom, and what a network looks
at.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from lib import extras
from lib.plots import COLOURS, DPI

MAP_COLOURS = plt.get_cmap("tab20").colors


def mel_images(images, titles=None, columns=4, seconds=4.0):
    """Rows of log-mel images `(n, 3, size, size)` as `log_mel_image` makes them; low frequencies at the bottom."""
    count = len(images)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        min(columns, count),
        figsize=(2.2 * min(columns, count), 2.8 * rows),
        dpi=DPI,
        squeeze=False,
        layout="constrained",
    )
    for place, axis in enumerate(axes.flat):
        (
            axis.axis("off")
            if place >= count
            else _draw(axis, images[place][0].numpy(), seconds, titles[place] if titles else "")
        )
    return _close(figure)


def _draw(axis, picture, seconds, title="", **how):
    axis.imshow(
        picture, aspect="auto", extent=(0, seconds, 0, 128), cmap=how.pop("cmap", plt.get_cmap("magma", 20)), **how
    )
    axis.set_title(title, fontsize=8)
    axis.set_xlabel("time (s)", fontsize=8)
    axis.set_ylabel("mel band (60 to 7,600 Hz)", fontsize=8)
    axis.tick_params(labelsize=8)


def maps(embeddings, table, by="speaker", seed=0):
    """A t-SNE map for each of `embeddings` (label -> `(clips, dim)`), a dot a clip, coloured by a column of `table`.

    Near dots are alike; distances between far groups mean nothing. Source: van der Maaten and Hinton, JMLR 9, 2008
    (scikit-learn).
    """
    names = sorted(table[by].astype(str).unique())
    figure, axes = plt.subplots(
        1, len(embeddings), figsize=(4.3 * len(embeddings), 3.6), dpi=DPI, squeeze=False, layout="constrained"
    )
    for axis, (label, points) in zip(axes.flat, embeddings.items()):
        place = flat_map(points, seed)
        for number, name in enumerate(names):
            own = (table[by].astype(str) == name).to_numpy()
            axis.scatter(
                *place[own].T, s=11, color=MAP_COLOURS[number % 20], marker="os^Dv<>P*X"[number // 20 % 10], label=name
            )
        axis.set_title(label, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    if len(names) <= 30:
        axes.flat[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 + (len(names) > 20))
    figure.suptitle(f"{len(names)} {by}s", fontsize=9)
    return _close(figure)


def flat_map(points, seed=0):
    """`(clips, dim)` -> `(clips, 2)` by t-SNE on cosine distance; the same seed gives the same map."""
    with extras():
        from sklearn.manifold import TSNE

    perplexity = min(15, (len(points) - 1) / 3)
    return TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed, max_iter=500).fit_transform(
        np.asarray(points, np.float32)
    )


def confusion(truth, answers, people):
    """Who is taken for whom: rows are the people who spoke, columns the answers, in shares of a row."""
    counts = pd.crosstab(pd.Categorical(truth, people), pd.Categorical(answers, people), dropna=False).to_numpy(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(8.6, 8.0), dpi=DPI, layout="constrained")
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(people)), people, rotation=90, fontsize=8)
    axis.set_yticks(range(len(people)), people, fontsize=8)
    axis.set_xlabel("answer", fontsize=8)
    axis.set_ylabel("who spoke", fontsize=8)
    figure.colorbar(picture, shrink=0.6).set_label("share of the person's clips", fontsize=8)
    return _close(figure)


def most_confused(truth, answers, rows=5):
    """The pairs most often mistaken, either way round: a DataFrame person, taken_for, mistakes, of (clips of the
    two).
    """
    truth, answers = np.asarray(truth, dtype=object), np.asarray(answers, dtype=object)
    wrong = pd.DataFrame(
        [sorted(pair) for pair in zip(truth[truth != answers], answers[truth != answers])],
        columns=["person", "taken_for"],
    )
    table = wrong.value_counts().rename("mistakes").reset_index().head(rows)
    table["of"] = [int(np.isin(truth.astype(str), [a, b]).sum()) for a, b in zip(table["person"], table["taken_for"])]
    return table


def saliency(net, images, answers):
    """How much each point of the images moves the answer's logit: |gradient x contrast|, smoothed: `(n, size, size)`, 0
    to 1 each.

    net: a `SpeakerNet` that starts at the image. Source: Simonyan et al., arXiv 1312.6034.
    """
    images = images.clone().requires_grad_(True)
    net.eval()
    net(images).logits.gather(1, torch.as_tensor(answers)[:, None]).sum().backward()
    contrast = images.detach() - images.detach().amin((1, 2, 3), keepdim=True)
    map_ = (images.grad * contrast).sum(1, keepdim=True).abs()
    map_ = torch.nn.functional.avg_pool2d(map_, 15, 1, 7)[:, 0]
    return map_ / map_.amax((1, 2), keepdim=True).clamp_min(1e-12)


def show_saliency(images, maps_, titles, seconds=4.0):
    """Above each log-mel image what its network looks at, and beside them the share of attention a band."""
    figure, axes = plt.subplots(
        2, len(images) + 1, figsize=(2.3 * (len(images) + 1), 4.2), dpi=DPI, layout="constrained", squeeze=False
    )
    for column, (image, map_, title) in enumerate(zip(images, maps_, titles)):
        _draw(axes[0, column], image[0].numpy(), seconds, title)
        _draw(axes[1, column], map_.numpy(), seconds, "what moves the answer", cmap="viridis", vmin=0, vmax=1)
    bands = maps_.mean((0, 2)).numpy()
    axes[1, -1].plot(bands / bands.sum() * 100, np.linspace(128, 0, len(bands)), color=COLOURS[0])
    axes[1, -1].set_title("average over time (%)", fontsize=8)
    axes[1, -1].tick_params(labelsize=8)
    axes[0, -1].axis("off")
    return _close(figure)


def scores(tried, threshold):
    """Histograms of the cosines of pairs of one person and of two, with the threshold of equal errors."""
    figure, axis = plt.subplots(figsize=(6.0, 2.6), dpi=DPI, layout="constrained")
    edges = np.linspace(tried.scores.min(), 1, 60)
    for name, own, colour in (("one person", tried.same, COLOURS[2]), ("two people", ~tried.same, COLOURS[1])):
        axis.hist(
            tried.scores[own], bins=edges, density=True, alpha=0.65, color=colour, label=f"{name} ({own.sum():,} pairs)"
        )
    axis.axvline(threshold, color="black", linewidth=1, linestyle="--", label="equal errors")
    axis.set_xlabel("cosine", fontsize=9)
    axis.set_ylabel("density", fontsize=9)
    axis.legend(fontsize=8)
    return _close(figure)


def few_shot_curves(table, interval):
    """New people learned and old ones kept over the number of examples.

    `table`: of `few_shot`; interval(values) -> (mean, low, high).
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 2.8), dpi=DPI, layout="constrained")
    for axis, column, title in zip(
        axes, ("new", "old_after"), ("the new person's clips named right", "old people's clips named right")
    ):
        for number, (rehearsed, rows) in enumerate(table.groupby("rehearsed")):
            stats = np.array([interval(part[column]) for _, part in rows.groupby("examples")])
            places = np.array(sorted(rows["examples"].unique())) + 0.12 * (number - 0.5)
            axis.errorbar(
                places,
                stats[:, 0],
                [stats[:, 0] - stats[:, 1], stats[:, 2] - stats[:, 0]],
                marker="o",
                capsize=3,
                color=COLOURS[number],
                label="with rehearsal" if rehearsed else "the newcomer alone",
            )
        axis.set(title=title, ylim=(-0.03, 1.05))
        axis.set_xlabel("examples of the new person", fontsize=9)
        axis.grid(axis="y", alpha=0.3)
    axes[1].axhline(table["old_before"].iloc[0], color="black", linewidth=1, linestyle="--", label="before")
    axes[1].legend(fontsize=8)
    return _close(figure)


def shots(rows, by):
    """A panel a microphone: accuracy with its interval over people, over the clips a person is learned from; a line for
    each value of the column `by`. rows: of `lib.speakers.few.shots_table`.
    """
    rows = pd.DataFrame(rows)
    heard = list(dict.fromkeys(rows["heard"]))
    figure, axes = plt.subplots(
        1, len(heard), figsize=(4.2 * len(heard), 3.0), dpi=DPI, layout="constrained", sharey=True, squeeze=False
    )
    for axis, microphone in zip(axes.flat, heard):
        there = rows[rows["heard"] == microphone]
        for number, (name, part) in enumerate(there.groupby(by, sort=False)):
            axis.errorbar(
                part["clips"] + 0.07 * (number - 1.5),
                part["accuracy"],
                [part["accuracy"] - part["low"], part["high"] - part["accuracy"]],
                marker="o",
                capsize=3,
                color=COLOURS[number],
                label=name,
            )
        axis.set(title=f"asked through: {microphone}", xticks=sorted(rows["clips"].unique()), ylim=(0, 1.03))
        axis.set_xlabel("clips that teach a person", fontsize=9)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel("share named right", fontsize=9)
    axes[0, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _close(figure)


def known(moved, read):
    """What frozen features know. Left: how far each network's features move (name -> table of `knowing.moves`). Right:
    what a linear classifier reads off them (question -> name -> `Interval`, and `chance`).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.2), dpi=DPI, layout="constrained")
    kinds = next(iter(moved.values()))["moved"]
    for number, (name, table) in enumerate(moved.items()):
        places = np.arange(len(kinds)) + 0.19 * (number - 1.5)
        spread = [table["mean"] - table["low"], table["high"] - table["mean"]]
        left.bar(places, table["mean"], 0.18, yerr=spread, capsize=2, color=COLOURS[number], label=name)
    left.set_xticks(range(len(kinds)), kinds, fontsize=9)
    left.axhline(1, color="black", linestyle=":", linewidth=1)
    left.set_ylim(0, 1.1)
    left.set_ylabel("cosine distance (dotted: another person)", fontsize=9)
    left.set_title("how far features move", fontsize=9)
    for place, answers in enumerate(read.values()):
        for number, name in enumerate(moved):
            found = answers[name]
            spread = [[found.mean - found.low], [found.high - found.mean]]
            right.bar(place + 0.19 * (number - 1.5), found.mean, 0.18, yerr=spread, capsize=2, color=COLOURS[number])
        right.plot([place - 0.42, place + 0.42], [answers["chance"]] * 2, color="black", linestyle="--", linewidth=1)
    right.set_xticks(range(len(read)), list(read), fontsize=9)
    right.set_ylim(0, 1.05)
    right.set_title("what a linear classifier reads off them (dashed: chance)", fontsize=9)
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(moved))
    return _close(figure)


def _close(figure):
    plt.close(figure)  # or the notebook would draw it a second time at the end of the cell
    return figure
