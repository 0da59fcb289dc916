"""How to join the vectors of a recording into people: linkages compared on conversations of Val people, by length.

    python -m lib.pretraining.diarization_linkage OUT --model pretrained/diarization

Meetings, talk in rooms and telephone calls of half a minute, a minute and four minutes. One threshold serves all
lengths. Writes `OUT`/linkage.csv: DER by linkage, threshold and length, and people found beyond those there.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from lib.data import splits, voices
from lib.diarization import conversations, models, pipeline, protocols, styles
from lib.pretraining import diarization_encoders

COUNTS = {30: 16, 60: 10, 240: 2}  # s -> conversations of each style
STYLES = (styles.MEETING, styles.TALK, styles.PHONE)
THRESHOLDS = {"average": (0.22, 0.26, 0.3), "centroid": (0.45, 0.5, 0.55), "ward": (1.4, 1.6, 1.8, 2.0)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=models.STARTER)
    known = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table, rows = splits.split_by_speaker(voices.load("debian")), []
    for seconds, count in COUNTS.items():
        files = []
        for style in STYLES:
            root = known.out / f"val_{style.name}_{seconds}"
            conversations.build(table, root, replace(style, seconds=float(seconds)), {"dev": count}, seed=31)
            files += protocols.files(root, "dev")
        for row in compare(known.model, files):
            rows.append({"seconds": seconds, **row})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).pivot(index=["linkage", "threshold"], columns="seconds", values=["DER", "too many"])
    table.columns = [f"{what}, {seconds} s" for what, seconds in table.columns]
    table.insert(0, "DER, mean", table[[f"DER, {seconds} s" for seconds in COUNTS]].mean(axis=1))
    table.to_csv(known.out / "linkage.csv", float_format="%.3f")
    print(table.round(3).to_string())


def compare(source, files):
    """Yields a row a linkage and threshold, without a second look."""
    parameters = pipeline.defaults(source)
    made = pipeline.Diarizer(models.load(source))
    made.training = True  # keeps what was computed in each file
    least = parameters["clustering"]["min_cluster_size"]
    for linkage, thresholds in THRESHOLDS.items():
        for threshold in thresholds:
            clustering = {"method": linkage, "threshold": threshold, "min_cluster_size": least}
            made.instantiate({"segmentation": parameters["segmentation"], "clustering": clustering})
            row = diarization_encoders.row_of([diarization_encoders.applied(made, file) for file in files], files)
            yield {"linkage": linkage, "threshold": threshold, "DER": row["DER"], "too many": row["too many"]}


if __name__ == "__main__":
    main()
