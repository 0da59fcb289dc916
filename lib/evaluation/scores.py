"""Run extractors over a test set and put every metric of every sample into one table.

A system is a list of estimates, one numpy float32 `(samples,)` at 16 kHz for each item of the dataset, in its order.
Tables are pandas DataFrames; the column names are those of `lib.metrics`, `pesq` for PESQ in wide band.
"""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from lib import audio, metrics
from lib.data import debian
from lib.data.dataset import open_dataset, spread
from lib.data.manifest import read_manifest

GROUPS = {
    "si_sdr": ("si_sdr", "si_sdri"),
    "sdr": ("sdr", "sdri"),
    "pesq": ("pesq",),
    "estoi": ("estoi",),
    "dnsmos": ("sig", "bak", "ovrl", "p808"),
    "similarity": ("similarity",),
}
METRICS = tuple(GROUPS)
FACTS = ["speaker", "others", "difficulty", "sir_db", "snr_db", "same_sex"]  # beside `index`


class Estimates(NamedTuple):
    """What one system made of a dataset: `waves`, one `(samples,)` an item, and the `seconds` that each took."""

    waves: list
    seconds: list


def extract_all(model, dataset, name="", overlap=0.0, progress=True):
    """`model.extract` on every item of `dataset` (as `open_dataset` returns it) -> `Estimates`.

    The first item runs once more at the start, unmeasured, because the first call prepares memory and kernels.
    """
    waves, seconds = [], []
    for place in tqdm(range(len(dataset)), desc=f"extract {name}".strip(), disable=not progress):
        item = dataset[place]
        mix, enrollment = item["mix"].numpy(), item["enrollment"].numpy()
        try:
            if not place:
                extract(model, mix, enrollment, overlap=overlap)
            started = time.perf_counter()
            waves.append(extract(model, mix, enrollment, overlap=overlap))
        except ValueError as error:
            raise ValueError(f"mixture {item['index']}: {error}") from error
        seconds.append(time.perf_counter() - started)
    return Estimates(waves, seconds)


def extract(model, mix, enrollment, **how):
    """`model.extract` for a set of mixtures: that an enrollment is short is not said again for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enrollment:")
        return model.extract(mix, enrollment, **how)


def unprocessed(dataset):
    """The mixtures themselves as a system: what every other one is compared with."""
    return Estimates([dataset[place]["mix"].numpy() for place in range(len(dataset))], [float("nan")] * len(dataset))


def evaluate(systems, dataset, chosen=METRICS, limit=None, facts=None, threads=2, progress=True):
    """Every metric of every sample and system: a DataFrame, a row each, with `system`, `index` and the columns of
    `GROUPS`.

    systems: dict name -> `Estimates` (or a list of waves). chosen: which metrics, of `METRICS`. limit: dict metric ->
    how many mixtures, spread evenly over the dataset, get it; the others hold NaN there. facts: a table with `index`
    and what else is known of a mixture (see `mixture_facts`), joined on. threads: samples measured at a time (the slow
    parts run outside Python's lock). Also in the table: `level_db`, the estimate's level over the mixture's, `seconds`,
    `audio_seconds`. Raises ValueError for an unknown metric, a system of another length than the dataset, and an
    estimate of another shape.
    """
    limit = limit or {}
    if unknown := [name for name in (*chosen, *limit) if name not in METRICS]:
        raise ValueError(f"unknown metric {', '.join(unknown)}; known are {', '.join(METRICS)}.")
    systems = {
        name: made if isinstance(made, Estimates) else Estimates(list(made), [float("nan")] * len(made))
        for name, made in systems.items()
    }
    for name, made in systems.items():
        if len(made.waves) != len(dataset):
            raise ValueError(
                f"{name}: {len(made.waves)} estimates for a dataset of {len(dataset)}; give one an item, in its order."
            )
    measured = {metric: set(spread(len(dataset), limit.get(metric))) for metric in chosen}
    with metrics.one_thread(), ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(_rows, systems, dataset, place, [metric for metric in chosen if place in measured[metric]])
            for place in range(len(dataset))
        ]
        rows = [row for job in tqdm(jobs, desc="measure", disable=not progress) for row in job.result()]
    table = pd.DataFrame(rows)
    for column in [column for metric in chosen for column in GROUPS[metric] if column not in table]:
        table[column] = np.nan
    table = table.sort_values(
        "system", key=lambda names: names.map(list(systems).index), kind="stable", ignore_index=True
    )
    return table if facts is None else table.merge(facts, on="index", how="left", validate="many_to_one")


def _rows(systems, dataset, place, chosen):
    item = dataset[place]
    mix, ref, enrollment = (item[name].numpy() for name in ("mix", "target", "enrollment"))
    known = {
        "similarity": metrics.voice_embedding(enrollment) if "similarity" in chosen else None,
        "si_sdr": metrics.si_sdr(mix, ref),
        "sdr": metrics.sdr(mix, ref) if "sdr" in chosen else None,
    }
    rows = []
    for name, made in systems.items():
        est = made.waves[place]
        if est.shape != mix.shape:
            raise ValueError(
                f"{name}, index {item['index']}: expected an estimate of {mix.shape}, like the mixture; got"
                f" {est.shape}."
            )
        rows.append(
            {
                "system": name,
                "index": item["index"],
                **_measure(est, ref, enrollment, chosen, known),
                "level_db": float(audio.rms_db(est) - audio.rms_db(mix)),
                "seconds": made.seconds[place],
                "audio_seconds": len(mix) / metrics.SR,
            }
        )
    return rows


def _measure(est, ref, enrollment, chosen, known):
    row = {}
    if "si_sdr" in chosen:
        row["si_sdr"] = float(metrics.si_sdr(est, ref))
        row["si_sdri"] = row["si_sdr"] - float(known["si_sdr"])
    if "sdr" in chosen:
        row["sdr"] = float(metrics.sdr(est, ref))
        row["sdri"] = row["sdr"] - float(known["sdr"])
    if "pesq" in chosen:
        row["pesq"] = metrics.pesq_wb(est, ref)
    if "estoi" in chosen:
        row["estoi"] = metrics.estoi(est, ref)
    if "dnsmos" in chosen:
        row.update(metrics.dnsmos(est))
    if "similarity" in chosen:
        row["similarity"] = metrics.similarity(est, enrollment, embedded=known["similarity"])
    return row


def open_test(folder, limit=None, split="Test", speaks=True):
    """The test mixtures of the Dataset `folder` (at most `limit`, evenly spread) and a table of facts in the same
    order. Only those whose enrolled person speaks, which alone have an SI-SDR; with `speaks=False` only the others.

    Facts: `index` and `FACTS`, see `mixture_facts`; what a manifest does not tell is empty, but the SIR is then
    measured, as the target over everything else. Raises `DatasetError` as `open_dataset` does.
    """
    everything = open_dataset(folder, split)
    said = everything.pairs.get("speaks", pd.Series(True, index=everything.pairs.index)).to_numpy(dtype=bool)
    found = np.flatnonzero(said == speaks)
    test = torch.utils.data.Subset(everything, [int(found[place]) for place in spread(len(found), limit)])
    pairs = everything.pairs.iloc[test.indices]
    try:
        known = mixture_facts(read_manifest(folder, split), known_sexes()).set_index("index").reindex(pairs["index"])
    except FileNotFoundError:  # a dataset brought without a manifest
        known = pd.DataFrame(index=pairs["index"])
    for name in ("speaker", "others", "difficulty"):
        known[name] = known[name].fillna("") if name in known else ""
    if "sir_db" not in known:
        known["sir_db"] = [_sir_of(item) for item in test]
    return test, known.reindex(columns=FACTS).reset_index()


def _sir_of(item):
    """The target's level over everything else in the mixture, dB."""
    mix, target = item["mix"].numpy(), item["target"].numpy()
    return float(audio.rms_db(target) - audio.rms_db(mix - target))


def known_sexes():
    """speaker -> "F" or "M" for the voices of the committed table; other sources do not say."""
    voices = pd.read_csv(debian.TABLE, dtype=str)
    return voices[voices["sex"].isin(["F", "M"])].drop_duplicates("speaker").set_index("speaker")["sex"].to_dict()


def mixture_facts(manifest, sexes=None):
    """What is known of each mixture before anything is extracted: `index, speaker, others, difficulty, sir_db, snr_db,
    same_sex`.

    manifest: as `read_manifest` returns it. others: the interferers' names. sexes: dict speaker -> sex; `same_sex` is
    True where at least one interferer has the target's sex, None where it is not known.
    """
    facts = manifest[
        [column for column in ("index", "speaker", "difficulty", "sir_db", "snr_db") if column in manifest]
    ].copy()
    others = [list(names) for names in manifest["interferers"]] if "interferers" in manifest else [[]] * len(manifest)
    facts.insert(len(facts.columns[:2]), "others", [", ".join(map(str, names)) for names in others])
    speakers = manifest["speaker"] if "speaker" in manifest else [""] * len(manifest)
    facts["same_sex"] = [_same_sex(speaker, names, sexes or {}) for speaker, names in zip(speakers, others)]
    return facts


def _same_sex(speaker, names, sexes):
    known = {sexes.get(name) for name in names}
    if not names or not sexes.get(speaker) or None in known:
        return None
    return sexes[speaker] in known


def summarise(table, seed=0):
    """A row a system: `mixtures`, the mean of every metric, `si_sdri_low` and `si_sdri_high` (95 % bootstrap), shares,
    `rtf`.

    `rtf` is seconds of computing a second of audio. A metric that was measured on a part, or has no value for some
    samples (NaN), is averaged over the rest, whose number stands in `<metric>_of` where it differs from `mixtures`.
    """
    rows = []
    for system, part in table.groupby("system", sort=False):
        row = {"system": system, "mixtures": len(part)}
        for column in [column for names in GROUPS.values() for column in names if column in part]:
            row[column] = part[column].mean()
            if part[column].notna().sum() < len(part):
                row[f"{column}_of"] = int(part[column].notna().sum())
        improvements = part["si_sdri"].dropna()
        _, row["si_sdri_low"], row["si_sdri_high"] = metrics.bootstrap_interval(improvements, seed)
        row.update(metrics.shares(improvements))
        row["rtf"] = part["seconds"].sum(min_count=1) / part["audio_seconds"].sum()
        rows.append(row)
    return pd.DataFrame(rows)


def intervals(table, by, value="si_sdri", seed=0):
    """Mean and 95 % interval of `value` for each combination of the columns `by`: those columns, `mixtures, mean, low,
    high`.
    """
    by = [by] if isinstance(by, str) else list(by)
    rows = [
        {**dict(zip(by, names)), "mixtures": len(part), **metrics.bootstrap_interval(part[value], seed)._asdict()}
        for names, part in table.dropna(subset=[value, *by]).groupby(by, sort=False)
    ]
    return pd.DataFrame(rows)


def paired(table, pairs, columns=("si_sdr", "sdr", "pesq", "estoi", "ovrl", "similarity"), seed=0):
    """Paired tests between systems: a row a pair and metric, `system, against, metric, samples, effect, low, high, p`.

    pairs: `(system, other)`; effect: the mean of the first minus the second over the samples that have both, with its
    95 % interval. Where the table tells the `speaker` of each sample there are `people_low` and `people_high` as well:
    the interval when people are drawn anew (`metrics.people_interval`).
    """
    rows = []
    for system, other in pairs:
        both = [table[table["system"] == name].set_index("index") for name in (system, other)]
        for column in [column for column in columns if column in table]:
            values = pd.concat([part[column] for part in both], axis=1).dropna()
            if len(values):
                test = metrics.paired_test(values.iloc[:, 0], values.iloc[:, 1], seed)
                row = {"system": system, "against": other, "metric": column, "samples": test.samples}
                row |= {"effect": test.effect, "low": test.low, "high": test.high}
                people = both[0]["speaker"].reindex(values.index) if "speaker" in table else pd.Series(dtype=object)
                if people.nunique() > 1:
                    change = (values.iloc[:, 0] - values.iloc[:, 1]).to_numpy()
                    _, row["people_low"], row["people_high"] = metrics.people_interval(change, people, seed)
                rows.append({**row, "p": test.p})
    return pd.DataFrame(rows)
