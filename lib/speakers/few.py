"""Few clips a person, asked about through another microphone: where ways to teach frozen features differ.

Features are `(clips, dim)`; a way to teach is a function `(features, labels, people, seed) -> answer`, and `answer`
names `(clips, dim)` as places in the list of people.
"""

import numpy as np
import pandas as pd
import torch

from lib.data.places import open_place
from lib.speakers.equalising import equalise
from lib.speakers.training import by_person, labels_of, new_head, train_head

SHOTS = (1, 3, 5)
ASKED_THROUGH = "phone"  # the place whose device the Test clips are heard through
TAUGHT_THROUGH = (
    "office",
    "cafe",
)  # devices that a head can be taught through; the one asked through is not among them


def through(place, waves, seed=0):
    """`waves` `(clips, samples)` as the device of a named place passes them on, then equalised as all clips are."""
    device = open_place(place).device
    return equalise(np.stack([device(wave) for wave in waves]), seed=seed)


def first_clips(table, shots):
    """The places of each person's first `shots` Train clips (all where there are fewer), `(clips,)`."""
    train = table[table["part"] == "Train"]
    return train.groupby("speaker").head(shots).index.to_numpy().copy()


def nearest_mean(features, labels, people, seed=0):
    """No training: the person whose mean direction is nearest, after the mean over all people is taken off."""
    centre = features.mean(0)
    unit = torch.nn.functional.normalize(features - centre, dim=1)
    means = torch.stack([unit[labels == k].mean(0) for k in range(people)])
    means = torch.nn.functional.normalize(means, dim=1)
    return lambda asked: ((asked - centre) @ means.T).argmax(1)


def head(features, labels, people, seed=0, epochs=30):
    """A new head by cross-entropy, as in section 3 of the chapter."""
    net = new_head(features, people, seed)
    train_head(net, features, labels, epochs=epochs, seed=seed)

    def answer(asked):
        with torch.no_grad():
            return net(asked).argmax(1)

    return answer


def shots_table(way, features, asked, table, people, more=(), shots=SHOTS, seeds=(0, 1, 2)):
    """Rows, one a number of clips and a microphone: clips, heard, accuracy (over seeds), low, high (people drawn anew),
    right `(test clips,)`.

    features: of all clips in `table`. asked: name of a microphone -> features of the Test clips through it. more:
    features of all clips through other devices, which teach beside `features` where they are given.
    """
    labels, test = labels_of(table, people), (table["part"] == "Test").to_numpy()
    truth, speakers, rows = labels[torch.tensor(test)], table["speaker"][test], []
    for count in shots:
        places = first_clips(table, count)
        taught = torch.cat([one[places] for one in (features, *more)])
        own = labels[places].repeat(1 + len(more))
        answers = [way(taught, own, len(people), seed) for seed in seeds]
        for heard, values in asked.items():
            right = np.mean([(answer(values) == truth).double().numpy() for answer in answers], axis=0)
            found = by_person(right, speakers)
            rows.append(
                dict(clips=count, heard=heard, accuracy=found.mean, low=found.low, high=found.high, right=right)
            )
    return rows


def wide(rows, by):
    """Rows with a column `by` as a table to look at: a row each, a column a microphone and number of clips, in per cent
    with the interval over people.
    """
    rows = pd.DataFrame(rows)
    told = [f"{row.accuracy:.0%} ({row.low:.0%} to {row.high:.0%})" for row in rows.itertuples()]
    clips = rows["clips"].map(lambda count: f"{count} clip{'s' if count > 1 else ''}")
    return rows.assign(told=told, clips=clips).pivot_table(
        index=by, columns=["heard", "clips"], values="told", aggfunc="first", sort=False
    )


def difference(rows, by, better, worse, clips, heard, speakers):
    """How much more of the same clips `better` names right than `worse`: `Interval` with people drawn anew, -1 to 1."""
    right = {row[by]: row["right"] for row in rows if row["clips"] == clips and row["heard"] == heard}
    return by_person(right[better] - right[worse], speakers)
