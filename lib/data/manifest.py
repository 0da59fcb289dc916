"""`manifest.csv`: one row a mixture, with all that is needed to make it again; and the fingerprint of a whole dataset.

Lists stand as JSON in their cell. A piece of sound is `[file, offset, samples, at, gain]`: `samples` samples of `file`
from `offset` on (at 16 kHz) lie at sample `at` of the segment, times `gain`; a file is named `root/path/below/it`.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lib.data import tables
from lib.data.folders import DatasetError
from lib.data.recipes import Piece

RECIPE_VERSION = (
    1  # raise when the same settings come to give other mixtures, so that older datasets are not taken for equal
)
JSON_COLUMNS = (
    "interferers",
    "ratios",
    "target_pieces",
    "interferer_pieces",
    "background_pieces",
    "enrollment_pieces",
    "interferer_gains",
    "quiet",
    "room",
)
TEXT = ("speaker", "speaks", "absent", "difficulty", "background")  # stay text where they look like numbers
COLUMNS = [
    "index",
    "speaker",
    "speaks",
    "absent",
    "interferers",
    "difficulty",
    "sir_db",
    "snr_db",
    "background",
    "target_pieces",
    "interferer_pieces",
    "background_pieces",
    "enrollment_pieces",
    "quiet",
    "ratios",
    "wanted_sir_db",
    "background_ratio",
    "noise_seed",
    "place",
    "room",
    "target_gain",
    "interferer_gains",
    "background_gain",
    "scale",
    "seed",
    "level_before_db",
    "level_after_db",
    "mix_level_db",
    "enrollment_seconds",
]


def encode(row):
    """A recipe with its facts as a flat row of text and numbers."""
    return {name: json.dumps(row.get(name)) if name in JSON_COLUMNS else row.get(name) for name in COLUMNS}


def read_manifest(folder, split):
    """The manifest of `split` of the Dataset `folder` as a DataFrame, lists decoded; missing numbers are None or NaN.

    Raises `FileNotFoundError` where there is none: a dataset brought ready-made needs none, but cannot be taken apart.
    One that a person wrote may tell less, see `tables.read_manifest_table`; `DatasetError` names what is wrong in it.
    """
    path = Path(folder) / f"{split}_Dataset" / "manifest.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no manifest; only a dataset built here has one.")
    manifest = tables.read_manifest_table(path, DatasetError)
    if manifest is None:
        raise FileNotFoundError(f"{path}: names no mixtures, so it is taken for none.")
    for name in JSON_COLUMNS:
        if name in manifest and name != "interferers":
            manifest[name] = [_json(cell, f"{path}, line {line}, {name}") for line, cell in manifest[name].items()]
    manifest = tables.typed(manifest, text=TEXT)
    return manifest.reset_index(drop=True)


def _json(cell, where):
    try:
        return json.loads(cell) if cell else None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{where}: no JSON ({error}). Build the dataset again, or remove the column.") from error


def decode(row):
    """The recipe of one row of `read_manifest`, as `rendering.render` takes it."""
    recipe = {
        name: None if not isinstance(value, (list, dict)) and pd.isna(value) else value
        for name, value in dict(row).items()
    }
    if recipe["noise_seed"] is not None:
        recipe["noise_seed"] = int(recipe["noise_seed"])
    for name in ("target_pieces", "enrollment_pieces"):
        recipe[name] = [Piece(*piece) for piece in recipe[name]]
    for name in ("interferer_pieces", "background_pieces"):
        recipe[name] = [[Piece(*piece) for piece in pieces] for pieces in recipe[name]]
    return recipe


def fingerprint(settings, pools):
    """A hash of all that decides the dataset: settings, voices, backgrounds; not of where they lie."""
    told = {**asdict(settings), "music_folder": None, "noise_folder": None}
    if not told["absent_share"]:  # datasets made before there was such a thing stay what they are
        del told["absent_share"]
    if told["place"]:
        told["place"] = {**told["place"], "folder": bool(told["place"]["folder"])}
    content = dict(
        version=RECIPE_VERSION,
        settings=told,
        voices={
            split: {
                name: {file: round(seconds, 3) for file, seconds in files.items()} for name, files in speakers.items()
            }
            for split, speakers in pools.voices.items()
        },
        backgrounds=pools.backgrounds,
        noises=pools.noises,
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
