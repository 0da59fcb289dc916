"""What frozen features know: how far they move with the words, the microphone and the person, and what can be read
from them about people never met.

Features are `(clips, dim)` of the same clips in the same order; `other` are of these clips through another microphone.
"""

import numpy as np
import pandas as pd

from lib import extras
from lib.speakers.training import by_person

MOVES = ("other words", "other microphone")
FOLDS = 5


def moves(features, other, speakers):
    """How far features move, as cosine distance in parts of that between two people: a row a kind of `MOVES`, with an
    interval over people.

    The mean of `features` is taken off both first. other words: two clips of one person; other microphone: one clip
    twice; another person would be 1 by definition.
    """
    speakers, centre = np.asarray(speakers), np.asarray(features).mean(0)
    one, two = (_unit(np.asarray(values) - centre) for values in (features, other))
    same, cosines = speakers[:, None] == speakers[None], one @ one.T
    apart = 1 - cosines[~same].mean()
    np.fill_diagonal(same, False)
    words = np.array([1 - row[own].mean() if own.any() else np.nan for row, own in zip(cosines, same)])
    microphone = 1 - (one * two).sum(1)
    found = []
    for kind, values in zip(MOVES, (words, microphone)):
        there = ~np.isnan(values)
        found.append({"moved": kind, **by_person(values[there] / apart, speakers[there])._asdict()})
    return pd.DataFrame(found)


def read_off(features, answers, speakers, seed=0):
    """Share of clips of which a linear classifier tells `answers` `(clips,)`, of people who did not teach: `Interval`
    over people.

    Five folds over people; logistic regression on standardised features (scikit-learn).
    """
    with extras():
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    features, answers, speakers = np.asarray(features, np.float64), np.asarray(answers), np.asarray(speakers)
    right = np.zeros(len(answers))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, answers, speakers):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(features[train], answers[train])
        right[test] = model.predict(features[test]) == answers[test]
    return by_person(right, speakers)


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
