"""A comparison's table as a reader sees it, and what its rows say in words."""

from lib.training.comparison import BEFORE, EQUALISER, RANDOM


def shown(table):
    """The columns of the table that a reader compares, with the intervals in words."""
    part = table[["strategy", "trainable", "rate", "seconds", "memory_mb", "val_si_sdri", "test_si_sdri"]].copy()
    part["rate"] = [
        f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-") if rate == rate else "" for rate in part["rate"]
    ]
    for name in ("change", "beyond"):
        part[f"{name}, 95 %"] = [
            f"{row[f'test_{name}']:+.2f} ({row[f'test_{name}_low']:+.2f} to {row[f'test_{name}_high']:+.2f})"
            for row in table.to_dict("records")
        ]
    if "test_beyond_people_low" in table:
        part["over people"] = [
            ""
            if row["strategy"] == BEFORE
            else f"{row['test_beyond_people_low']:+.2f} to {row['test_beyond_people_high']:+.2f}"
            for row in table.to_dict("records")
        ]
    part = part.rename(columns={"change, 95 %": "change on test, 95 %", "beyond, 95 %": "beyond the equaliser, 95 %"})
    if "source_change" in table:
        part["source_change"] = table["source_change"]
    if "test_silent" in table:
        part["silent where asked to be, test"] = table["test_silent"]
    if table["test_spread"].notna().any():
        part["spread over seeds, test"] = table["test_spread"]
    return part


def reading(table):
    """What the rows say, as numbered Markdown lines; their numbers come from the table, so they hold for any run."""
    rows = {row["strategy"]: row for row in table.to_dict("records")}
    before, tuned = rows[BEFORE], [row for name, row in rows.items() if name not in (BEFORE, EQUALISER)]
    pretrained = [row for row in tuned if row["strategy"] != RANDOM]
    best = max(tuned, key=lambda row: row["val_si_sdri"])
    lines = [
        f"Before fine-tuning the model improves the Test mixtures by {_interval(before)} on average.",
        (
            f"Validation, which alone may choose, is highest for **{best['strategy']}**: {best['val_si_sdri']:.2f} dB."
            f" On Test it reaches {_interval(best)}, {best['test_change']:+.2f} dB against before (95 % interval of the"
            f" paired difference {best['test_change_low']:+.2f} to {best['test_change_high']:+.2f}: {_verdict(best)})."
        ),
    ]
    if EQUALISER in rows:
        row = rows[EQUALISER]
        lines.append(
            f"One fixed equaliser behind the model, without any training, brings {row['test_change']:+.2f} dB: that"
            f" much is the device's frequency response. Beyond it **{best['strategy']}** brings"
            f" {best['test_beyond']:+.2f} dB ({best['test_beyond_low']:+.2f} to {best['test_beyond_high']:+.2f})."
        )
    near = [row for row in pretrained if row["val_si_sdri"] > best["val_si_sdri"] - 0.2]
    if near:
        cheap = min(near, key=lambda row: row["trainable"])
        lines.append(
            f"The cheapest within 0.2 dB of it on validation is **{cheap['strategy']}**, with {cheap['trainable']:,}"
            f" trainable parameters and {cheap['seconds']:.0f} s ({best['strategy']}: {best['trainable']:,} and"
            f" {best['seconds']:.0f} s)."
        )
    lines += _pair(rows, "attention of last 1", "last 1 full", "Within one block")
    lines += _pair(rows, "last 2 full", "last 2 full + speaker layer", "With the speaker layer open too")
    lines += _pair(rows, "adapters of rank 8", "everything", "Small changes everywhere against all of it")
    if RANDOM in rows:
        row, full = rows[RANDOM], rows.get("everything")
        lines.append(
            f"From random weights the same steps reach {_interval(row)} on Test"
            + (
                f"; from the starter, with as many parameters open, {_interval(full)}. The difference is what"
                " pretraining brought."
                if full
                else "."
            )
        )
    if "source_change" in table:
        lost = [row for row in pretrained if row["source_change_high"] < 0]
        low, high = (
            min(pretrained, key=lambda row: row["source_change"]),
            max(pretrained, key=lambda row: row["source_change"]),
        )
        lines.append(
            f"On the source domain the model scored {before['source_si_sdri']:.2f} dB before. Fine-tuning changed that"
            f" by {low['source_change']:+.2f} dB (**{low['strategy']}**) to {high['source_change']:+.2f} dB"
            f" (**{high['strategy']}**); "
            + (
                f"{len(lost)} of {len(pretrained)} strategies forgot beyond their interval:"
                f" {', '.join(row['strategy'] for row in lost)}."
                if lost
                else "none forgot beyond its interval."
            )
        )
    sure = [row for row in pretrained if row["test_change_low"] > 0]
    seeds = int(max(row.get("seeds", 1) for row in tuned))
    spread = max(row["test_spread"] for row in tuned)
    once = (
        "One seed" if seeds == 1 else f"{seeds} seeds, whose means differ by up to {spread:.2f} dB (standard deviation)"
    )
    lines.append(
        f"{once}, and an interval over test samples only: {len(sure)} of {len(pretrained)} strategies improve Test"
        " beyond doubt of this kind. Rows whose intervals overlap widely are not ranked by this table."
    )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _interval(row, domain="test"):
    return f"{row[f'{domain}_si_sdri']:.2f} dB ({row[f'{domain}_low']:.2f} to {row[f'{domain}_high']:.2f})"


def _verdict(row):
    return "better" if row["test_change_low"] > 0 else "worse" if row["test_change_high"] < 0 else "could be chance"


def _pair(rows, first, second, opening):
    if not {first, second} <= set(rows):
        return []
    a, b = rows[first], rows[second]
    return [
        f"{opening}: **{first}** trains {a['trainable']:,} parameters and reaches {a['test_si_sdri']:.2f} dB on Test,"
        f" **{second}** {b['trainable']:,} and {b['test_si_sdri']:.2f} dB."
    ]


def seeds(table):
    """The table `seeds` of `lib.pretraining.place_study`, a row a system: mean SI-SDRi (dB), PESQ and ESTOI, and the
    mean paired difference of SI-SDRi to the equaliser with its 95 % interval over people.
    """
    means = table.drop_duplicates(["system", "metric"]).pivot(index="system", columns="metric", values="mean")
    rows = means.loc[table["system"].unique(), ["si_sdri", "pesq", "estoi"]]
    beyond = table.query("metric == 'si_sdri' and against == 'equaliser'").set_index("system")
    rows["beyond"] = beyond["effect"]
    rows["over people"] = beyond.agg(lambda row: f"{row['people_low']:.2f} to {row['people_high']:.2f}", axis=1)
    return rows.fillna({"over people": ""}).reset_index()
