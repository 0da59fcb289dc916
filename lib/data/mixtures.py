"""Build a Dataset of mixtures from a table of voices, and take one mixture apart again.

    Dataset/{Train,Val,Test}_Dataset/{Clean,Mix,Target}/{clean,mix,enrollment}_000001.wav, and manifest.csv a split

`Clean` is the target's speech as it sounds in `Mix`; `Target` holds the *enrollment*: the same person in other
recordings. Everything follows from the settings (`mixture_settings.py`) and one seed, whatever the number of
processes. `recipes.py` says what goes into one mixture, `rendering.py` how it sounds, `dataset.py` reads the result.
Waves are float32 `(samples,)` in [-1, 1] at 16 kHz, stored as 16-bit PCM.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from lib import audio, runs
from lib.data import recipes, rendering
from lib.data.dataset import DatasetError, check_dataset, collate, open_dataset  # noqa: F401  (one door to import from)
from lib.data.manifest import COLUMNS, decode, encode, fingerprint, read_manifest
from lib.data.mixture_settings import make_settings
from lib.data.pools import MixtureError, make_pools

SPLITS, SR = recipes.SPLITS, recipes.SR
FOLDERS = {"target": ("Clean", "clean"), "mix": ("Mix", "mix"), "enrollment": ("Target", "enrollment")}
IN_PROCESS = 24  # fewer mixtures than this are made here: starting processes would take longer


def build(voices, out, progress=True, workers=None, overwrite=False, **settings):
    """Make the Dataset `out` from `voices` (columns speaker, path, seconds, split) and return a summary, a row a split.

    `settings` are the fields of `mixture_settings.MixtureSettings`, `place` also as a name or folder
    (`lib.data.places`); `workers` processes share the work (default: one a core). A second call with the same
    settings and voices returns at once; after an interruption it goes on where it stopped. The dataset is made
    beside `out` and put in its place when complete, so an earlier one stays whole until then. Raises `MixtureError`
    for unusable voices or settings, and where `out` holds another dataset and `overwrite` is not set.
    """
    settings, out = make_settings(**settings), Path(out)
    pools = make_pools(voices, settings)
    key = fingerprint(settings, pools)
    building, replaced = (out.with_name(out.name + ending) for ending in (".building", ".replaced"))
    _recover(out, replaced)
    if out.exists() and any(out.iterdir()):
        if _key(out) == key:
            return _summary(out, complete=True)
        _may_replace(out, overwrite)
    for note in pools.notes:
        runs.say(note)
    if building.exists() and _key(building) != key:
        shutil.rmtree(building)
    building.mkdir(parents=True, exist_ok=True)
    for half in building.rglob(".part-*"):  # of a build that was killed
        half.unlink()
    record = dict(
        hash=key,
        settings=asdict(settings),
        roots={name: str(path) for name, path in pools.roots.items()},
        python=sys.version.split()[0],
    )
    _write_json(building / "settings.json", record)
    started = time.perf_counter()
    try:
        record["made"] = _make_all(settings, pools, building, progress, workers)
        record["skipped"] = _write_manifests(building)
    except OSError as error:
        raise MixtureError(
            f"{building}: cannot be written ({error}). Free some disk space and run the same again: it continues "
            "where it stopped. An earlier dataset is untouched."
        ) from error
    _write_json(building / "settings.json", {**record, "seconds": round(time.perf_counter() - started, 1)})
    _swap(building, out, replaced)
    return _summary(out)


def parts(folder, split, index, roots=None):
    """Mixture `index` of `split` rebuilt in memory from its manifest row, as `rendering.render` gives its parts: a dict
    of float32 `(samples,)` waves as they were before rounding to 16 bits.

    `roots`: where the voices and backgrounds lie now, e.g. `{"voices": folder}`, when they have moved since. Raises
    `MixtureError` for an unknown index, `AudioError` where a source file is missing.
    """
    manifest = read_manifest(folder, split)
    row = manifest[manifest["index"] == index]
    if row.empty:
        raise MixtureError(
            f"{folder}: no mixture {index} in {split}; there are {manifest['index'].min()} to"
            f" {manifest['index'].max()}."
        )
    record = json.loads((Path(folder) / "settings.json").read_text())
    settings = make_settings(**record["settings"])
    recipe = {**decode(row.iloc[0]), "samples": settings.samples, "level_dbfs": settings.level_dbfs}
    library = recipes.Library({**record["roots"], **(roots or {})}, place=settings.place)
    return rendering.render(recipe, library)[0]


# --- making them

_job = {}  # what a worker process needs, set once by `_start_worker`


def _start_worker(settings, pools, building):
    _job.update(
        settings=settings,
        pools=pools,
        building=Path(building),
        library=recipes.Library(pools.roots, place=settings.place),
    )


def _make(split, index):
    """Make one triple and then its row, the mark that it is complete; or a row that says why it is skipped."""
    settings, folder = _job["settings"], split_folder(_job["building"], split)
    try:
        recipe = recipes.draw(settings, _job["pools"], _job["library"], split, index)
        made, facts = rendering.render(recipe, _job["library"])
        skipped = "below level" if facts["mix_level_db"] < settings.skip_below_dbfs else ""
    except recipes.NotEnough as error:
        recipe, facts, skipped = {"index": index}, {}, str(error)
    if not skipped:
        for part, (place, name) in FOLDERS.items():
            audio.write(folder / place / f"{name}_{index:06d}.wav", made[part], SR)
    _write_json(folder / "rows" / f"{index:06d}.json", {**recipe, **facts, "seed": settings.seed, "skipped": skipped})


def _make_all(settings, pools, building, progress, workers):
    """Make what is not there yet; returns how many that were."""
    todo = []
    for split in SPLITS:
        rows = split_folder(building, split) / "rows"
        count = settings.count(split, len(pools.targets[split]))
        if count:
            rows.mkdir(parents=True, exist_ok=True)
        todo += [(split, index) for index in range(1, count + 1) if not (rows / f"{index:06d}.json").exists()]
    workers = 1 if len(todo) < IN_PROCESS else workers or os.cpu_count() or 1
    with tqdm(total=len(todo), desc="mixtures", unit="mixture", disable=not progress, mininterval=1.0) as bar:
        if workers == 1:
            _start_worker(settings, pools, building)
            for item in todo:
                _make(*item)
                bar.update()
            return len(todo)
        # fork spares each worker the imports; Windows and macOS have or trust only spawn
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with ProcessPoolExecutor(workers, context, _start_worker, (settings, pools, building)) as pool:
            try:
                for done in as_completed([pool.submit(_make, *item) for item in todo]):
                    done.result()
                    bar.update()
            except BaseException:  # what is not begun need not be made, when one has failed or the user interrupts
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return len(todo)


def split_folder(folder, split):
    return Path(folder) / f"{split}_Dataset"


# --- files on disk


def _write_manifests(building):
    """`manifest.csv` a split from the rows, in order of index. Returns split -> {index: why it was skipped}."""
    skipped = {}
    for split in SPLITS:
        folder = split_folder(building, split)
        if not (folder / "rows").is_dir():
            continue
        rows = [json.loads(path.read_text()) for path in sorted((folder / "rows").glob("*.json"))]
        kept = [encode(row) for row in rows if not row["skipped"]]
        if not kept:
            reasons = ", ".join(sorted({row["skipped"] for row in rows}))
            raise MixtureError(
                f"{folder.name}: all {len(rows)} mixtures were skipped ({reasons}). Check the levels of the voices and"
                " settings."
            )
        pd.DataFrame(kept, columns=COLUMNS).to_csv(folder / "manifest.csv", index=False)
        skipped[split] = {row["index"]: row["skipped"] for row in rows if row["skipped"]}
    for split in SPLITS:
        shutil.rmtree(split_folder(building, split) / "rows", ignore_errors=True)
    return skipped


def _summary(out, complete=False):
    """A row a split: mixtures, skipped, target speakers, in how many the person asked for is silent, minutes, mean SIR
    and SNR (dB), share hard, share with background.
    """
    table, record = [], json.loads((out / "settings.json").read_text())
    minutes = record["settings"]["segment_seconds"] / 60
    for split in SPLITS:
        if not (split_folder(out, split) / "manifest.csv").exists():
            continue
        manifest = read_manifest(out, split)
        if complete:
            _all_there(split_folder(out, split), manifest["index"])
        table.append(
            dict(
                split=split,
                mixtures=len(manifest),
                skipped=len(record["skipped"][split]),
                speakers=manifest["speaker"].nunique(),
                silent=int((manifest["speaks"] == "no").sum()) if "speaks" in manifest else 0,
                minutes=len(manifest) * minutes,
                sir_db=manifest["sir_db"].mean(),
                snr_db=manifest["snr_db"].mean(),
                share_hard=(manifest["difficulty"] == "hard").mean(),
                share_background=(manifest["background"] != "none").mean(),
            )
        )
    return pd.DataFrame(table)


def _all_there(folder, indices):
    for place, name in FOLDERS.values():
        there = {path.name for path in (folder / place).glob("*.wav")}
        if missing := [index for index in indices if f"{name}_{index:06d}.wav" not in there]:
            raise DatasetError(
                f"{folder / place}: {name}_{missing[0]:06d}.wav is missing (index {missing[0]}; {len(missing)} in all)."
                " Build again with overwrite=True."
            )


def _key(folder):
    """The fingerprint of what made `folder`; None where it was not made here."""
    try:
        return json.loads((folder / "settings.json").read_text()).get("hash")
    except (OSError, ValueError):
        return None


def _may_replace(out, overwrite):
    if _key(out) is None:
        raise MixtureError(
            f"{out}: holds files that were not built here (no settings.json); they are left alone. Choose another"
            " folder."
        )
    if not overwrite:
        raise MixtureError(
            f"{out}: holds a dataset of other settings or voices. Choose another folder, or replace it with"
            " overwrite=True."
        )


def _recover(out, replaced):
    """After a kill between the two renames of `_swap`, the earlier dataset takes its place again."""
    if replaced.exists():
        shutil.rmtree(replaced) if out.exists() else replaced.rename(out)


def _swap(building, out, replaced):
    if out.exists():
        out.rename(replaced)
    building.rename(out)
    shutil.rmtree(replaced, ignore_errors=True)


def _write_json(path, content):
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=None if "rows" in path.parts else 1))
    os.replace(part, path)
