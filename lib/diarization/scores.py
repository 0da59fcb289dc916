"""How good a diarization is: the DER, its parts and the JER, by pyannote.metrics: no collar, overlap counts."""

import warnings

import numpy as np
import pandas as pd

from lib import extras
from lib.diarization.pipeline import DiarizationError, apply

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

PARTS = ("confusion", "false alarm", "missed detection")


def score(hypothesis, file):
    """DER, its three parts and JER of one file, as shares; `speech` is the reference's speech in s, `found` the people
    found.
    """
    reference, uem = file["annotation"], file["annotated"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = DiarizationErrorRate(collar=0.0, skip_overlap=False)(reference, hypothesis, uem=uem, detailed=True)
        jaccard = JaccardErrorRate(collar=0.0, skip_overlap=False)(reference, hypothesis, uem=uem)
    total = parts["total"]
    return {
        "file": file["uri"],
        "DER": parts["diarization error rate"],
        **{name: parts[name] / total if total else float("nan") for name in PARTS},
        "JER": jaccard,
        "speech": total,
        "people": len(reference.labels()),
        "found": len(hypothesis.labels()),
    }


def evaluate(made, files, progress=True, label=""):
    """A row a file (see `score`) and the hypotheses, uri -> annotation."""
    from tqdm.auto import tqdm

    hypotheses = {
        file["uri"]: apply(made, file) for file in tqdm(files, desc=f"diarizing {label}".strip(), disable=not progress)
    }
    return pd.DataFrame([score(hypotheses[file["uri"]], file) for file in files]), hypotheses


def summary(table, seed=0, draws=2000):
    """DER and its parts over all files, weighted by their speech, JER as a mean; `low` and `high`: the DER's 95 %
    interval, files drawn anew.
    """
    weights = table["speech"].to_numpy()
    picks = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    errors = table["DER"].to_numpy() * weights
    low, high = np.quantile(errors[picks].sum(1) / weights[picks].sum(1), [0.025, 0.975])
    return {
        "DER": float(errors.sum() / weights.sum()),
        "low": float(low),
        "high": float(high),
        **{name: float((table[name] * weights).sum() / weights.sum()) for name in PARTS},
        "JER": float(table["JER"].mean()),
        "files": len(table),
    }


def gain(before, after, seed=0, draws=2000):
    """By how much the DER fell, relative to before, with a 95 % interval over the same files drawn anew: (mean, low,
    high).
    """
    if list(before["file"]) != list(after["file"]):
        raise DiarizationError("the two tables are of different files; score the same files before and after.")
    weights = before["speech"].to_numpy()
    first, second = before["DER"].to_numpy() * weights, after["DER"].to_numpy() * weights
    picks = np.random.default_rng(seed).integers(len(first), size=(draws, len(first)))
    low, high = np.quantile(1 - second[picks].sum(1) / first[picks].sum(1), [0.025, 0.975])
    return float(1 - second.sum() / first.sum()), float(low), float(high)
