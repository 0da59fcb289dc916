"""Ideas as drawings, made by code: what is done to a sound, and how a number is counted. Each returns a picture with
alt text. Everything drawn is made up, small enough to be followed by eye, and the same each time.
"""

import matplotlib.pyplot as plt
import numpy as np

from lib.listening.pictures import picture

BLUE, ORANGE, GREEN, GREY, RED = "#3b75af", "#ef8636", "#4f9d4a", "#b8b8b8", "#c53a32"
SMALL, TEXT = 9, 10  # points


def _panels(columns, width=9.0, height=2.3, **how):
    return plt.subplots(1, columns, figsize=(width, height), dpi=90, layout="constrained", **how)


def _bare(axis, title=""):
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=TEXT)
    for side in axis.spines.values():
        side.set_visible(False)
    return axis


def _babble(seed, samples=400, start=0.0, stop=1.0):
    rng, time = np.random.default_rng(seed), np.linspace(0, 1, samples)
    envelope = np.convolve(rng.random(samples) ** 4, np.hanning(40), "same")
    wave = np.sin(2 * np.pi * (18 + 6 * seed) * time + rng.random()) * envelope
    return wave / abs(wave).max() * ((time >= start) & (time <= stop))


def mixture(sir_db=3.0, snr_db=9.0):
    """How a mixture is built: target, others and background, each scaled to its ratio, and their sum."""
    target, other = _babble(1, stop=0.8), _babble(3, start=0.3)
    noise = np.random.default_rng(0).standard_normal(400)

    def at(wave, ratio):
        return wave * np.sqrt((target**2).mean() / (wave**2).mean()) * 10 ** (-ratio / 20)

    parts = [target, at(other, sir_db), at(noise, snr_db)]
    titles = ["target", f"+  others, {sir_db:g} dB under it", f"+  background, {snr_db:g} dB under it", "=  mixture"]
    figure, axes = _panels(4, sharey=True, height=1.9)
    for axis, wave, title, colour in zip(axes, [*parts, sum(parts)], titles, (BLUE, ORANGE, GREY, "k")):
        _bare(axis, title).plot(wave, color=colour, lw=0.8)
    return picture(
        figure, "Four waves side by side: target plus quieter others plus faint background gives the mixture."
    )


def mask():
    """What a mask does, on eight bands and ten frames: the mixture's magnitudes, times shares, give the estimate."""
    rng = np.random.default_rng(5)
    wanted, other = (rng.random((8, 10)) * (rng.random((8, 10)) < 0.45) for _ in range(2))
    mixed = wanted + other
    share = wanted / np.maximum(mixed, 1e-9)
    figure, axes = _panels(3, height=2.6)
    titles = ("mixture: how much there is", "×  mask: whose it is, 0 to 1", "=  estimate")
    for axis, values, title, colours in zip(axes, (mixed, share, mixed * share), titles, ("magma", "gray", "magma")):
        _bare(axis, title).imshow(values, cmap=colours, origin="lower", vmin=0, vmax=1)
    for (band, frame), value in np.ndenumerate(share):
        if mixed[band, frame]:
            ink = "k" if value > 0.5 else "w"
            axes[1].text(frame, band, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
    return picture(figure, "A small spectrogram, a mask of shares written into its cells, and their product.")


def x_vector():
    """What an x-vector sees: five layers, of which three look at a longer and longer stretch, then a mean and a
    deviation over all time.
    """
    figure, axis = plt.subplots(figsize=(9, 3.2), dpi=90, layout="constrained")
    _bare(axis)
    for layer, reach in enumerate((0, 2, 4, 7, 7, 7)):
        for frame in range(-20, 21):
            seen = abs(frame) <= 7 - reach
            axis.plot(frame, layer, "s", ms=5, color=BLUE if seen else GREY, alpha=1 if seen else 0.35)
    for side in (-1, 1):  # the edges of what the frame in the middle of layers 3 to 5 depends on
        axis.plot([7 * side, 5 * side, 3 * side, 0], range(4), color=BLUE, lw=0.8)
    axis.plot([0, 0], [3, 5], color=BLUE, lw=0.8)
    for layer, combined in enumerate(("5 frames", "3 frames, 2 apart", "3 frames, 3 apart", "1 frame", "1 frame"), 1):
        axis.text(21.5, layer, f"combines {combined}", fontsize=SMALL, va="center")
    axis.text(21.5, 0, "15 frames in all", fontsize=SMALL, va="center", color=BLUE)
    for layer, name in enumerate(("frames of sound", "layer 1", "layer 2", "layer 3", "layer 4", "layer 5")):
        axis.text(-21.5, layer, name, ha="right", va="center", fontsize=SMALL)
    axis.annotate("", (0, 6.4), (0, 5.3), arrowprops={"arrowstyle": "->"})
    axis.text(0, 6.5, "mean and deviation over all frames  →  512 numbers", ha="center", va="bottom", fontsize=TEXT)
    axis.set(xlim=(-30, 40), ylim=(-0.6, 7.4))
    return picture(
        figure, "Rows of frames: the middle one of layer 3 depends on 15 below it, a cone; all end in 512 numbers."
    )


def overlap_add(size=64, hop=32, count=6):
    """Frames faded by a Hann window, each shifted by a hop, and the sum of the windows, which is flat."""
    window, total = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size), np.zeros(hop * (count - 1) + size)
    figure, axis = plt.subplots(figsize=(8, 2.2), dpi=90, layout="constrained")
    for number in range(count):
        place = np.arange(size) + number * hop
        axis.fill_between(place, window, alpha=0.35, color=(BLUE, ORANGE)[number % 2], lw=0)
        total[place] += window
    axis.plot(total, "k", lw=1.5, label="sum of the windows")
    axis.set(xlabel="time (samples)", yticks=[0, 0.5, 1], ylim=(0, 1.25))
    axis.legend(fontsize=SMALL, loc="upper right", frameon=False)
    return picture(figure, "Overlapping bell-shaped windows, whose sum is a flat line but at the two ends.")


def projection(angle=28.0):
    """SI-SDR as geometry: the estimate as an arrow, its shadow on the reference, and the rest at a right angle."""
    figure, axis = plt.subplots(figsize=(6, 2.6), dpi=90, layout="constrained")
    tip = 4 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    arrows = (((0, 0), (5.2, 0), "reference", GREY), ((0, 0), tip, "estimate", "k"))
    arrows += (((0, -0.04), (tip[0], -0.04), "wanted part", BLUE), ((tip[0], 0), tip, "rest", RED))
    for start, end, name, colour in arrows:
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
        where, turned = (np.add(start, end) / 2, angle) if name == "estimate" else (np.add(start, end) / 2, 0)
        shift = {"reference": (2.2, 0.12), "estimate": (0, 0.2), "wanted part": (0, -0.35), "rest": (0.35, 0)}[name]
        axis.text(*np.add(where, shift), name, color=colour, rotation=turned, ha="center", fontsize=TEXT)
    axis.set(xlim=(-0.2, 5.6), ylim=(-0.5, 2.3), aspect="equal")
    _bare(axis)
    return picture(
        figure, "The estimate as an arrow: its shadow on the reference is wanted, the upright remainder is not."
    )


def two_voices(seed=2):
    """A map of embeddings with two voices, and three enrollments: a good one, one between the two, a wrong one."""
    rng = np.random.default_rng(seed)
    anna, ben = rng.normal((-1.2, 0), 0.55, (40, 2)), rng.normal((1.0, 0.4), 0.55, (40, 2))
    figure, axis = plt.subplots(figsize=(6, 3), dpi=90, layout="constrained")
    for points, name, colour in ((anna, "Anna", BLUE), (ben, "Ben", ORANGE)):
        axis.plot(*points.T, "o", ms=4, alpha=0.6, color=colour, label=f"{name}, a second at a time")
    marks = (  # a star, where its words stand and how, so that no line crosses words
        ((-1.25, 0.1), (-0.7, -1.45), "right", "a good enrollment: Anna comes out"),
        ((-0.05, 0.1), (-0.05, -1.95), "center", "a short, noisy one: either"),
        ((0.75, 0.2), (0.4, -1.45), "left", "nearer to Ben: the wrong person"),
    )
    for star, words, side, said in marks:
        axis.plot(*star, "*", ms=14, color="k")
        axis.plot((star[0], star[0]), (star[1], words[1] + 0.22), color="k", lw=0.6)
        axis.text(*words, said, ha=side, va="center", fontsize=SMALL)
    _bare(axis).legend(fontsize=SMALL, frameon=False, loc="upper left")
    axis.set(xlim=(-3, 3), ylim=(-2.4, 2.2))
    return picture(
        figure, "Two clouds of points, two voices, and three stars for enrollments: inside one, between, astray."
    )


def errors():
    """What a DER counts: a reference and an answer as bars, with what is missed, false and confused marked."""
    bars = {  # row: (name, start, end, colour)
        "reference": [("Anna", 0, 6, BLUE), ("Ben", 5, 10, ORANGE)],
        "answer": [("Anna", 1, 7, BLUE), ("Anna", 8, 9, BLUE), ("Ben", 7, 8, ORANGE), ("Ben", 9, 12, ORANGE)],
    }
    figure, axis = plt.subplots(figsize=(8, 2.4), dpi=90, layout="constrained")
    for row, (name, turns) in zip((1.2, 0), bars.items()):
        for who, start, end, colour in turns:
            axis.broken_barh([(start, end - start)], (row + 0.42 * (who == "Anna"), 0.36), color=colour)
        axis.text(-0.2, row + 0.4, name, ha="right", va="center", fontsize=TEXT)
    wrong = [(0, 1, "miss"), (5, 6, "miss"), (6, 7, "confusion"), (8, 9, "confusion"), (10, 12, "false alarm")]
    for start, end, name in wrong:
        axis.axvspan(start, end, color={"miss": GREY, "confusion": RED, "false alarm": GREEN}[name], alpha=0.35, lw=0)
        axis.text((start + end) / 2, 2.15, name, ha="center", fontsize=SMALL, rotation=0 if end - start > 1 else 25)
    _bare(axis).set(xlim=(-2, 12.5), ylim=(-0.1, 2.7))
    axis.set_xticks(range(0, 13, 2), [f"{second} s" for second in range(0, 13, 2)], fontsize=SMALL)
    return picture(figure, "Bars of two people, true and answered: a missed, a confused and a falsely alarmed stretch.")


def permutations():
    """Permutation-invariant loss: one answer of two rows against both orders of the truth; the cheaper order counts."""
    rng = np.random.default_rng(1)
    truth = np.array([[1, 1, 1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1, 0, 0.0]])
    answer = np.clip(truth[::-1] * 0.8 + 0.1 + 0.08 * rng.standard_normal(truth.shape), 0.02, 0.98)
    figure, axes = _panels(3, height=2.0)
    losses = [-(t * np.log(answer) + (1 - t) * np.log(1 - answer)).mean() for t in (truth, truth[::-1])]
    titles = [
        "the answer",
        f"truth: 1 is Anna, 2 is Ben\nloss {losses[0]:.2f}",
        f"1 is Ben, 2 is Anna\nloss {losses[1]:.2f}",
    ]
    for axis, values, title in zip(axes, (answer, truth, truth[::-1]), titles):
        _bare(axis, title).imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_yticks([0, 1], ["local 1", "local 2"], fontsize=SMALL)
    axes[2].set_title(f"{titles[2]}: this one counts", fontsize=TEXT, color=GREEN)
    return picture(
        figure, "Two rows of an answer beside the truth in both orders; the order with the lower loss counts."
    )


def shares():
    """Words spoken over each other: three waves with their shares of the clip's energy, and the label as bars."""
    parts = {"mike": (0.6, 1, 0.1, 0.75), "golf": (0.3, 2, 0.3, 0.95), "zero": (0.1, 4, 0.0, 0.6)}
    figure, (left, right) = _panels(2, height=2.2, width=8)
    for row, (word, (share, seed, start, stop)) in enumerate(parts.items()):
        wave = _babble(seed, start=start, stop=stop)
        wave = wave * np.sqrt(share / (wave**2).sum())
        left.plot(wave * 5 - row, lw=0.8, color=(BLUE, ORANGE, GREEN)[row])
        left.text(-10, -row, word, ha="right", va="center", fontsize=TEXT)
    _bare(left, "three words within one second")
    right.bar(list(parts), [one[0] for one in parts.values()], color=(BLUE, ORANGE, GREEN), width=0.6)
    right.set_title("their shares of the energy: the label", fontsize=TEXT)
    right.tick_params(labelsize=SMALL)
    return picture(figure, "Three words as waves of unlike size, and three bars for their shares of the energy.")


def divergence():
    """KL divergence: a label, a cautious answer and a sure wrong one, with what each costs in nats."""
    label, names = np.array([0.6, 0.4, 0.0, 0.0]), ["mike", "golf", "zero", "papa"]
    answers = {"cautious": np.array([0.4, 0.3, 0.2, 0.1]), "sure and wrong": np.array([0.02, 0.02, 0.95, 0.01])}
    figure, axes = _panels(2, width=8, height=2.2, sharey=True)
    for axis, (name, answer) in zip(axes, answers.items()):
        there = label > 0
        cost = (label[there] * np.log(label[there] / answer[there])).sum()
        axis.bar(np.arange(4) - 0.2, label, 0.38, color=BLUE, label="label")
        axis.bar(np.arange(4) + 0.2, answer, 0.38, color=ORANGE, label="answer")
        axis.set_xticks(range(4), names, fontsize=SMALL)
        axis.set_title(f"{name}: {cost:.2f} nats", fontsize=TEXT)
    axes[0].legend(fontsize=SMALL, frameon=False)
    return picture(
        figure, "Bars of a label beside two answers: the cautious one costs little, the sure wrong one much."
    )


def equal_error(cut=0.55):
    """Scores of pairs of one person and of two as hills, and a threshold where both errors are equally large."""
    x = np.linspace(0, 1, 300)
    other, same = (np.exp(-0.5 * ((x - centre) / 0.12) ** 2) for centre in (cut - 0.17, cut + 0.17))
    figure, axis = plt.subplots(figsize=(7, 2.4), dpi=90, layout="constrained")
    axis.plot(x, other, color=ORANGE, label="two people")
    axis.plot(x, same, color=BLUE, label="one person")
    axis.fill_between(x, other, where=x >= cut, color=ORANGE, alpha=0.4, label="accepted, wrongly")
    axis.fill_between(x, same, where=x <= cut, color=BLUE, alpha=0.4, label="rejected, wrongly")
    axis.axvline(cut, color="k", lw=1)
    axis.set(xlabel="cosine of two clips", yticks=[])
    axis.legend(fontsize=SMALL, frameon=False, loc="upper left")
    return picture(
        figure, "Two hills of scores that overlap, and a line where the two shaded errors are equally large."
    )


def remix():
    """Remixing: a table of songs and stems, and mixtures that take each stem from a song of its own."""
    stems, colours = ("vocals", "drums", "bass", "other"), (BLUE, ORANGE, GREEN, RED)
    figure, axes = _panels(2, width=8, height=2.1)
    for axis, picks, title in zip(axes, ((0, 0, 0, 0), (2, 0, 3, 1)), ("as it was: one song", "remixed: four songs")):
        for song in range(4):
            for place, colour in enumerate(colours):
                alpha = 1.0 if picks[place] == song else 0.15
                axis.add_patch(plt.Rectangle((place, -song), 0.9, 0.8, color=colour, alpha=alpha, lw=0))
            axis.text(-0.15, 0.4 - song, f"song {song + 1}", ha="right", va="center", fontsize=SMALL)
        for place, stem in enumerate(stems):
            axis.text(place + 0.45, 1.0, stem, ha="center", fontsize=SMALL)
        _bare(axis).set_title(title, fontsize=TEXT, pad=10)
        axis.set(xlim=(-1.2, 4.1), ylim=(-3.1, 1.3))
    return picture(figure, "A table of four songs and four stems: one row is a song, stems from four rows are a remix.")
