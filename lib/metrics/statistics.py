"""What the numbers of many samples say together: shares, intervals, paired tests."""

from typing import NamedTuple

import numpy as np


def shares(improvements, over=1.0):
    """Shares of samples whose SI-SDRi (dB) exceeds `over`, and lies below 0 (worse than the mixture: often the wrong
    person).

    Returns dict of `share_over_1_db` and `share_below_0`, 0 to 1. Raises ValueError for NaN or no values.
    """
    values = _values(improvements)
    return {"share_over_1_db": float((values > over).mean()), "share_below_0": float((values < 0).mean())}


class Interval(NamedTuple):
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """`effect` is the mean of `a - b` with its bootstrap interval; `p` is two-sided; `statistic` is Wilcoxon's."""

    statistic: float
    p: float
    effect: float
    low: float
    high: float
    samples: int


def bootstrap_interval(values, seed=0, level=0.95, draws=5000):
    """Mean of `values` with its percentile bootstrap interval: what the mean would be on other test samples of the
    kind.

    Returns `Interval(mean, low, high)`; the same seed gives the same interval. Samples of one speaker are not
    independent, so
    the truth is wider. Raises ValueError for NaN (drop them and say so) or no values. Source: Efron and Tibshirani,
    1993.
    """
    values = _values(values)
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def people_interval(values, people, seed=0, level=0.95, draws=5000):
    """`Interval` of the mean of `values` when the people whom they belong to are drawn anew, each with all of theirs.

    people: a name a value. Mixtures of one person are alike, so this says what the mean would be on other *people*, and
    is mostly wider than `bootstrap_interval`. Raises ValueError for NaN, no values, or unequal lengths. Source: the
    cluster bootstrap, Davison and Hinkley, 1997, section 3.8.
    """
    values = _values(values)
    names, which = np.unique(np.asarray(people), return_inverse=True)
    if len(which) != len(values):
        raise ValueError(f"a name a value is needed; got {len(values)} values and {len(which)} names.")
    totals, counts = np.bincount(which, values), np.bincount(which)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = totals[picks].sum(1) / counts[picks].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired_test(a, b, seed=0, level=0.95):
    """Wilcoxon's signed-rank test of `a` against `b`, the same samples in the same order: is the difference more than
    chance?

    Returns `PairedTest(statistic, p, effect, low, high, samples)`. Where every difference is zero, p is 1. Raises
    ValueError for
    unequal lengths, NaN or no values. Source: Wilcoxon 1945, by scipy.
    """
    import scipy.stats

    a, b = _values(a), _values(b)
    if a.shape != b.shape:
        raise ValueError(f"paired values come in equal numbers; got {len(a)} and {len(b)}.")
    effect = bootstrap_interval(a - b, seed, level)
    if not np.any(a - b):
        return PairedTest(0.0, 1.0, *effect, len(a))
    result = scipy.stats.wilcoxon(a, b)
    return PairedTest(float(result.statistic), float(result.pvalue), *effect, len(a))


def _values(values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    if not values.size or np.isnan(values).any():
        raise ValueError(
            f"expected values without NaN; got {values.size} values, {np.isnan(values).sum()} of them NaN."
        )
    return values
