"""Models as drawings: boxes in the order of the signal, coloured by what trains."""

import matplotlib.pyplot as plt

from lib.listening.pictures import picture

TRAINS, PARTLY, FROZEN, PLAIN = "#ef8636", "#f7c79b", "#dde3ea", "#ffffff"
SMALL = 8  # points
PARTS = {  # group of a ConVoiFilter -> (left, bottom, width) of its box
    "xvector": (0.0, 1.2, 1.3),
    "spk_ffn": (1.55, 1.2, 1.15),
    "condition": (2.95, 1.2, 1.4),
    "pre_ffn": (3.0, 0.0, 1.2),
    "mask": (11.2, 0.0, 1.0),
}


def _box(axis, left, bottom, width, name, colour, height=0.8):
    axis.add_patch(plt.Rectangle((left, bottom), width, height, facecolor=colour, edgecolor="0.3", lw=0.8))
    axis.text(left + width / 2, bottom + height / 2, name, ha="center", va="center", fontsize=SMALL)


def _arrow(axis, start, end):
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 0.8, "color": "0.3"})


def _empty(axis, right, top, left=-0.2, bottom=-0.4):
    axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axis.axis("off")


def opened(tables, columns=2):
    """Which parts of the extractor a strategy opens: a drawing of the model a strategy, coloured by what trains.

    tables: strategy -> the table that `lib.training.freezing.freeze` returns (columns group, parameters, trainable).
    Orange trains, pale orange trains in part, grey is frozen. A block is drawn as its attention above the rest.
    """
    rows = -(-len(tables) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 1.35 * rows), dpi=90, squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, table) in zip(axes.flat, tables.items()):
        _extractor(axis, table.set_index("group"))
        share = table["trainable"].sum() / table["parameters"].sum()
        axis.set_title(f"{name}: {share:.1%} trains", fontsize=9, loc="left")
    said = ", ".join(tables)
    return picture(
        figure, f"The extractor as boxes from the enrollment to the mask, orange where it trains, for: {said}."
    )


def _extractor(axis, table):
    def colour(group):
        share = table.loc[group, "trainable"] / table.loc[group, "parameters"]
        return TRAINS if share == 1 else PARTLY if share else FROZEN

    for group, (left, bottom, width) in PARTS.items():
        _box(axis, left, bottom, width, group, colour(group))
    blocks = [name.split()[1] for name in table.index if name.endswith("attn")]
    step = 6.6 / len(blocks)
    for place, block in enumerate(blocks):
        left = 4.5 + place * step
        _box(axis, left, 0.42, step - 0.2, "attn", colour(f"block {block} attn"), 0.4)
        _box(axis, left, 0.0, step - 0.2, "rest", colour(f"block {block} rest"), 0.42)
        axis.text(left + step / 2 - 0.1, 0.95, f"block {block}", ha="center", fontsize=SMALL)
    arrows = [((1.3, 1.6), (1.55, 1.6)), ((2.7, 1.6), (2.95, 1.6)), ((3.6, 1.2), (3.6, 0.8)), ((4.2, 0.4), (4.5, 0.4))]
    arrows += [((4.3 + step * place, 0.4), (4.5 + step * place, 0.4)) for place in range(1, len(blocks))]
    for start, end in (*arrows, ((10.9, 0.4), (11.2, 0.4))):
        _arrow(axis, start, end)
    _empty(axis, 12.4, 2.1)


def extractor():
    """The signal's way through the extractor, by the names of its parts: two x-vectors and the mixture's magnitudes
    enter the Conformer, and what comes out of it is a mask over the mixture's spectrum.
    """
    figure, axis = plt.subplots(figsize=(10, 3), dpi=90, layout="constrained")
    for height in (3.6, 2.4):
        _box(axis, 1.5, height, 1.3, "xvector", FROZEN)
        _box(axis, 3.1, height, 1.2, "spk_ffn", FROZEN)
    _box(axis, 4.8, 3.0, 1.4, "condition", FROZEN)
    for left, width, name in ((1.5, 1.3, "STFT"), (3.1, 1.4, "magnitudes"), (13.4, 1.3, "inverse\nSTFT")):
        _box(axis, left, 0.9, width, name, PLAIN)
    for left, width, name in ((5.0, 1.2, "pre_ffn"), (11.3, 1.0, "mask")):
        _box(axis, left, 0.9, width, name, FROZEN)
    for left, name in ((6.6, "block 1"), (9.4, "block N")):
        _box(axis, left, 1.32, 1.5, "attn", FROZEN, 0.4)
        _box(axis, left, 0.9, 1.5, "rest", FROZEN, 0.42)
        axis.text(left + 0.75, 1.85, name, ha="center", fontsize=SMALL)
    for height in (4.0, 2.8):  # the two ways into the condition
        _arrow(axis, (1.2, height), (1.5, height))
        _arrow(axis, (2.8, height), (3.1, height))
        _arrow(axis, (4.3, height), (4.8, 3.4 + 0.25 * (height - 3.4)))
    for start, end in ((1.2, 1.5), (2.8, 3.1), (4.5, 5.0), (6.2, 6.6), (8.1, 8.5), (9.0, 9.4), (10.9, 11.3)):
        _arrow(axis, (start, 1.3), (end, 1.3))
    for start, end in ((12.3, 12.65), (13.05, 13.4), (14.7, 15.0)):
        _arrow(axis, (start, 1.3), (end, 1.3))
    _arrow(axis, (5.6, 3.0), (5.6, 1.7))
    axis.plot([2.15, 2.15, 12.85], [0.9, 0.3, 0.3], color="0.3", lw=0.8)
    _arrow(axis, (12.85, 0.3), (12.85, 1.15))
    axis.text(12.85, 1.3, "×", ha="center", va="center", fontsize=14)
    axis.text(8.75, 1.3, "...", ha="center", va="center", fontsize=SMALL)
    axis.text(7.5, 0.38, "the mixture's spectrum, with its phase", ha="center", fontsize=SMALL)
    for height, name in ((4.0, "enrollment"), (2.8, "mixture"), (1.3, "mixture")):
        axis.text(1.1, height, name, ha="right", va="center", fontsize=SMALL)
    axis.text(15.1, 1.3, "estimate", va="center", fontsize=SMALL)
    _empty(axis, 16.5, 4.6, bottom=0.1)
    return picture(
        figure,
        "Boxes from left to right: x-vectors of enrollment and mixture make a condition, which enters pre_ffn with the"
        " mixture's magnitudes. The blocks and the mask follow. The mask multiplies the mixture's spectrum.",
    )


def u_net(depth=4):
    """The U-Net of the music chapter: down by convolutions, through the GRU, up again, with skips across."""
    figure, axis = plt.subplots(figsize=(9, 3.4), dpi=90, layout="constrained")
    for level in range(depth):
        height = 2.6 - 0.55 * level
        for left, name in ((1.2 + 1.15 * level, f"conv {level + 1}"), (12.4 - 1.15 * level, f"up {depth - level}")):
            axis.add_patch(plt.Rectangle((left, -height / 2), 0.75, height, facecolor=FROZEN, edgecolor="0.3", lw=0.8))
            axis.text(left + 0.37, 0, name, ha="center", va="center", fontsize=SMALL, rotation=90)
        skip = {"arrowstyle": "->", "lw": 0.8, "color": TRAINS, "connectionstyle": f"arc3,rad=-{0.24 - 0.03 * level}"}
        axis.annotate("", (12.78 - 1.15 * level, height / 2), (1.58 + 1.15 * level, height / 2), arrowprops=skip)
    _box(axis, 5.9, -0.5, 2.5, "3 GRU layers,\nboth directions", PLAIN, 1.0)
    for start, end in (((0.3, 0), (1.15, 0)), ((5.4, 0), (5.85, 0)), ((8.45, 0), (8.9, 0)), ((13.2, 0), (14, 0))):
        _arrow(axis, start, end)
    axis.text(0.2, 0.15, "magni-\ntudes", ha="center", fontsize=SMALL)
    axis.text(14.3, 0, "mask", va="center", fontsize=SMALL)
    axis.text(
        7.1,
        3.25,
        "skip connections: what was there before it was compressed",
        ha="center",
        fontsize=SMALL,
        color=TRAINS,
    )
    _empty(axis, 15.2, 3.7, bottom=-1.6)
    return picture(
        figure, "A U: four convolutions get smaller, a GRU in the middle, four get larger, with arcs across."
    )


def head_on_backbone(stages=("stem", "block 1", "...", "block 7", "top"), classes="41 people"):
    """A frozen backbone whose answers are computed once, and the new head on it that trains."""
    figure, axis = plt.subplots(figsize=(9, 1.7), dpi=90, layout="constrained")
    axis.text(-0.1, 0.4, "clip", ha="right", va="center", fontsize=SMALL)
    for place, name in enumerate(stages):
        _box(axis, 0.2 + 1.3 * place, 0, 1.1, name, FROZEN)
    end = 0.2 + 1.3 * len(stages)
    for place, name in enumerate(("Linear 1024", "Linear 512", f"Linear\n{classes}")):
        _box(axis, end + 0.7 + 1.5 * place, 0, 1.3, name, TRAINS)
    _arrow(axis, (end - 0.15, 0.4), (end + 0.65, 0.4))
    axis.text(end + 0.25, -0.35, "features,\nkept on disk", ha="center", va="top", fontsize=SMALL)
    axis.text(0.2, 1.0, "learned elsewhere, frozen", fontsize=SMALL)
    axis.text(end + 0.7, 1.0, "new, trains in seconds", fontsize=SMALL, color="#b0560f")
    _empty(axis, end + 5.4, 1.5, left=-0.9, bottom=-1.1)
    return picture(
        figure, "Grey boxes of a frozen network, an arrow for its features, and three orange layers that train."
    )


def people_in_splits(counts=(6, 2, 2)):
    """Splitting by person: each with all recordings on one side; beside it the split by recordings, which leaks."""
    colours = plt.get_cmap("tab10").colors
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), dpi=90, layout="constrained")
    names, edges = ("Train", "Val", "Test"), (0, counts[0], counts[0] + counts[1], sum(counts))
    for axis, title in zip(axes, ("by person: nobody on two sides", "by recording: the same people everywhere")):
        for person in range(sum(counts)):
            for take in range(4):
                place = (person, take) if axis is axes[0] else ((person * 7 + take * 3) % sum(counts), take)
                axis.plot(*place, "o", ms=9, color=colours[person % 10])
        for left, right, name in zip(edges, edges[1:], names):
            axis.text((left + right - 1) / 2, 3.75, name, ha="center", fontsize=9)
            axis.axvline(right - 0.5, color="0.6", lw=0.8) if right < sum(counts) else None
        axis.set_title(title, fontsize=10)
        axis.set(xlim=(-0.7, sum(counts) - 0.3), ylim=(-0.6, 4.5))
        axis.axis("off")
    return picture(
        figure, "Dots coloured by person in three columns: left each colour in one column, right the same in all."
    )


def path_between():
    """Weights part of the way: gain comes early, forgetting late. The curves are drawn, not measured."""
    figure, axis = plt.subplots(figsize=(7, 2.4), dpi=90, layout="constrained")
    share = [k / 100 for k in range(101)]
    axis.plot(share, [1 - (1 - x) ** 2 for x in share], color="#3b75af", label="gained in the new place")
    axis.plot(share, [-0.5 * x**2 for x in share], color="#c53a32", label="lost at home")
    axis.axhline(0, color="0.7", lw=0.8)
    axis.set(xlabel="share of the way from the old weights to the new ones", yticks=[], ylabel="dB, sketched")
    axis.legend(fontsize=9, frameon=False)
    return picture(
        figure, "Two sketched curves over the way from old to new weights: gain rises early, loss falls late."
    )
