"""Look into a Dataset folder: its mixtures in numbers, one of them taken apart, and its people as a table of voices.

All of it works on a folder brought ready-made too, with less to tell where there is no manifest.
"""
from pathlib import Path

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
    """A row a mixture: split, index, speaker, difficulty, background, sir_db, snr_db, and the target's level before and after (dBFS).

    Without a manifest: split, index, and as sir_db the target over everything else.
    """
    tables = []
    for split, pairs in check_dataset(folder, deep=False).groupby("split", sort=False):
        try:
            tables.append(read_manifest(folder, split).assign(split=split))
        except FileNotFoundError:
            tables.append(pd.DataFrame([_measured(row) for row in pairs.to_dict("records")]))
    table = pd.concat(tables, ignore_index=True)
    wanted = ("split", "index", "speaker", "difficulty", "background", "sir_db", "snr_db", "level_before_db", "level_after_db")
    return table[[name for name in wanted if name in table]].round({"sir_db": 3, "snr_db": 3})


def _measured(row):
    mix, target = audio.read(row["mix"]), audio.read(row["clean"])
    return dict(split=row["split"], index=row["index"], sir_db=float(audio.rms_db(target) - audio.rms_db(mix - target)))


def take_apart(folder, split, index):
    """Label -> wave `(samples,)`: mixture, enrollment, each interferer and the background where a manifest tells, and the target."""
    pairs = check_dataset(folder, [split], deep=False).set_index("index")
    if index not in pairs.index:
        raise mixtures.MixtureError(f"{folder}: no mixture {index} in {split}; there are {pairs.index.min()} to {pairs.index.max()}.")
    if is_ready_made(folder):
        mix, target, enrollment = (audio.read(pairs.at[index, name]) for name in ("mix", "clean", "enrollment"))
        return {"mixture": mix, "enrollment": enrollment, "all but the target": mix - target, "target": target}
    made = mixtures.parts(folder, split, index)
    row = read_manifest(folder, split).set_index("index").loc[index]
    waves = {"mixture": made["mix"], f"enrollment ({row['speaker']})": made["enrollment"]}
    waves |= {f"interferer ({name})": wave for name, wave in zip(row["interferers"], made["interferers"])}
    if row["background"] != "none":
        waves[f"background ({row['background']})"] = made["noise"]
    return {**waves, f"target ({row['speaker']})": made["target"]}


def voices_of(folder):
    """A Dataset's clean speech and enrollments as a table of voices: speaker, path, seconds, split, source.

    Where no manifest names the speakers, all of a split stand under one name, so that recordings can still be compared across splits.
    """
    pairs = check_dataset(folder, deep=False)
    known = pairs["speaker"] if "speaker" in pairs else pd.Series(None, index=pairs.index, dtype=object)
    speaker = known.fillna("somebody in " + pairs["split"])
    columns = (("clean", "seconds"), ("enrollment", "enrollment_seconds"))
    return pd.concat([pd.DataFrame(dict(speaker=speaker, path=pairs[name].astype(str), seconds=pairs[seconds], split=pairs["split"],
                                        source="ready-made")) for name, seconds in columns], ignore_index=True)
