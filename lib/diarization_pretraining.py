"""Make the starter of chapter 4: a small PyanNet trained on studio conversations of the Train voices.

    python -m lib.diarization_pretraining OUT            # the same command goes on with an interrupted run
    python -m lib.diarization_pretraining OUT --score pretrained/diarization

Val people choose the epoch; Test people are not heard.
"""
import argparse
from pathlib import Path

from lib import diarization_models as models
from lib import diarization_training as training
from lib.data import conversations, splits, voices

COUNTS = {"train": 300, "dev": 16, "test": 10}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data, run and result")
    parser.add_argument("--epochs", type=int, default=24, help="passes over the 5 hours (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--score", help="do not train: window DER of this folder's model on studio and meeting conversations of Val people")
    known = parser.parse_args(arguments)
    table = splits.split_by_speaker(voices.load("debian"))
    if known.score:
        return score(known.score, table, known.out)
    conversations.build(table, known.out / "data", conversations.STUDIO, COUNTS, seed=4)
    model, history = training.fit(models.new(), known.out / "data", known.out / "run", resume=True, each=say, epochs=known.epochs, batch_size=32,
                                  learning_rate=known.learning_rate, optimizer="NAdam", cosine=True, patience=0,
                                  augmentation=models.augmentation(noise=False, room=False))
    models.save(model, known.out / "starter")
    history.to_csv(known.out / "starter" / "history.csv", index=False, float_format="%.5f")
    print(f"{known.out / 'starter'}: epoch {history.attrs['best_epoch']}, DER of windows {history['DER'].min():.4f}, {history.attrs['seconds']:.0f} s")


def say(row):
    print("  ".join(f"{name} {row[name]:.4f}" for name in ("epoch", "loss/val", "DER", "Confusion", "FalseAlarm", "Miss", "Threshold") if name in row)
          + f"  loss/train {row.get('loss/train', float('nan')):.4f}", flush=True)


def score(source, table, out):
    """Print the DER of windows on fresh conversations of Val people, studio and meeting."""
    for style in (conversations.STUDIO, conversations.MEETING):
        conversations.build(table, out / f"score_{style.name}", style, {"train": 1, "dev": 16}, seed=9)
        print(style.name, training.measure(models.load(source), out / f"score_{style.name}"))


if __name__ == "__main__":
    main()
