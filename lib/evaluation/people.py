"""For whom an extractor works: whether the right person came out, and in which mixtures one model beats another."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import metrics
from lib.data import places, seating
from lib.data.folders import DatasetError
from lib.data.manifest import read_manifest
from lib.runs import place as project_path


def right_person(systems, test, facts, progress=True):
    """Whether each estimate resembles the enrollment more than any interferer's: a DataFrame system, index, right.

    systems: name -> waves, one `(samples,)` for each item of `test`. facts: as `scores.open_test` returns them. The
    voice of an interferer is an enrollment of theirs from another mixture of `test`; a mixture with an interferer who
    has none there is left out. Resemblyzer compares (`metrics.voice_embedding`); a silent estimate is not right.
    """
    own = [metrics.voice_embedding(item["enrollment"].numpy()) for item in tqdm(test, "voices", disable=not progress)]
    known, rows = {}, []
    for place, speaker in enumerate(facts["speaker"]):
        known.setdefault(speaker, []).append(place)
    for place, names in enumerate(facts["others"]):
        others = [known[name][place % len(known[name])] for name in names.split(", ") if name in known]
        if not names or len(others) < len(names.split(", ")):
            continue
        for system, waves in systems.items():
            heard = metrics.voice_embedding(waves[place]) if np.any(waves[place]) else np.zeros_like(own[place])
            right = heard @ own[place] > max(heard @ own[other] for other in others)
            rows.append({"system": system, "index": facts["index"].iloc[place], "right": bool(right)})
    return pd.DataFrame(rows, columns=["system", "index", "right"])


def distances(folder, split="Test"):
    """Metres from the microphone to the person asked for, a Series over the mixtures' index; empty where the Dataset
    `folder` was not made in a simulated place.
    """
    folder = project_path(folder)
    try:
        told = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))["settings"]["place"]
        rooms = read_manifest(folder, split).dropna(subset=["room"]).set_index("index")["room"]
    except (FileNotFoundError, KeyError, DatasetError):
        return pd.Series(dtype=float)
    if not told or told.get("folder") or not len(rooms):
        return pd.Series(dtype=float)
    place = places.open_place(told)
    seats = seating.seats(place, split)["target"] - np.array(place.microphone)
    return rooms.map(lambda room: float(np.linalg.norm(seats[int(room["target"].split()[1])])))


def helped(table, system, against, distance=None, seed=0):
    """Where `system` is better than `against`: the paired difference of SI-SDRi (dB) in groups of mixtures, with its 95
    % interval over mixtures.

    table: as `scores.evaluate` returns it, with facts. distance: as `distances` returns it. Groups of fewer than three
    mixtures, and those of which nothing is known, are left out.
    """
    both = [table[table["system"] == name].set_index("index") for name in (system, against)]
    change, known = (both[0]["si_sdri"] - both[1]["si_sdri"]).dropna(), both[0]
    groups = {"all": change.index}
    if "same_sex" in known:
        groups["another of the same sex"] = known.index[known["same_sex"].eq(True)]
        groups["others of the other sex only"] = known.index[known["same_sex"].eq(False)]
    if "others" in known:
        count = known["others"].str.count(", ") + 1
        groups |= {"one other": known.index[count.eq(1)], "two others": known.index[count.eq(2)]}
    if distance is not None and len(distance := distance.reindex(change.index).dropna()):
        middle = distance.median()
        groups[f"nearer than {middle:.1f} m"] = distance.index[distance < middle]
        groups[f"{middle:.1f} m or farther"] = distance.index[distance >= middle]
    rows = []
    for name, index in groups.items():
        values = change[change.index.isin(index)]
        if len(values) >= 3:
            mean, low, high = metrics.bootstrap_interval(values.to_numpy(), seed)
            rows.append({"mixtures of": name, "count": len(values), "change": mean, "low": low, "high": high})
    return pd.DataFrame(rows)
