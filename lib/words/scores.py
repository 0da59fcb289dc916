"""How well shares of words are told: KL, the loudest word, all words found, average precision, calibration; intervals
that draw words anew.

Arrays are `(clips, words)`: `shares`, the label, and `answers`, the probabilities; both sum to 1 over words.
"""

import numpy as np
import pandas as pd

from lib import extras
from lib.metrics import Interval
from lib.words.vocabularies import WordsError

with extras():
    from sklearn.metrics import average_precision_score

TINY = 1e-12

TEMPERATURES = 0.25 * 2 ** (np.arange(97) / 12)  # 0.25 to 64


def kl(answers, shares):
    """KL divergence in nats of each clip, `(clips,)`; the competition's score is its mean."""
    answers, shares = _pair(answers, shares)
    return np.where(
        shares > 0, shares * (np.log(np.maximum(shares, TINY)) - np.log(np.maximum(answers, TINY))), 0.0
    ).sum(1)


def uniform(shares):
    """KL of guessing every word alike."""
    return kl(np.full_like(shares, 1 / shares.shape[1]), shares)


def loudest(answers, shares):
    """1.0 where the word with the largest share is the most probable one."""
    answers, shares = _pair(answers, shares)
    return (answers.argmax(1) == shares.argmax(1)).astype(float)


def all_found(answers, shares):
    """1.0 where the n most probable words are just the n that are there, n known."""
    answers, shares = _pair(answers, shares)
    ranks = (-answers).argsort(1).argsort(1)
    return ((ranks < (shares > 0).sum(1, keepdims=True)) == (shares > 0)).all(1).astype(float)


def average_precision(answers, shares, words):
    """A DataFrame, a row a word that occurs: clips, average_precision, chance (the share of clips that have it)."""
    answers, shares = _pair(answers, shares)
    there = shares > 0
    return pd.DataFrame(
        [
            dict(
                word=word,
                clips=int(there[:, k].sum()),
                average_precision=float(average_precision_score(there[:, k], answers[:, k])),
                chance=float(there[:, k].mean()),
            )
            for k, word in enumerate(words)
            if there[:, k].any()
        ]
    )


def calibration(answers, shares, edges=(0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)):
    """Of all pairs of clip and word, in bins of the answer: pairs, answered (mean), true (mean share). A calibrated
    answer has both alike.
    """
    answers, shares = (values.reshape(-1) for values in _pair(answers, shares))
    place = np.clip(np.digitize(answers, edges) - 1, 0, len(edges) - 2)
    rows = [
        dict(
            bin=f"{edges[k]:g}-{edges[k + 1]:g}",
            pairs=int((place == k).sum()),
            answered=float(answers[place == k].mean()),
            true=float(shares[place == k].mean()),
        )
        for k in range(len(edges) - 1)
        if (place == k).any()
    ]
    return pd.DataFrame(rows)


def calibration_error(answers, shares):
    """Of each clip's largest answer: the mean distance between it and the true share, over the bins of `calibration` (0
    is best).
    """
    answers, shares = _pair(answers, shares)
    best = answers.argmax(1)[:, None]
    table = calibration(np.take_along_axis(answers, best, 1), np.take_along_axis(shares, best, 1))
    return float((table["pairs"] * (table["answered"] - table["true"]).abs()).sum() / table["pairs"].sum())


def cooled(answers, temperature):
    """Answers at a temperature: over 1 less sure, without end uniform; under 1 surer. The order of the words stays."""
    powers = np.log(np.maximum(answers, TINY)) / temperature
    powers = np.exp(powers - powers.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def best_temperature(answers, shares, grid=TEMPERATURES):
    """The temperature with the least KL on validation answers: one number a network, 0.25 to 64. Guo et al., arXiv
    1706.04599.
    """
    return float(min(grid, key=lambda temperature: kl(cooled(answers, temperature), shares).mean()))


# --- intervals


def word_weights(shares, draws=1000, seed=0):
    """Weights `(draws, clips)` of clips when the *words* are drawn anew: a clip counts as the product of its words'
    counts.

    Clips share recordings, so drawing clips would pretend to far more evidence than 20 or 30 recordings hold. The
    words' count is that of a bootstrap (drawn with replacement); for clips of several words this is the pigeonhole
    bootstrap, Owen, arXiv 0712.1111.
    """
    there = np.asarray(shares) > 0
    present = np.flatnonzero(there.any(0))
    random, weights = np.random.default_rng(seed), np.zeros((draws, len(there)))
    for row in weights:
        counts = np.zeros(there.shape[1])
        counts[present] = np.bincount(random.integers(len(present), size=len(present)), minlength=len(present))
        row[:] = np.where(there, counts, 1.0).prod(1)
    return weights[weights.sum(1) > 0]


def interval(values, shares, level=0.95, seed=0):
    """Mean over clips of `values` with an interval that draws words anew: `Interval(mean, low, high)`."""
    values, weights = np.asarray(values, float), word_weights(shares, seed=seed)
    means = weights @ values / weights.sum(1)
    return Interval(float(values.mean()), *map(float, np.quantile(means, [(1 - level) / 2, (1 + level) / 2])))


def gain(better, worse, shares, level=0.95, seed=0):
    """How far the mean of `better` (KL a clip) lies under that of `worse`, as a share, with its paired interval."""
    better, worse, weights = np.asarray(better, float), np.asarray(worse, float), word_weights(shares, seed=seed)
    ratios = 1 - (weights @ better) / (weights @ worse)
    return Interval(
        float(1 - better.mean() / worse.mean()), *map(float, np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2]))
    )


def over_people(values, level=0.95):
    """Mean of a value a person with Student's interval for the mean of *all such people*: `Interval(mean, low, high)`.

    Five people are too few for a bootstrap, which would draw too narrow. NaN bounds for fewer than two.
    """
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2:
        return Interval(float(values.mean()), np.nan, np.nan)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def summary(answers, shares, words):
    """One row of a table: kl with kl_low and kl_high, loudest, all_found, mean_ap, calibration_error."""
    found = interval(kl(answers, shares), shares)
    return dict(
        kl=found.mean,
        kl_low=found.low,
        kl_high=found.high,
        loudest=loudest(answers, shares).mean(),
        all_found=all_found(answers, shares).mean(),
        mean_ap=average_precision(answers, shares, words)["average_precision"].mean(),
        calibration_error=calibration_error(answers, shares),
    )


# --- confusion


def confusion(answers, shares):
    """`(words, words)`: row w is the mean answer over clips with w as loudest word, the shares of the other words in
    them taken out.

    What is left beside the diagonal is probability that went to words that are not there.
    """
    answers, shares = _pair(answers, shares)
    wrong, counts = np.zeros((shares.shape[1],) * 2), np.zeros(shares.shape[1])
    for answer, share in zip(answers, shares):
        word = share.argmax()
        wrong[word] += np.where((share > 0) & (np.arange(len(share)) != word), 0.0, answer)
        counts[word] += 1
    return wrong / np.maximum(counts, 1)[:, None]


def most_confused(matrix, words, rows=5):
    """The pairs with the most probability given to a word that was not said: a DataFrame said, taken_for,
    probability.
    """
    off = matrix * (1 - np.eye(len(matrix)))
    places = np.dstack(np.unravel_index(np.argsort(-off, axis=None), off.shape))[0][:rows]
    return pd.DataFrame([dict(said=words[a], taken_for=words[b], probability=off[a, b]) for a, b in places])


def _pair(answers, shares):
    answers, shares = np.asarray(answers, float), np.asarray(shares, float)
    if answers.shape != shares.shape or answers.ndim != 2:
        raise WordsError(f"answers and shares must both be (clips, words); got {answers.shape} and {shares.shape}.")
    return answers, shares
