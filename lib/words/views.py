"""Overlapped words seen: clips with their shares, curves with their overfitting point, tables, people, saliency."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from lib.plots import COLOURS, DPI
from lib.words.cnn import LogMel
from lib.words.mixtures import SR, mix
from lib.words.scores import over_people as interval

COLOUR_MAP = plt.get_cmap("magma", 20)


def mel_picture(axis, clip, title="", mel=None):
    """The mel spectrogram of `clip` `(16000,)` in dB on `axis`, 60 dB from dark to bright."""
    decibels = (mel or LogMel(512, 400, 160, 80, 4000.0))(torch.from_numpy(np.asarray(clip, np.float32))[None])[
        0
    ].numpy()
    extent = (0, len(clip) / SR, 0, len(decibels))
    image = axis.imshow(
        decibels - decibels.max(), origin="lower", aspect="auto", cmap=COLOUR_MAP, vmin=-60, vmax=0, extent=extent
    )
    _small(axis, title, "time (s)", "mel band (0 to 4 kHz)")
    return image


def pictures(named):
    """Mel pictures `(bands, frames)` side by side: name -> picture, each on the scale of its own values."""
    figure, axes = plt.subplots(
        1, len(named), figsize=(1.9 * len(named), 2.1), dpi=DPI, layout="constrained", sharey=True
    )
    for axis, (name, picture) in zip(np.atleast_1d(axes), named.items()):
        axis.imshow(picture.numpy(), origin="lower", aspect="auto", cmap=COLOUR_MAP, extent=(0, 1, 0, len(picture)))
        _small(axis, name, "time (s)", "mel band" if axis is np.atleast_1d(axes)[0] else "")
    return _close(figure)


def share_bars(axis, words, shares, answers, most=8):
    """True and predicted shares of the words that are there and of the most probable others, side by side."""
    answers = answers if isinstance(answers, dict) else {"answer": answers}
    last = list(answers.values())[-1]
    colours = (COLOURS[7], *COLOURS[len(answers) == 1 :])  # a model alone has the colour that it has as the second
    order = np.argsort(-np.maximum(shares, last * 0.999))[:most][::-1]
    places, height = np.arange(len(order)), 0.8 / (1 + len(answers))
    for number, (name, values) in enumerate({"true share": shares, **answers}.items()):
        axis.barh(
            places + (len(answers) / 2 - number) * height,
            values[order],
            height,
            color=colours[number],
            label=name,
        )
    axis.set_yticks(places, [words[k] for k in order], fontsize=8)
    axis.set_xlim(0, 1)
    _small(axis, "", "share", "")
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def clip_view(clip, words, shares, answers):
    """A figure: the clip's mel picture, and its true and predicted shares."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), dpi=DPI, layout="constrained")
    bar = figure.colorbar(mel_picture(left, clip, "the clip"), ax=left)
    bar.set_label("dB re loudest", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    share_bars(right, words, shares, answers)
    return _close(figure)


def parts_of(pool, plan):
    """What is in a clip: label -> wave, the clip first, then its words by falling share."""
    clip, parts, _ = mix(pool, plan)
    order = np.argsort(-plan.shares)
    names = [
        f"{pool.words[pool.word[plan.numbers[k]]]} ({plan.shares[k]:.0%}), {pool.speaker[plan.numbers[k]]}"
        for k in order
    ]
    return {"the clip": clip, **{name: parts[k] for name, k in zip(names, order)}}


def overfitting(histories, uniform=None, unit="epoch"):
    """KL of training and validation over epochs (or what `unit` calls them), a panel a run (name -> history), the best
    marked; `uniform`: a line.

    Where a history has `val_as_is` (validation without a temperature), that is drawn too.
    """
    figure, axes = plt.subplots(
        1,
        len(histories),
        figsize=(4.1 * len(histories), 3.4),
        dpi=DPI,
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (name, history) in zip(axes.flat, histories.items()):
        lines = [
            ("train_loss", COLOURS[7], "-", "training"),
            ("val_loss", COLOURS[0], "-", "validation"),
            ("val_as_is", COLOURS[0], ":", "validation, as answered"),
        ]
        for column, colour, style, label in [line for line in lines if line[0] in history]:
            axis.plot(history["epoch"], history[column], style, marker="o", markersize=3, color=colour, label=label)
        best = history["val_loss"].idxmin()
        kept = f"kept: {unit.split()[0]} {history['epoch'][best]:.0f}"
        axis.plot(history["epoch"][best], history["val_loss"][best], "*", markersize=12, color=COLOURS[1], label=kept)
        if uniform is not None:
            axis.axhline(uniform, color="black", linewidth=1, linestyle="--", label=f"uniform guess: {uniform:.2f}")
        _small(axis, name, unit, "KL divergence (nats)")
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)  # over no line
        axis.grid(axis="y", alpha=0.3)
    if uniform is not None:
        axes[0, 0].set_ylim(top=min(axes[0, 0].get_ylim()[1], 1.6 * uniform))  # an untrained head may start far above
    return _close(figure)


def ladder(table, uniform=None):
    """Rows of a table (recipe, kl, kl_low, kl_high, seed_spread) from top to bottom: KL with its interval, seeds'
    spread in the label.
    """
    figure, axis = plt.subplots(figsize=(8.2, 0.36 * len(table) + 0.9), dpi=DPI, layout="constrained")
    places = np.arange(len(table))[::-1]
    axis.errorbar(
        table["kl"],
        places,
        xerr=[table["kl"] - table["kl_low"], table["kl_high"] - table["kl"]],
        fmt="o",
        color=COLOURS[0],
        capsize=3,
    )
    if uniform is not None:
        axis.axvline(uniform, color="black", linewidth=1, linestyle="--", label=f"uniform guess: {uniform:.2f}")
        axis.legend(fontsize=8)
    axis.set_yticks(places, table["recipe"], fontsize=8)
    _small(axis, "", "KL on unseen voices (nats; less is better; 95 % interval, words drawn anew)", "")
    axis.grid(axis="x", alpha=0.3)
    return _close(figure)


def people(tables):
    """A panel a table (name -> rows person, kl, uniform): each person's KL, best first, beside the uniform guess, and
    the mean with its interval over people.
    """
    figure, axes = plt.subplots(
        1, len(tables), figsize=(4.4 * len(tables), 3.4), dpi=DPI, layout="constrained", squeeze=False
    )
    for axis, (name, table) in zip(axes.flat, tables.items()):
        rows = table.sort_values("kl", ascending=False)
        places, found = np.arange(len(rows)), interval(rows["kl"])
        axis.axvspan(found.low, found.high, color=COLOURS[0], alpha=0.15, linewidth=0, label="mean, 95 % interval")
        axis.axvline(found.mean, color=COLOURS[0], linewidth=1)
        axis.plot(rows["kl"], places, "o", color=COLOURS[0], markersize=5, label="never heard")
        axis.plot(rows["uniform"], places, "|", color="black", markersize=9, label="uniform guess")
        axis.set_yticks(places, rows["person"], fontsize=8)
        _small(axis, f"{name}, {len(rows)} people", "KL (nats; less is better)", "")
        axis.grid(axis="x", alpha=0.3)
    axes.flat[0].legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.1), ncols=3, frameon=False)
    return _close(figure)


def confusion(matrix, words):
    """Where probability goes, by the loudest word: rows said, columns answered; words that were in the clip too are
    taken out.
    """
    figure, axis = plt.subplots(figsize=(7.4, 6.6), dpi=DPI, layout="constrained")
    picture = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=max(0.3, float(matrix.max())))
    axis.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
    axis.set_yticks(range(len(words)), words, fontsize=8)
    _small(axis, "", "answered", "said (loudest)")
    figure.colorbar(picture, shrink=0.6).set_label("mean probability", fontsize=8)
    return _close(figure)


def calibration(tables):
    """Answered against true shares (name -> table of `word_scores.calibration`); on the diagonal an answer means what
    it says.
    """
    figure, axis = plt.subplots(figsize=(6.0, 3.0), dpi=DPI, layout="constrained")
    axis.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
    for number, (name, table) in enumerate(tables.items()):
        axis.plot(table["answered"], table["true"], marker="o", markersize=3, color=COLOURS[number], label=name)
    _small(axis, "", "answered share", "true share, mean")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)  # beside it: over no line
    return _close(figure)


def saliency(model, clip, word):
    """How much each point of the network's input moves the log-probability of `word`: |gradient|, smoothed: `(bands,
    frames)`, 0 to 1.

    The input is the mel picture (the mean over resolutions where there are several). Source: Simonyan et al., arXiv
    1312.6034.
    """
    model.eval()
    wave = torch.from_numpy(np.asarray(clip, np.float32))[None]
    if hasattr(model, "frozen"):  # a pretrained encoder: its own input, (frames, bands), through the frozen stages too
        seen = model.prepare(wave).requires_grad_(True)
        model(features=model.frozen(seen)).log_shares[0, word].backward()
        found = seen.grad[0, 0].abs().T
    else:
        seen = model.features(wave).detach().requires_grad_(True)
        model(features=seen).log_shares[0, word].backward()
        found = seen.grad[0].abs() if seen.dim() == 3 else seen.grad[0].abs().mean(0)
    found = torch.nn.functional.avg_pool2d(found[None, None], 5, 1, 2)[0, 0]
    return (found / found.max().clamp_min(1e-12)).numpy()


def show_saliency(model, clip, words, chosen):
    """The clip beside what moves the answer for each of the words `chosen`."""
    figure, axes = plt.subplots(
        1, 1 + len(chosen), figsize=(2.5 * (1 + len(chosen)), 2.4), dpi=DPI, layout="constrained"
    )
    mel_picture(axes[0], clip, "the clip")
    for axis, name in zip(axes[1:], chosen):
        map_ = saliency(model, clip, words.index(name))
        axis.imshow(map_, origin="lower", aspect="auto", cmap=plt.get_cmap("viridis", 20), extent=(0, 1, 0, len(map_)))
        _small(axis, f"what moves '{name}'", "time (share of the input)", "mel band of the input")
    return _close(figure)


def first_layer(model, limit=16):
    """The filters of the first convolution of the earlier solution's network: bands upwards, time to the right."""
    kernels = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d)).weight.detach()[
        :limit, 0
    ]
    figure, axes = plt.subplots(1, len(kernels), figsize=(0.95 * len(kernels), 1.6), dpi=DPI, layout="constrained")
    for axis, kernel in zip(np.atleast_1d(axes), kernels):
        axis.imshow(
            kernel.numpy(),
            origin="lower",
            cmap="coolwarm",
            vmin=-float(kernels.abs().max()),
            vmax=float(kernels.abs().max()),
        )
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle("filters of the first layer: bands upwards, time to the right", fontsize=9)
    return _close(figure)


def _small(axis, title, xlabel, ylabel):
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(xlabel, fontsize=8)
    axis.set_ylabel(ylabel, fontsize=8)
    axis.tick_params(labelsize=8)


def _close(figure):
    plt.close(figure)  # or the notebook would draw it a second time at the end of the cell
    return figure
