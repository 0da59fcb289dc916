"""What the starter is worth on people it has never heard: `python -m lib.pretraining.scores pretrained/starter`."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import lib  # noqa: F401  (makes torchaudio importable)
from lib import audio
from lib.data import voices as sources
from lib.evaluation import failures
from lib.evaluation.verification import eer
from lib.metrics import bootstrap_interval, people_interval, si_sdri, similarity
from lib.models.chunks import SPEEDS
from lib.models.convoifilter import ConVoiFilter
from lib.pretraining import silero
from lib.pretraining.streaming import EndlessMixtures
from lib.pretraining.teacher import Teacher

# two people, 5 s, enrollment of 4 s from other recordings, SIR uniform in -5 to 5 dB, same sex half of the time
CONDITIONS = {
    "two speakers": dict(noise_share=0.0),
    "with background at 10 to 20 dB": dict(noise_share=1.0, noise_snr_db=(10.0, 20.0)),
    "two speakers of one sex": dict(noise_share=0.0, same_sex=1.0),
    "a man and a woman": dict(noise_share=0.0, same_sex=0.0),
}

# where it is asked for people who are there and for people who are not
HEARD = {
    "in quiet": dict(noise_share=0.0),
    "with background at 0 to 5 dB": dict(noise_share=1.0, noise_snr_db=(0.0, 5.0)),
}


def mixtures(voices, items, seed, **condition):
    """Mixtures of one of `CONDITIONS`, the same for the same seed."""
    return EndlessMixtures(
        voices, items, seed, 5.0, 4.0, augment=False, second_interferer=0.0, **{"same_sex": 0.5, **condition}
    )


def score(folder, voices, music=(), items=300, seed=99, split="Test", speeds=(1.0,)):
    """SI-SDRi in dB of the model in `folder` on the speakers of `split`, `speeds` as in `ConVoiFilter.extract`: a
    DataFrame, a row a condition.

    low, high: 95 % interval over mixtures; people_low, people_high: over targets, of whom there are far fewer.
    """
    model, rows = ConVoiFilter.from_pretrained(folder), []
    for name, condition in CONDITIONS.items():
        data, gains, targets = mixtures(voices[voices.split == split], items, seed, music=music, **condition), [], []
        for i in range(items):
            item, names = data.named(i)
            targets.append(names[0])
            est = model.extract(item["mix"], item["enrollment"], speeds=speeds)
            gains.append(float(si_sdri(est, item["target"], item["mix"])))
        gains = np.array(gains)
        mean, low, high = bootstrap_interval(gains)
        _, people_low, people_high = people_interval(gains, targets)
        rows.append(
            {
                "condition": name,
                "mixtures": items,
                "si_sdri": mean,
                "low": low,
                "high": high,
                "people_low": people_low,
                "people_high": people_high,
                "over_1_db": (gains > 1).mean(),
                "below_0_db": (gains < 0).mean(),
            }
        )
    return pd.DataFrame(rows).round(3)


def silence(folder, voices, items=200, seed=97, split="Test", speeds=(1.0,), music=(), **condition):
    """Asked for both people of each of `items` mixtures and for somebody of another mixture: what `failures.silence`
    says, and `si_sdri` of the present ones, a dict. The stranger is as often of the first person's sex as not.
    `condition` as one of `HEARD`; in quiet where none is given.
    """
    model, people = ConVoiFilter.from_pretrained(folder), voices[voices.split == split]
    data = mixtures(people, items, seed, both=True, music=music, **(condition or HEARD["in quiet"]))
    rng, rows = np.random.default_rng(seed), []
    found = [data[k] for k in range(items)]
    who, sex = np.stack([item["people"] for item in found]), np.stack([item["sex"] for item in found])
    for k, item in enumerate(found):
        free = np.argwhere(~np.isin(who[:, :2], who[k]))
        alike = [pair for pair in free if (sex[tuple(pair)] == sex[k, 0]) == (rng.random() < 0.5)]
        other, place = (alike or list(free))[rng.integers(len(alike or free))]
        for case, known in (("present", item["enrollment"][k % 2]), ("absent", found[other]["enrollment"][place])):
            est, target = model.extract(item["mix"], known, speeds=speeds), item["target"][k % 2]
            row = {"case": case, "level_db": float(audio.rms_db(est) - audio.rms_db(item["mix"]))}
            row |= {"fainter_db": float(audio.rms_db(target) - audio.rms_db(est)), "similarity": similarity(est, known)}
            rows.append({**row, "si_sdri": float(si_sdri(est, target, item["mix"]))})
    table = pd.DataFrame(rows)
    return {**failures.silence(table), "si_sdri": table.loc[table["case"] == "present", "si_sdri"].mean()}


@torch.no_grad()
def tell_apart(embed, voices, items=150, seed=98):
    """Equal error rate of the cosine of embeddings, one person against another of the same sex, 5 s against 4 s of
    other recordings.
    """
    data = mixtures(voices, items, seed, both=True, noise_share=0.0, same_sex=1.0)
    waves = [[torch.from_numpy(data[i][name]) for i in range(items)] for name in ("target", "enrollment")]
    said, known = (embed(torch.cat(part)).float() for part in waves)
    centre = torch.cat([said, known]).mean(0)
    said, known = (torch.nn.functional.normalize(part - centre, dim=-1).view(items, 2, -1) for part in (said, known))
    own, other = (said * known).sum(-1).flatten(), (said * known.flip(1)).sum(-1).flatten()
    return eer(torch.cat([own, other]).numpy(), np.r_[np.ones(len(own)), np.zeros(len(other))])[0]


def main(arguments=None):
    """Print all that for the model in a folder, and for the teacher of its speaker encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--split",
        choices=("Train", "Val", "Test", "Silero"),
        default="Test",
        help=(
            "Silero: 118 synthesised voices (`lib.pretraining.silero`), strangers to all but a model pretrained with"
            " them"
        ),
    )
    parser.add_argument("--items", type=int, default=300, help="mixtures a condition")
    parser.add_argument(
        "--speeds",
        type=float,
        nargs="+",
        default=[1.0],
        help=f"the mean of estimates at these speeds, say {' '.join(map(str, SPEEDS))}",
    )
    options = parser.parse_args(arguments)
    voices = silero.load(blends=0).assign(split="Silero") if options.split == "Silero" else sources.load("debian")
    people = voices[voices.split == options.split]
    encoders = {
        "x-vector of this model": ConVoiFilter.from_pretrained(options.folder).float().xvector_model,
        "Resemblyzer, its teacher": Teacher(),
    }
    for name, embed in encoders.items():
        print(
            f"{name}: equal error rate {tell_apart(embed, people):.1%} between two people of one sex, {options.split}"
        )
    music, how = sources.background_music(), dict(split=options.split, speeds=options.speeds)
    said = [
        {"condition": name, **silence(options.folder, people, min(options.items, 200), music=music, **how, **condition)}
        for name, condition in HEARD.items()
    ]
    print(pd.DataFrame(said).round(3).to_string(index=False))
    print(score(options.folder, voices, music, options.items, **how).to_string(index=False))


if __name__ == "__main__":
    main()
