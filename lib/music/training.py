"""Train a CRNN on songs in stems: what chapter 6 calls in small, and the command that made `pretrained/music` (its card
says with what).

python -m lib.music.training OUT                        trains (goes on where it stopped) and scores
python -m lib.music.training OUT --score pretrained/music    scores a model on the test songs and a real excerpt
python -m lib.music.training OUT --remixing 3 --items 320 --epochs 4 --batch-size 16    with and without remixing, three
seeds, six songs to train on
"""

import argparse
import functools
import time
from pathlib import Path

import pandas as pd
import torch

from lib.music import mixing, packaged, remixing
from lib.music.model import CRNN, CRNNConfig, operations
from lib.training import freezing
from lib.training.fit import fit

SONGS = dict(train=99, validation=8, test=12, seconds=40.0, variants=1)  # every score
FONTS = ["", "fluid"]  # what plays the songs to train on, in turn, with --mixes
FEW = 6  # songs to train on where remixing is compared
CHECKED = 6  # excerpts of each song to validate on, with --mixes
RECIPE = dict(epochs=40, batch_size=32, learning_rate=2e-3, optimizer="Adam", weight_decay=1e-5, patience=15)

SMALL = dict(channels=(8, 16, 16, 16), hidden=48, layers=2)
TRAININGS = {"remixed": True, "as they were": False}


def train(
    model,
    songs,
    out,
    items=960,
    seconds=1.5,
    remix=True,
    resume=False,
    heard=None,
    open_groups=None,
    backing=None,
    each=2,
    **settings,
):
    """Train `model` on the split train of `songs` and choose by validation; the history of `lib.training.fit`.

    items: excerpts of `seconds` an epoch. open_groups: which of encoder, bottleneck, decoder train; default all.
    backing: None for plain remixes; a list, which may be empty, of accompaniments for `mixing.Mixes`. each: excerpts of
    a song to validate on. Adam with weight decay 1e-5 and early stopping with patience 15 unless `settings` say
    otherwise.
    """
    target, sr = model.config.target, model.config.sample_rate
    parts = {split: [song for song in songs if song.split == split] for split in ("train", "validation")}
    groups = model.groups()
    freezing.thaw(model, groups) if open_groups is None else freezing.freeze_groups(model, groups, open_groups)
    plain = backing is None
    kind = remixing.Remixes if plain else functools.partial(mixing.Mixes, backing=backing)
    data = kind(parts["train"], target, items, seconds, remix=remix, sr=sr, heard=heard)
    val = remixing.Excerpts(parts["validation"], target, max(seconds, 4.0), each, sr=sr)
    notes = {
        "model": model.config.to_diff_dict(),
        "songs": {split: len(own) for split, own in parts.items()},
        "seconds": seconds,
        "remix": remix,
        "mixes": not plain,
        "backing": len(backing or ()),
        "open": sorted(open_groups) if open_groups is not None else sorted(groups),
    }
    settings = {**{name: RECIPE[name] for name in ("batch_size", "optimizer", "weight_decay", "patience")}, **settings}
    return fit(model, data, val, out, resume=resume, notes=notes, **settings)


def run_name(recipe, seed):
    """The name of a run's folder."""
    return f"06_{recipe.replace(' ', '_')}_{seed}"


def with_and_without_remixing(songs, out, seeds=(0,), seconds_scored=20.0, target="vocals", progress=True, **settings):
    """Two trainings a seed, alike but for remixing: (a row a training, dict name -> history, dict name -> model of the
    first seed).

    The runs are `out`/06_remixed_<seed> and 06_as_they_were_<seed>. Columns: training, seed, val_loss, val_si_sdri, and
    on the test songs museval_sdr (their median) and si_sdri (their mean).
    A run that is there in `out` already is read, not trained again.
    """
    from tqdm.auto import tqdm

    from lib.music import evaluation

    rows, histories, models = [], {}, {}
    total = 2 * len(seeds) * settings.get("items", 960) * settings.get("epochs", RECIPE["epochs"])
    with tqdm(total=total, unit="excerpt", desc="training with and without remixing", disable=not progress) as bar:
        for seed in seeds:
            for name, remix in TRAININGS.items():
                model = new(seed, target=target)
                history = train(
                    model,
                    songs,
                    Path(out) / run_name(name, seed),
                    remix=remix,
                    seed=seed,
                    heard=bar.update,
                    progress="none",
                    resume=True,
                    **settings,
                )
                best = history.loc[history["val_loss"].idxmin()]
                found = evaluation.score(
                    model,
                    [song for song in songs if song.split == "test"],
                    seconds_scored,
                    baselines=False,
                    progress=False,
                )
                rows.append(
                    dict(
                        training=name,
                        seed=seed,
                        val_loss=best["val_loss"],
                        val_si_sdri=best["val_si_sdri"],
                        museval_sdr=found["museval_sdr"].median(),
                        si_sdri=found["si_sdri"].mean(),
                    )
                )
                histories.setdefault(name, history)
                models.setdefault(name, model)
    return pd.DataFrame(rows), histories, models


def gru_against_lstm(batch=4, seconds=1.5, repeats=3, seed=0):
    """What a GRU costs against an LSTM of the same width in this model: a row a cell, and their ratio.

    Columns: cell, parameters and operations of the bottleneck and of the whole, and seconds of a training step on this
    machine (best of
    `repeats`, forward and backward).
    """
    rows = []
    for cell in ("gru", "lstm"):
        model = new(seed, rnn=cell).train()
        mix, counted, times = torch.randn(batch, int(seconds * model.config.sample_rate)), operations(model), []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(mix, 0.5 * mix).loss.backward()
            times.append(time.perf_counter() - started)
        rows.append(
            dict(
                cell=cell,
                bottleneck_parameters=sum(p.numel() for p in model.bottleneck.parameters()),
                parameters=sum(p.numel() for p in model.parameters()),
                bottleneck_mops=counted["bottleneck"] / 1e6,
                mops=counted["total"] / 1e6,
                step_seconds=min(times[1:]),
            )
        )
    ratio = {name: rows[0][name] / rows[1][name] for name in rows[0] if name != "cell"}
    return pd.DataFrame([*rows, {"cell": "gru / lstm", **ratio}])


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
    parser.add_argument("--variants", type=int, default=1, help="how often each score to train on is rendered")
    parser.add_argument("--target", default="vocals")
    parser.add_argument("--loss", default="spectrum")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"])
    parser.add_argument("--items", type=int, default=960, help="excerpts an epoch")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of an excerpt")
    parser.add_argument("--batch-size", type=int, default=RECIPE["batch_size"])
    parser.add_argument("--learning-rate", type=float, default=RECIPE["learning_rate"])
    parser.add_argument("--no-remix", action="store_true", help="train on the songs' own mixtures")
    parser.add_argument("--mixes", action="store_true", help="mixtures with levels, effects and recorded music drawn")
    parser.add_argument("--mask", default="magnitude", help="magnitude, or complex: it turns the phase as well")
    parser.add_argument("--small", action="store_true", help="a fifth of the size, as pretrained/drums is")
    parser.add_argument("--start", default="", help="a model to go on from (fine-tuning)")
    parser.add_argument("--open", nargs="+", default=None, help="groups that train: encoder bottleneck decoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-to", default="none", help="mlflow logs the run into the local store")
    parser.add_argument("--score", metavar="FOLDER", help="train nothing; score the model in FOLDER, or: spleeter")
    parser.add_argument(
        "--remixing",
        type=int,
        default=0,
        metavar="SEEDS",
        help="instead: with and without remixing, so many seeds each",
    )
    options = parser.parse_args(arguments)
    from lib.data import splits, voices
    from lib.music import backing, checks, layouts, midi_songs

    wanted = {**SONGS, "train": FEW} if options.score or options.remixing else SONGS
    wanted = {**wanted, "font": FONTS, "variants": options.variants} if options.mixes else wanted
    root = options.songs or midi_songs.rendered(splits.split_by_speaker(voices.load("debian")), **wanted)
    songs, silent = checks.heard(layouts.open_songs(root, options.target), options.target)
    if silent:
        print(f"left out, for their {options.target} is silent: {', '.join(silent)}")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.remixing:
        table, *_ = with_and_without_remixing(
            songs,
            options.out,
            range(options.remixing),
            10.0,
            options.target,
            items=options.items,
            seconds=options.seconds,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
        )
        table.round(3).to_csv(options.out / "remixing.csv", index=False)
        print(table.round(2).to_string(index=False))
        return
    if not options.score:
        sizes = SMALL if options.small else {}
        model = (
            CRNN.from_pretrained(options.start, loss=options.loss, mask=options.mask)
            if options.start
            else new(options.seed, target=options.target, loss=options.loss, mask=options.mask, **sizes)
        )
        train(
            model,
            songs,
            options.out / "run",
            options.items,
            options.seconds,
            not options.no_remix,
            resume=True,
            open_groups=options.open,
            backing=backing.load() if options.mixes else None,
            each=CHECKED if options.mixes else 2,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=options.seed,
            report_to=options.report_to,
        )
        model.half().save_pretrained(options.out / "model")
    report(
        _scored(options.score or options.out / "model"),
        [song for song in songs if song.split == "test"],
        options.out,
    )


def _scored(name):
    return packaged.load() if name == packaged.NAME else CRNN.from_pretrained(name)


def report(model, songs, out):
    """Score `model` on `songs` and on the real excerpt; prints both, writes scores.csv, scores.png and real.csv into
    the folder `out`.
    """
    from lib.music import evaluation, views

    label = "CRNN" if isinstance(model, CRNN) else "Spleeter"
    table = evaluation.score({label: model}, songs)
    table.round(4).to_csv(out / "scores.csv", index=False)
    views.scores(table).savefig(out / "scores.png")
    print(evaluation.summarise(table).round(2).to_string(index=False))
    own = table.loc[table["system"] == label, "museval_sdr"].dropna()
    low, high = evaluation.median_interval(own)
    print(
        f"{label}: {own.median():.2f} dB SDR, 95 % over songs {low:.1f} to {high:.1f}; best {own.max():.1f}, worst"
        f" {own.min():.1f}, {(own > 5).sum()} of {len(own)} over 5 dB"
    )
    target, (title, real) = model.config.target, evaluation.real_excerpt()
    real = pd.DataFrame(
        evaluation.score_waves(
            {label: model}, real["mixture"], real[target], real["drums"] if target != "drums" else None, title
        )
    )
    real.round(4).to_csv(out / "real.csv", index=False)
    print(f"a real excerpt, {title}:\n{real.drop(columns=['song', 'seconds']).round(2).to_string(index=False)}")


if __name__ == "__main__":
    main()
