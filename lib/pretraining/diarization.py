"""Make the starter of chapter 4: a small PyanNet trained on studio conversations of the Train voices, and its
pipeline's thresholds.

    python -m lib.pretraining.diarization OUT            # the same command goes on with an interrupted run
    python -m lib.pretraining.diarization OUT --score pretrained/diarization

Val people choose the epoch and the thresholds; Test people are not heard, but for --score.
"""

import argparse
from pathlib import Path

import pandas as pd

from lib import runs
from lib.data import splits, voices
from lib.diarization import conversations, models, pipeline, protocols, training

COUNTS = {"train": 300, "dev": 16, "test": 10}
STAGES = (
    dict(epochs=12, max_epochs=9, learning_rate=2e-3, seed=0),
    dict(epochs=9, learning_rate=1.5e-3, seed=1),
)  # half cosines; max_epochs: stopped there
SPEEDS = ((1.0, 1.0), (0.84, 1.19))  # of the voices in each stage: 49 people are few to learn telling people apart from


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data, runs and result")
    parser.add_argument(
        "--score",
        help=(
            "do not train: DER of this folder's model in its pipeline on studio and meeting conversations of Test"
            " people"
        ),
    )
    known = parser.parse_args(arguments)
    table = splits.split_by_speaker(voices.load("debian"))
    if known.score:
        return score(known.score, table, known.out)
    roots = [known.out / "data", known.out / "data2"]
    for root, speed in zip(roots, SPEEDS):
        conversations.build(table, root, conversations.replace(conversations.STUDIO, speed=speed), COUNTS, seed=4)
    model, histories = models.new(), []
    for number, settings in enumerate(STAGES, start=1):
        model, history = training.fit(
            model,
            roots[number - 1],
            known.out / f"stage{number}",
            resume=True,
            each=say,
            batch_size=32,
            optimizer="NAdam",
            cosine=True,
            patience=0,
            augmentation=models.augmentation(noise=False, room=False),
            **settings,
        )
        histories.append(history.assign(stage=number))
    starter = known.out / "starter"
    models.save(model, starter)
    pd.concat(histories).to_csv(starter / "history.csv", index=False, float_format="%.5f")
    parameters = pipeline.tune(
        models.load(starter), protocols.files(known.out / "data", "dev"), known.out / "tuning", trials=(12, 24)
    )
    runs.write_json(starter / "pipeline.json", parameters)
    print(f"{starter}: DER of windows {histories[-1]['DER'].min():.4f}, thresholds {parameters}")


def say(row):
    print(
        "  ".join(
            f"{name} {row[name]:.4f}"
            for name in ("epoch", "loss/val", "DER", "Confusion", "FalseAlarm", "Miss", "Threshold")
            if name in row
        )
        + f"  loss/train {row.get('loss/train', float('nan')):.4f}",
        flush=True,
    )


def score(source, table, out):
    """Print the DER of the model's pipeline on fresh conversations of Test people, studio and meeting."""
    made = pipeline.pipeline(models.load(source), parameters=pipeline.defaults(source))
    for style in (conversations.STUDIO, conversations.MEETING):
        conversations.build(table, out / f"score_{style.name}", style, {"test": 12}, seed=9)
        rows, _ = pipeline.evaluate(made, protocols.files(out / f"score_{style.name}", "test"))
        print(style.name, {name: round(value, 4) for name, value in pipeline.summary(rows).items()}, flush=True)


if __name__ == "__main__":
    main()
