"""Make the starter of chapter 4: a PyanNet trained on studio talk, widened, then on talk of four styles, then on much
of it by many more voices; and its pipeline's thresholds.

    python -m lib.pretraining.diarization OUT            # the same command goes on with an interrupted run
    python -m lib.pretraining.diarization OUT --start FOLDER    # the last stage alone, from the model of an earlier run
    python -m lib.pretraining.diarization OUT --compact FOLDER  # other voices from `lib.pretraining.compact`'s folder
    python -m lib.pretraining.diarization OUT --score pretrained/diarization
    python -m lib.pretraining.diarization OUT --encoders pretrained/diarization

Val people choose the epoch, the thresholds and the speaker encoder; Test people are not heard, but for --score.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from lib import runs
from lib.data import splits, voices
from lib.diarization import conversations, models, pipeline, protocols, scores, styles, training
from lib.pretraining import diarization_encoders, diarization_talk as talk

COUNTS = {"train": 300, "dev": 16, "test": 10}
STAGES = (
    dict(epochs=12, max_epochs=9, learning_rate=2e-3, seed=0),
    dict(epochs=9, learning_rate=1.5e-3, seed=1),
)  # half cosines; max_epochs: stopped there
SPEEDS = ((1.0, 1.0), talk.SPEED)  # of the voices in each of these: 49 people are few to learn telling people apart
MIXED = {styles.MEETING: 40, styles.PHONE: 24, styles.TALK: 24, styles.STUDIO: 16}  # stage 3: conversations to train on
MANY = {styles.MEETING: 500, styles.PHONE: 350, styles.TALK: 400, styles.STUDIO: 250}  # and stage 4
HIDDEN = 96  # of the LSTM from stage 3 on
THIRD = dict(epochs=6, learning_rate=1.5e-3, seed=2)
LAST = dict(epochs=5, learning_rate=1.5e-3, seed=3)
FEW_SECONDS = 10.0  # s of recordings a person of stage 4 needs
COMMON = dict(batch_size=32, optimizer="NAdam", cosine=True, patience=0)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data, runs and result")
    parser.add_argument("--start", help="the last stage alone, on the model in this folder")
    parser.add_argument(
        "--seed", type=int, default=talk.SEED, help="of the last stage's conversations, for others of them"
    )
    parser.add_argument("--compact", type=Path, help="a folder of lib.pretraining.compact with the last stage's voices")
    parser.add_argument(
        "--score",
        help="do not train: DER of this folder's model in its pipeline on a real half minute and on conversations of"
        " Test people, four styles",
    )
    parser.add_argument(
        "--encoders", help="do not train: DER of Val with each speaker encoder behind this folder's model, as a table"
    )
    known = parser.parse_args(arguments)
    torch.set_num_threads(1)  # small recurrent networks are no faster on more
    table = splits.split_by_speaker(voices.load("debian"))
    if known.score:
        return score(known.score, table, known.out)
    if known.encoders:
        return diarization_encoders.compare(known.encoders, more_dev(table, known.out), known.out)
    histories = []
    model = models.load(known.start) if known.start else with_few_voices(table, known.out, histories)
    root = known.out / "data4"
    talk.make(pd.concat([table, talk.people(known.compact)]), root, MANY, FEW_SECONDS, known.seed)
    model, history = stage(4, model, root, known.out, histories, LAST)
    starter = known.out / "starter"
    models.save(model, starter)
    pd.concat(histories).to_csv(starter / "history.csv", index=False, float_format="%.5f")
    threshold = round(float(history.loc[history["DER"].idxmin(), "Threshold"]), 2)
    segmentation = {"min_duration_off": 0.0, "threshold": threshold}
    runs.write_json(starter / "pipeline.json", {**pipeline.UNTUNED, "segmentation": segmentation})
    best = diarization_encoders.compare(starter, more_dev(table, known.out), known.out)
    parameters = {"segmentation": segmentation, "clustering": best["resemblyzer"]}
    runs.write_json(starter / "pipeline.json", parameters)
    print(f"{starter}: DER of windows {history['DER'].min():.4f}, thresholds {parameters}")


def more_dev(table, out):
    """Conversations of Val people to choose thresholds and encoders on, as pyannote's files."""
    talk.make(table, out / "dev", {}, conversations.LEAST_SECONDS, dev=talk.MORE_DEV)
    return protocols.files(out / "dev", "dev")


def with_few_voices(table, out, histories):
    """The model after two stages on studio talk and one on four styles, of the Debian voices alone."""
    model = models.new()
    for number, (speed, settings) in enumerate(zip(SPEEDS, STAGES), start=1):
        root = out / ("data" if number == 1 else "data2")
        conversations.build(table, root, replace(styles.STUDIO, speed=speed), COUNTS, seed=4)
        model, _ = stage(number, model, root, out, histories, settings)
    talk.make(table, out / "data3", MIXED, conversations.LEAST_SECONDS)
    return stage(3, widened(model, HIDDEN), out / "data3", out, histories, THIRD)[0]


def stage(number, model, root, out, histories, settings):
    """Train on the conversations in `root`, or go on; (model, history), the history also added to `histories`."""
    model, history = training.fit(
        model,
        root,
        out / f"stage{number}",
        resume=True,
        each=say,
        augmentation=models.augmentation(noise=False, room=False),
        **COMMON,
        **settings,
    )
    histories.append(history.assign(stage=number))
    return model, history


def widened(model, hidden, seed=0):
    """A copy of a PyanNet with `hidden` units a direction in its LSTM that answers almost as before: the trained units
    keep their weights, and the new ones are heard by nobody yet (Chen et al., "Net2Net", ICLR 2016, in its simplest
    form).
    """
    config = {name: dict(model.hparams[name]) for name in ("sincnet", "lstm", "linear")}
    for part, extra in (("sincnet", "sample_rate"), ("lstm", "batch_first")):
        config[part].pop(extra, None)
    few, config["lstm"]["hidden_size"] = config["lstm"]["hidden_size"], hidden
    made = models.new(config, model.specifications.duration, seed)
    old, new = model.state_dict(), made.state_dict()
    both = torch.cat([torch.arange(few), hidden + torch.arange(few)])  # where the trained units of two directions lie
    gates = torch.cat([gate * hidden + torch.arange(few) for gate in range(4)])
    for name, value in new.items():
        if name not in old or old[name].shape == value.shape:
            value.copy_(old.get(name, value))
            continue
        columns = (
            torch.arange(few) if "weight_hh" in name else both if "ih_l0" not in name else torch.arange(value.shape[-1])
        )
        if name.startswith("linear"):
            value[:, :] = 0
            value[:, both] = old[name]
        elif value.ndim == 1:
            value[gates] = old[name]
        else:
            rows = value[gates]
            if value.shape[1] != old[name].shape[1]:
                rows[:] = 0
            rows[:, columns] = old[name]
            value[gates] = rows
    made.load_state_dict(new)
    return made


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
    """Print the DER of the model's pipeline on the real half minute of pyannote.audio, and on fresh conversations of
    Test people, style by style.
    """
    made = pipeline.pipeline(models.load(source), parameters=pipeline.defaults(source))
    rows, _ = scores.evaluate(made, [protocols.real_sample()])
    print("real", {name: round(float(rows[name].iloc[0]), 4) for name in ("DER", *scores.PARTS, "JER")}, flush=True)
    for style in (styles.STUDIO, styles.MEETING, styles.TALK, styles.PHONE):
        conversations.build(table, out / f"score_{style.name}", style, {"test": 12}, seed=9)
        rows, _ = scores.evaluate(made, protocols.files(out / f"score_{style.name}", "test"))
        print(style.name, {name: round(value, 4) for name, value in scores.summary(rows).items()}, flush=True)


if __name__ == "__main__":
    main()
