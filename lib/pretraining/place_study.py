"""What fine-tuning is worth in a place, part by part: `python -m lib.pretraining.place_study OUT PART [PART ...]`.

    strategies  every strategy of chapter 2, and those of its quick profile for several seeds
    losses      terms beside SI-SNR in the loss: does PESQ rise with them?
    shares      adapters, or the equaliser, at a part of their strength: SI-SDRi against PESQ
    cures       what keeps the model at home: weights part of the way, adapters that come off
    amounts     how many mixtures of the place does it take?
    noise       how many seconds of its noise?
    seeds       chapter 2's recipe in the office, once a seed: SI-SDRi, ESTOI and PESQ on fresh Test mixtures
    matrix      fine-tuned in each of four places, tested in each of them

Each part writes OUT/<part>.csv, a row after another. Rows that are there already are not made again, so a part that was
broken off goes on. The mixtures are the study's own, drawn by another seed than chapter 1's, in OUT/data. Training is
behind the equaliser of its place. `losses`, `shares`, `matrix`, `noise` and `seeds` train as chapter 2 does, on new
mixtures in each epoch. The other parts hear those on disk, with no term for PESQ. Val chooses, Test reports; intervals
are 95 % over mixtures.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import audio, runs
from lib.data import mixtures, real_sounds
from lib.data.dataset import collate
from lib.data.places import NAMED
from lib.evaluation import scores
from lib.losses import SILENT_DB
from lib.metrics import bootstrap_interval
from lib.pretraining.place_runs import ALONE, ATTENTION, BLOCKS, EPOCHS, RECIPE, SEED, TRAINED, Study
from lib.training import comparison, forgetting
from lib.training.equaliser import softened

PLACES = ("office", "meeting", "cafe", "phone")
BEFORE = dict(amount=300, epochs=3, level=0.05, fresh=True)  # chapter 2's main run before PESQ was in its loss
FRESH = dict(BEFORE, perceptual=2.0)  # as it is
UNHEARD = 25  # seed of the Test mixtures of the part `seeds`; 23 and 24 were scored for earlier recipes and starters
COMPARED = dict(mixtures=120, epochs=2)  # for the part `strategies`: as chapter 2 compares a few of them
SEVERAL = ("head only", ATTENTION, "last 1 full", "all but the speaker encoder")  # few that differ much
FORGETFUL = "all but the speaker encoder"
LOSSES = {
    "SI-SNR alone": dict(level=0.0, perceptual=0.0),
    "and the level": dict(perceptual=0.0),
    "and the level and the spectrum, 5": dict(perceptual=0.0, spectral=5.0),
    "and the level and PESQ, 1": dict(perceptual=1.0),
    "and the level and PESQ, 2": {},
    "and the level and PESQ, 4": dict(perceptual=4.0),
    "and PESQ, 2": dict(level=0.0),
}
AMOUNTS = (15, 60, 240, 450)
SHARES = (0.25, 0.5, 0.75, 1.0)
SOFTER = (0.75, 0.5, 0.0)  # of the equaliser behind the whole of the adapters
FAINT_DB = 15.0  # an answer so far under the usual level over its reference is too faint
NOISE_SECONDS = (2, 10, 58)  # of the recorded crowd; Train has 58


def summary(found, against=None):
    """Mean SI-SDRi of each domain of `found` (`comparison.score`), the share of silent answers where they were asked
    for, and for Test the paired difference with `against`.
    """
    row = found.groupby("domain")["si_sdri"].mean().to_dict()
    if "level_db" in found and len(levels := found.loc[found["domain"] == "test", "level_db"].dropna()):
        row["silent"] = float((levels <= SILENT_DB).mean())
    if against is not None:
        both = found.merge(against, on=["domain", "index"], suffixes=("", "_before")).query("domain == 'test'")
        difference = (both["si_sdri"] - both["si_sdri_before"]).dropna()
        row |= dict(zip(("beyond", "low", "high"), bootstrap_interval(difference.to_numpy())))
    return row


def by_strategy(study, seeds):
    """Every strategy of chapter 2 on the same mixtures with the first of `seeds`, and `SEVERAL` with all of them."""
    train, sets = study.data("office", "Train", COMPARED["mixtures"]), study.sets()
    told = dict(resume=True, collate=collate, learning_rate=0, epochs=COMPARED["epochs"], **study.settings)
    told["people"] = scores.open_test(study.out / "data/office")[1].set_index("index")["speaker"]
    told["before"] = comparison.score(study.start, sets, collate=collate)
    filtered = study.equaliser(amount=COMPARED["mixtures"])
    told["equaliser"] = filtered, comparison.score(filtered, sets, collate=collate)
    found = {}
    for names, chosen in ((comparison.STRATEGIES, seeds[:1]), (SEVERAL, seeds)):
        table, _ = comparison.compare(study.start, names, train, sets, study.out / "strategies", seeds=chosen, **told)
        found |= {row["strategy"]: row for row in table.to_dict("records")}
        runs.write_text(study.out / "strategies.csv", pd.DataFrame(found.values()).to_csv(index=False))
    return pd.DataFrame(found.values())


def judged(study, model):
    """`model` on Val of the office, as a listener would have it: SI-SDRi, ESTOI, PESQ, the share of silent answers to
    those who are silent, the share of too faint ones to the others; and SI-SDRi at home.
    """
    val, home = study.data("office", "Val"), study.data("source", "Val")
    waves = scores.extract_all(model, val, progress=False).waves
    table = scores.evaluate({"it": waves}, val, ("si_sdr", "pesq", "estoi"), progress=False)
    levels = [
        10 * torch.log10(torch.as_tensor(wave).square().mean() / item["target"].square().mean())
        for wave, item in zip(waves, val)
        if item["target"].any()
    ]
    levels, asked = torch.stack(levels), table["si_sdri"].isna()
    return {
        **table[["si_sdri", "estoi", "pesq"]].mean().to_dict(),
        "silent": float((table.loc[asked, "level_db"] <= SILENT_DB).mean()),
        "too_faint": float((levels < levels.median() - FAINT_DB).float().mean()),
        "source": comparison.score(model, {"source": home}, collate=collate)["si_sdri"].mean(),
    }


def by_loss(study, seeds):
    """Chapter 2's recipe with other terms in the loss beside SI-SNR, judged on Val: SI-SDRi, ESTOI, PESQ, and how many
    answers are too faint.
    """
    makers = {
        "starter": lambda: judged(study, study.start),
        "equaliser": lambda: judged(study, study.equaliser(amount=FRESH["amount"])),
    }
    for name, terms in LOSSES.items():
        makers[name] = lambda told={**FRESH, **terms}: judged(study, study.run(RECIPE, seed=seeds[0], **told)[1])
    return study.rows("losses", makers)


def by_share(study, seeds):
    """Chapter 2's recipe in the office with its adapters, or its equaliser, at a share of their strength, judged on Val
    as the losses are.
    """

    def at(share, equaliser=1.0):
        before, after, _ = study.run(RECIPE, seed=seeds[0], **FRESH)
        return judged(study, softened(forgetting.interpolate(before, after, share), equaliser))

    makers = {"starter": lambda: judged(study, study.start)}
    makers |= {f"{share:.0%}": (lambda s=share: at(s)) for share in (0.0, *SHARES)}
    makers |= {f"equaliser at {share:.0%}": (lambda s=share: at(1.0, s)) for share in SOFTER}
    return study.rows("shares", makers)


def by_cure(study, seeds):
    """Gain in the office beside loss at home: weights part of the way, adapters that are off at home."""
    sets = study.sets()
    equalised = comparison.score(study.equaliser(), sets, collate=collate)

    def along(strategy):
        before, after, _ = study.run(strategy, seed=seeds[0])
        return [
            {"share": share, **summary(comparison.score(between, sets, collate=collate), equalised)}
            for share in SHARES
            for between in (forgetting.interpolate(before, after, share),)
        ]

    def adapters(strategy):
        on = comparison.score(study.run(strategy, seed=seeds[0])[1], sets, collate=collate)
        off = comparison.score(study.start, {"source": sets["source"]}, collate=collate)  # the weights without them
        return [{"share": 1.0, **summary(on, equalised)}, {"share": 0.0, **summary(off)}]

    makers = {
        "equaliser": lambda: {"share": 0.0, **summary(equalised)},
        ATTENTION: lambda: along(ATTENTION),
        FORGETFUL: lambda: along(FORGETFUL),
        "adapters, on and off": lambda: adapters(BLOCKS),
        "adapters of attention, on and off": lambda: adapters(ALONE),
    }
    return study.rows("cures", makers)


def by_amount(study, seeds):
    """SI-SDRi on Test over the mixtures there are, behind an equaliser fitted on no more; as many steps where 12
    epochs allow it.
    """
    sets = study.sets()

    def trained(strategy, amount):
        epochs = min(12, max(2, round(EPOCHS * TRAINED / amount)))
        before, after, history = study.run(strategy, amount=amount, seed=seeds[0], epochs=epochs)
        equalised = comparison.score(before, sets, collate=collate)
        row = {"strategy": strategy, "mixtures": amount, "epochs": epochs, "seconds": history.attrs["seconds"]}
        row["equaliser"] = summary(equalised)["test"]
        return {**row, **summary(comparison.score(after, sets, collate=collate), equalised)}

    pairs = [(strategy, amount) for strategy in (RECIPE, ATTENTION) for amount in AMOUNTS]
    return study.rows("amounts", {f"{s}, {a}": (lambda s=s, a=a: trained(s, a)) for s, a in pairs})


def by_place(study, seeds):
    """The default recipe in each place (equaliser, adapters, as many mixtures and epochs as in chapter 2), and the same
    without PESQ in the loss; tested in each place and at home: `source` with adapters left on, the equaliser off. With
    both off it is the starter there.
    """
    tests = {place: study.data(place, "Test", 50) for place in PLACES} | {"source": study.data("source", "Test", 50)}

    def tested(model, place, system):
        found = comparison.score(model, tests, collate=collate)
        row = {"trained_in": place, "system": system, **found.groupby("domain")["si_sdri"].mean().to_dict()}
        return row, found.loc[found["domain"] == place, "si_sdri"].to_numpy()

    def trained(place, system, told):
        before, after, _ = study.run(RECIPE, place, seed=seeds[0], **told)
        (plain, first), (row, last) = tested(before, place, "equaliser"), tested(after, place, system)
        beyond = (last - first)[~pd.isna(first)]
        row |= dict(zip(("beyond", "low", "high"), bootstrap_interval(beyond)))
        return [plain, row] if told is FRESH else row

    makers = {"starter": lambda: tested(study.start, "", "starter")[0]}
    for place in PLACES:
        makers[place] = lambda p=place: trained(p, "fine-tuned", FRESH)
        makers[f"{place}, without PESQ"] = lambda p=place: trained(p, "without PESQ", BEFORE)
    return study.rows("matrix", makers)


def by_noise(study, seeds):
    """The café, learned from mixtures with so many seconds of its recorded crowd; Val and Test have a stretch of their
    own.
    """
    tests = {"test": study.data("cafe", "Test")}
    recording = next(path for path in sorted(real_sounds.folder("crowd").rglob("*")) if audio.is_sound(path.name))
    wave, heard_there = audio.read(recording), {**NAMED["cafe"].mixtures, "folder_share": 1.0}
    del heard_there["recording"]

    def trained(seconds):
        folder = study.out / "data" / f"crowd_{seconds}_s"
        folder.mkdir(parents=True, exist_ok=True)
        heard = wave[: seconds * 16000]
        audio.write(folder / "crowd.wav", np.pad(heard, (0, len(heard) // 4)))  # four fifths of a file are Train's
        place = replace(NAMED["cafe"], mixtures={**heard_there, "noise_folder": str(folder)})
        out, counts = folder.with_name(f"cafe_{seconds}_s"), dict(train=TRAINED, val=0, test=0)
        mixtures.build(study.table, out, progress=False, seed=SEED, place=place, absent_share=0.2, **counts)
        told = {**FRESH, "amount": TRAINED}
        before, after, _ = study.run(RECIPE, f"cafe_{seconds}_s", val="cafe", seed=seeds[0], **told)
        equalised = comparison.score(before, tests, collate=collate)
        row = {"seconds": seconds, "equaliser": summary(equalised)["test"]}
        return {**row, **summary(comparison.score(after, tests, collate=collate), equalised)}

    return study.rows("noise", {f"{seconds} s": (lambda s=seconds: trained(s)) for seconds in NOISE_SECONDS})


def by_seed(study, seeds):
    """Chapter 2's recipe in the office, once a seed, and the same without PESQ in the loss, on Test mixtures of a
    seed of their own, which no other part scores: the mean of each system and metric, and its paired
    differences to starter and equaliser with intervals over mixtures and over people. *mean of seeds*: each mixture
    with its mean over them.
    """
    told = dict(seed=UNHEARD, train=0, val=0, test=study.counts["test"], place="office", absent_share=0.2)
    folder = study.out / f"data/office_seed_{UNHEARD}"
    mixtures.build(study.table, folder, progress=False, **told)
    test, facts = scores.open_test(folder)
    systems, metrics = {"starter": study.start}, ["si_sdri", "pesq", "estoi"]
    systems["equaliser"] = study.equaliser(amount=FRESH["amount"])
    recipes = {"": FRESH, "without PESQ, ": BEFORE}
    for name, terms in recipes.items():
        systems |= {f"{name}seed {seed}": study.run(RECIPE, seed=seed, **terms)[1] for seed in seeds}
    made = {name: scores.extract_all(model, test, progress=False) for name, model in systems.items()}
    table = scores.evaluate(made, test, ("si_sdr", "pesq", "estoi"), facts=facts, progress=False)
    for name in recipes:
        tuned = table[table["system"].str.match(rf"{name}seed \d")].groupby(["index", "speaker"], as_index=False)
        table = pd.concat([table, tuned[metrics].mean().assign(system=f"{name}mean of seeds")], ignore_index=True)
    pairs = [(name, other) for name in table["system"].unique()[2:] for other in ("starter", "equaliser")]
    rows = scores.paired(table, [("equaliser", "starter"), *pairs], metrics)
    means = table.groupby("system", sort=False)[metrics].mean().stack().rename("mean").rename_axis(["system", "metric"])
    rows = means.reset_index().merge(rows, how="left", on=["system", "metric"])
    runs.write_text(study.out / "seeds.csv", rows.to_csv(index=False, float_format="%.4f"))
    return rows


PARTS = {
    "strategies": by_strategy,
    "losses": by_loss,
    "shares": by_share,
    "cures": by_cure,
    "amounts": by_amount,
    "matrix": by_place,
    "noise": by_noise,
    "seeds": by_seed,
}


def main(arguments=None):
    """The command line: parts after another, each into its CSV."""
    parser = argparse.ArgumentParser(prog="python -m lib.pretraining.place_study", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the study")
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--source", default="auto", help="voices, as in chapter 1")
    parser.add_argument("--root", help="folder of those voices")
    options = parser.parse_args(arguments)
    study = Study(options.out, source=options.source, root=options.root)
    for name in options.parts:
        PARTS[name](study, options.seeds)


if __name__ == "__main__":
    main()
