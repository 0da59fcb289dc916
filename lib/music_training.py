"""Train a CRNN on songs in stems: what chapter 6 calls in small, and the command that made `pretrained/music`.

    python -m lib.music_training OUT                        trains (goes on where it stopped) and scores
    python -m lib.music_training OUT --score pretrained/music    scores a model on the test songs
"""
import argparse
from pathlib import Path

import torch

from lib import freezing, training
from lib.data import remixing
from lib.models.crnn import CRNN, CRNNConfig

SONGS = dict(train=99, validation=8, test=12, seconds=40.0, variants=1)  # every score
RECIPE = dict(epochs=30, batch_size=8, learning_rate=2e-3, optimizer="Adam", weight_decay=1e-5, patience=15)


def train(model, songs, out, items=512, seconds=2.0, remix=True, resume=False, heard=None, open_groups=None, **settings):
    """Train `model` on the split train of `songs` and choose by validation; the history of `lib.training.fit`.

    items: excerpts of `seconds` an epoch. open_groups: which of encoder, bottleneck, decoder train; default all. Adam with weight decay
    1e-5 and early stopping with patience 15 unless `settings` say otherwise.
    """
    target, sr = model.config.target, model.config.sample_rate
    parts = {split: [song for song in songs if song.split == split] for split in ("train", "validation")}
    groups = model.groups()
    freezing.thaw(model, groups) if open_groups is None else freezing.freeze_groups(model, groups, open_groups)
    data = remixing.Remixes(parts["train"], target, items, seconds, remix, sr, heard)
    val = remixing.Excerpts(parts["validation"], target, max(seconds, 4.0), sr=sr)
    notes = {"model": model.config.to_diff_dict(), "songs": {split: len(own) for split, own in parts.items()}, "seconds": seconds, "remix": remix,
             "open": sorted(open_groups) if open_groups is not None else sorted(groups)}
    settings = {**{name: RECIPE[name] for name in ("batch_size", "optimizer", "weight_decay", "patience")}, **settings}
    return training.fit(model, data, val, out, resume=resume, notes=notes, **settings)


def new(seed=0, **sizes):
    """A CRNN with weights by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CRNN(CRNNConfig(**sizes))


def main(arguments=None):
    """Render the songs, train or resume, save in half precision to OUT/model, and score on the test songs."""
    parser = argparse.ArgumentParser(description="Train a CRNN on songs in stems.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--songs", default="", help="a folder of songs in stems; default: rendered ones")
    parser.add_argument("--target", default="vocals")
    parser.add_argument("--loss", default="spectrum")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"])
    parser.add_argument("--items", type=int, default=512, help="excerpts an epoch")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an excerpt")
    parser.add_argument("--batch-size", type=int, default=RECIPE["batch_size"])
    parser.add_argument("--learning-rate", type=float, default=RECIPE["learning_rate"])
    parser.add_argument("--no-remix", action="store_true", help="train on the songs' own mixtures")
    parser.add_argument("--start", default="", help="a model to go on from (fine-tuning)")
    parser.add_argument("--open", nargs="+", default=None, help="groups that train: encoder bottleneck decoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-to", default="none", help="mlflow logs the run into the local store")
    parser.add_argument("--score", type=Path, metavar="FOLDER", help="train nothing; score the model in FOLDER")
    options = parser.parse_args(arguments)
    from lib.data import midi_songs, splits, voices
    from lib.data import songs as readers

    root = options.songs or midi_songs.rendered(splits.split_by_speaker(voices.load("debian")), seed=0, **SONGS)
    songs = readers.open_songs(root, options.target)
    if not options.score:
        model = CRNN.from_pretrained(options.start) if options.start else new(options.seed, target=options.target, loss=options.loss)
        train(model, songs, options.out / "run", options.items, options.seconds, not options.no_remix, resume=True, open_groups=options.open,
              epochs=options.epochs, batch_size=options.batch_size, learning_rate=options.learning_rate, seed=options.seed, report_to=options.report_to)
        model.half().save_pretrained(options.out / "model")
    from lib import music_evaluation

    table = music_evaluation.score(CRNN.from_pretrained(options.score or options.out / "model"), [song for song in songs if song.split == "test"])
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "scores.csv", index=False)
    print(music_evaluation.summarise(table).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
