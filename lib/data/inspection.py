"""Look into a Dataset folder: its mixtures in numbers, one of them taken apart, and its people as a table of voices.

All of it works on a folder brought ready-made too, with less to tell where there is no manifest.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib import audio
from lib.data import mixtures
from lib.data.dataset import check_dataset
from lib.data.manifest import read_manifest


def is_ready_made(folder):
    """Whether `folder` is a Dataset that was brought, not built here: it is checked, never rebuilt."""
    folder = Path(folder)
    return any(folder.glob("*_Dataset")) and not (folder / "settings.json").exists()


def facts(folder):
    """A row a mixture: split, index, speaker, speaks (yes, no), absent (how, `recipes.ABSENT`), others (how many
    interfere), difficulty, background, sir_db, snr_db, and the target's level before and after (dBFS), NaN where the
    person is silent.

    Of a data set brought ready-made sir_db is the target over everything else, and both levels are that of the file.
    """
    tables, ready_made = [], is_ready_made(folder)  # a manifest that was brought may hold anything
    for split, pairs in check_dataset(folder, deep=False).groupby("split", sort=False):
        if ready_made:
            tables.append(pd.DataFrame([_measured(row) for row in pairs.to_dict("records")]))
        else:
            manifest = read_manifest(folder, split)
            tables.append(manifest.assign(split=split, others=manifest["interferers"].map(len)))
    table = pd.concat(tables, ignore_index=True)
    wanted = (
        "split",
        "index",
        "speaker",
        "speaks",
        "absent",
        "others",
        "difficulty",
        "background",
        "sir_db",
        "snr_db",
        "level_before_db",
        "level_after_db",
    )
    for name in ("speaks", "absent"):  # of a data set made before anybody could be absent, or brought
        table[name] = table[name].fillna("") if name in table else ""
    return table[list(wanted)]


def _measured(row):
    mix, target = audio.read(row["mix"]), audio.read(row["clean"])
    level = float(audio.rms_db(target))
    return dict(
        split=row["split"],
        index=row["index"],
        speaker=row.get("speaker"),
        others=1,
        difficulty="unknown",
        background="unknown",
        sir_db=level - float(audio.rms_db(mix - target)),
        snr_db=float("nan"),
        level_before_db=level,
        level_after_db=level,
    )


def speed(folder):
    """Mixtures a second when `folder` was built, as its settings.json tells."""
    record = json.loads((Path(folder) / "settings.json").read_text())
    return record["made"] / max(record["seconds"], 1e-9)


def take_apart(folder, split, index):
    """Label -> wave `(samples,)`: mixture, enrollment, each interferer and the background where a manifest tells, and
    the target.
    """
    pairs = check_dataset(folder, [split], deep=False).set_index("index")
    if index not in pairs.index:
        raise mixtures.MixtureError(
            f"{folder}: no mixture {index} in {split}; there are {pairs.index.min()} to {pairs.index.max()}."
        )
    if is_ready_made(folder):
        mix, target, enrollment = (audio.read(pairs.at[index, name]) for name in ("mix", "clean", "enrollment"))
        return {"mixture": mix, "enrollment": enrollment, "all but the target": mix - target, "target": target}
    made = mixtures.parts(folder, split, index)
    row = read_manifest(folder, split).set_index("index").loc[index]
    waves = {"mixture": made["mix"], f"enrollment ({row['speaker']})": made["enrollment"]}
    waves |= {f"interferer ({name})": wave for name, wave in zip(row["interferers"], made["interferers"])}
    if row["background"] != "none":
        waves[f"background ({row['background']})"] = made["noise"]
    if not np.array_equal(made["heard"], made["target"]):  # a place lies between the two
        waves["target, as the microphone hears it"] = made["heard"]
    return {**waves, f"target ({row['speaker']})": made["target"]}


def sources(voices):
    """A row a collection of recordings: speakers, women, men, languages, recordings, hours, licence, as far as the
    table of voices tells.
    """
    # the debian source names its speakers after the collection: `asterisk-june`
    voices = voices.assign(collection=voices["speaker"].str.split("-").str[0].where(voices["source"] == "debian", ""))
    rows = []
    for (source, collection), part in voices.groupby(["source", "collection"]):
        people = part.drop_duplicates("speaker")
        row = dict(
            source=source,
            collection=collection,
            speakers=len(people),
            recordings=len(part),
            hours=part["seconds"].sum() / 3600,
        )
        if "sex" in people:
            row |= dict(women=(people["sex"] == "F").sum(), men=(people["sex"] == "M").sum())
        row |= {
            name: ", ".join(sorted(people[column].dropna().astype(str).unique()))
            for name, column in (("languages", "language"), ("licence", "licence"))
            if column in people
        }
        rows.append(row)
    return pd.DataFrame(rows).sort_values("hours", ascending=False, ignore_index=True)


def voices_of(folder):
    """A Dataset's clean speech and enrollments as a table of voices: speaker, path, seconds, split, source.

    Where no manifest names the speakers, all of a split stand under one name, so that recordings can still be compared
    across splits.
    """
    pairs = check_dataset(folder, deep=False)
    known = pairs["speaker"] if "speaker" in pairs else pd.Series(None, index=pairs.index, dtype=object)
    speaker = known.fillna("somebody in " + pairs["split"])
    columns = (("clean", "seconds"), ("enrollment", "enrollment_seconds"))
    return pd.concat(
        [
            pd.DataFrame(
                dict(
                    speaker=speaker,
                    path=pairs[name].astype(str),
                    seconds=pairs[seconds],
                    split=pairs["split"],
                    source="ready-made",
                )
            )
            for name, seconds in columns
        ],
        ignore_index=True,
    )
