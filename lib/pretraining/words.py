"""The committed words model: an ensemble of pretrained encoders with their last blocks opened, trained longer than a
chapter may take.

python -m lib.pretraining.words OUT              trains the members in OUT (goes on after an interruption), measures,
writes OUT/words
python -m lib.pretraining.words OUT --tables     trains the chapter's table of recipes in OUT, writes
results/05_ladder.csv and .png
python -m lib.pretraining.words OUT --people international      a frozen encoder's head and the earlier solution with
everybody held out in turn; letters: the head on fifteen people. Each call writes its rows of results/05_people.csv
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from lib import runs
from lib.training import freezing
from lib.training.fit import fit
from lib.words import ladder, mixtures, people, recipes, scores, sources, training as teach, views
from lib.words.encoder import TransferWords, speech_embedding
from lib.words.net import Averaged, Ensemble
from lib.words.starter import pools_of, pools_of_everyone, save, test_clips

MEMBERS, BANK, EPOCHS = 3, 6144, 6
IN_TURN = {  # vocabulary -> how many clips of each person teach, choose and test, and the recipe from scratch beside it
    "international": (dict(clips=170), recipes.LONGER),
    "letters": (dict(clips=96, val_clips=48, test_clips=60), None),
}
TRACT = 1.18  # the last member hears resonances moved apart from the pitch too, so that it errs differently


def member(pools, out, seed=0, bank=BANK, epochs=EPOCHS, resume=True, **settings):
    """One encoder with its last two blocks and a new head trained on a bank of `bank` clips; what is frozen is computed
    once a clip.
    """
    torch.manual_seed(seed)
    net = TransferWords(speech_embedding(), len(pools["train"].words), open=3, mixup=0.3)
    freezing.freeze_groups(net, net.groups(), net.opened())
    model = Averaged(net, 0.995)
    train = teach.stored(net, mixtures.Mixtures(pools["varied"], bank, seed=100 + seed, shift=0.1))
    val = teach.stored(net, mixtures.Mixtures(pools["val"], 512, seed=1))
    how = (
        dict(
            epochs=epochs, batch_size=32, learning_rate=2e-3, optimizer="NAdam", patience=0, seed=seed, progress="none"
        )
        | settings
    )
    history = fit(
        model,
        train,
        val,
        out,
        resume=resume and Path(out).is_dir(),
        score=teach.loudest_score,
        notes={"words": pools["train"].words},
        **how,
    )
    return model.mean.eval(), history


def everybody_in_turn(vocabulary, out, place=runs.ROOT / "results"):
    """The rows of `vocabulary` in `05_people.csv`, one a recipe and person who was held out, and the picture of all."""
    table, (how, scratch) = sources.load(vocabulary=vocabulary), IN_TURN[vocabulary]

    def frozen(seed):
        net = TransferWords(speech_embedding(), len(table.attrs["words"]), open=0, mixup=0.3)
        freezing.freeze_groups(net, net.groups(), net.opened())
        return net

    pools = pools_of_everyone(table)
    found = [people.in_turn(frozen, pools, out / vocabulary / "head", 5, epochs=8, **how).assign(recipe="head only")]
    if scratch:
        found.append(people.from_scratch(scratch, pools, out / vocabulary / "scratch").assign(recipe="reproduction"))
    file = place / "05_people.csv"
    kept = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["vocabulary"])
    rows = pd.concat(found).drop(columns=["fold", "seconds", "calibration_error"]).assign(vocabulary=vocabulary)
    rows = pd.concat([kept[kept["vocabulary"] != vocabulary], rows])
    runs.write_text(file, rows.to_csv(index=False, float_format="%.4f"))
    heads = rows[rows["recipe"] == "head only"].groupby("vocabulary", sort=False)
    views.people(dict(iter(heads))).savefig(place / "05_people.png")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--people", choices=list(IN_TURN))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    if asked.people:
        everybody_in_turn(asked.people, asked.out)
        return
    pools = pools_of(sources.load(), 24)
    sets, names = test_clips(pools), pools["train"].words
    if asked.tables:
        ladder.write_tables(pools, sets, asked.out, asked.seeds)
        return
    members, rows, others = [], [], {**pools, "varied": pools["train"].varied(24, tract=TRACT, seed=1)}
    for seed in range(MEMBERS):
        net, history = member(pools if 2 * seed < MEMBERS else others, asked.out / f"member_{seed}", seed)
        members.append(net)
        rows.append(
            {"model": f"member {seed}", "epoch": history.attrs["best_epoch"], **teach.measure(net, sets, names)[0]}
        )
        print(rows[-1], flush=True)
    row, given = teach.measure(Ensemble(members), sets, names)
    temperature = scores.best_temperature(given["val"], sets["val"][1])
    cooled, _ = teach.measure(Ensemble(members, temperature), sets, names)
    rows += [
        {"model": f"ensemble of {MEMBERS}", **row},
        {"model": f"ensemble, temperature {temperature:.2f} (by Val)", **cooled},
    ]
    print(pd.DataFrame(rows).T.to_string())
    save(members, names, asked.out / "words", temperature)
    runs.write_text(asked.out / "scores.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
