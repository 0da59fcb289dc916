"""Is it the same person? Scores of pairs, the errors at every threshold, and naming people when strangers may come.

Embeddings are `(clips, dim)`; a score is the cosine of two, -1 to 1, higher for the same person. Sources: the equal
error rate and the detection cost as NIST's speaker recognition evaluations define them (SRE 2010: costs 1 and 1, target
prior 0.01).
"""

from typing import NamedTuple

import numpy as np

from lib import metrics


class Trials(NamedTuple):
    """scores `(trials,)`, same `(trials,)` true where both clips are of one person, left and right: the clips'
    places.
    """

    scores: np.ndarray
    same: np.ndarray
    left: np.ndarray
    right: np.ndarray


def centre(embeddings, mean=None):
    """Directions of length 1, after taking away `mean` (that of other people's clips, where it is known)."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    embeddings = embeddings if mean is None else embeddings - np.asarray(mean, dtype=np.float64)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)


def trials(embeddings, speakers, apart=None):
    """Every pair of clips. apart: a list of frozensets a clip; pairs of one person that share a member are left out.

    That is how pairs are kept from sharing words or a session. Raises ValueError where one kind of pair is missing.
    """
    left, right = np.triu_indices(len(speakers), k=1)
    speakers, directions = np.asarray(speakers), centre(embeddings)
    same = speakers[left] == speakers[right]
    if apart is not None:
        kept = ~same | np.array([not (apart[a] & apart[b]) for a, b in zip(left, right)])
        left, right, same = left[kept], right[kept], same[kept]
    if not same.any() or same.all():
        raise ValueError(
            f"verification needs pairs of one person and pairs of two; here are {same.sum()} and {(~same).sum()}. "
            "Give at least two people with two clips each."
        )
    return Trials(np.einsum("nd,nd->n", directions[left], directions[right]), same, left, right)


def error_rates(scores, same):
    """(thresholds, misses, false alarms): shares at each threshold, accepting what scores at least as high; from all to
    none.
    """
    order = np.argsort(scores, kind="stable")
    scores, same = np.asarray(scores)[order], np.asarray(same, dtype=bool)[order]
    misses = np.concatenate([[0], np.cumsum(same)]) / same.sum()
    alarms = 1 - np.concatenate([[0], np.cumsum(~same)]) / (~same).sum()
    distinct = np.concatenate([[True], scores[1:] > scores[:-1], [True]])  # equal scores are accepted together
    return np.append(scores, np.inf)[distinct], misses[distinct], alarms[distinct]


def eer(scores, same):
    """(equal error rate, its threshold): where misses and false alarms are equal, interpolated between two
    thresholds.
    """
    thresholds, misses, alarms = error_rates(scores, same)
    after = int(np.argmax(misses >= alarms))
    if after == 0:
        return float(misses[0]), float(thresholds[0])
    before = after - 1
    gap = (alarms[before] - misses[before], misses[after] - alarms[after])
    weight = gap[0] / (gap[0] + gap[1])
    rate = misses[before] + weight * (misses[after] - misses[before])
    return float(rate), float(thresholds[after] if np.isfinite(thresholds[after]) else thresholds[before])


def min_dcf(scores, same, prior=0.01, miss_cost=1.0, alarm_cost=1.0):
    """Least detection cost over all thresholds, divided by that of always giving the same answer: 0 is perfect, 1 is
    useless.
    """
    _, misses, alarms = error_rates(scores, same)
    cost = miss_cost * prior * misses + alarm_cost * (1 - prior) * alarms
    return float(cost.min() / min(miss_cost * prior, alarm_cost * (1 - prior)))


def intervals(tried, speakers, seed=0, level=0.95, draws=200):
    """EER and minDCF with intervals that draw *people* anew, because pairs of one person are not independent.

    Returns {"eer": Interval, "min_dcf": Interval}. A pair of two people counts as often as both were drawn.
    """
    people, place = np.unique(np.asarray(speakers), return_inverse=True)
    left, right, rng, found = place[tried.left], place[tried.right], np.random.default_rng(seed), []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        weight = np.where(left == right, times[left], times[left] * times[right])
        scores, same = np.repeat(tried.scores, weight), np.repeat(tried.same, weight)
        if same.any() and not same.all():
            found.append((eer(scores, same)[0], min_dcf(scores, same)))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    values = eer(tried.scores, tried.same)[0], min_dcf(tried.scores, tried.same)
    return {
        name: metrics.Interval(*map(float, numbers))
        for name, numbers in zip(("eer", "min_dcf"), zip(values, low, high))
    }


def identify(known, names, asked, threshold):
    """Who is it, or nobody known? known `(clips, dim)` with their `names`, asked `(clips, dim)` -> (names or "unknown",
    best scores).

    A person is the mean direction of their clips; the best match counts only from `threshold` on.
    """
    people = sorted(set(names))
    models = centre([centre(known)[np.asarray(names) == person].mean(0) for person in people])
    scores = centre(asked) @ models.T
    best = scores.argmax(1)
    return np.where(scores.max(1) >= threshold, np.array(people, dtype=object)[best], "unknown"), scores.max(1)


def open_set_rates(answers, truth, known):
    """Shares of an open-set identification: of people known, `right`, `wrong_name`, `missed`; of strangers,
    `let_in`.
    """
    answers, truth = np.asarray(answers, dtype=object), np.asarray(truth, dtype=object)
    ours = np.isin(truth.astype(str), sorted(known))
    return {
        "right": float((answers[ours] == truth[ours]).mean()),
        "wrong_name": float(((answers[ours] != truth[ours]) & (answers[ours] != "unknown")).mean()),
        "missed": float((answers[ours] == "unknown").mean()),
        "let_in": float((answers[~ours] != "unknown").mean()),
        "known_clips": int(ours.sum()),
        "strangers_clips": int((~ours).sum()),
    }
