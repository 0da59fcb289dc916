"""The checks of chapter 7's exercises: strangers let in, an EER, one vector of several clips, a split by words."""

import numpy as np

from lib.listening.exercises import Sheet, array_like, close

SHEET = Sheet(7)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def let_in(answer):
    if np.isclose(answer, 0.2, atol=1e-4):
        return "Nearly, and a hundred people would make 200 % of it. How often is a stranger turned away by all ten?"
    if np.isclose(answer, 0.98**10, atol=1e-3):
        return "That is how often a stranger stays outside."
    return (
        None
        if np.isclose(answer, 1 - 0.98**10, atol=2e-3)
        else "It takes one of ten comparisons to go wrong. Start with none going wrong."
    )


@SHEET.exercise(2, "a function")
def equal_error(answer):
    rng = np.random.default_rng(0)
    cases = [
        (rng.normal(2, 1, 4000), rng.normal(0, 1, 20000), 0.1587),
        (rng.normal(0.6, 0.05, 3000), rng.normal(0.5, 0.05, 3000), 0.1587),
        (np.linspace(0.8, 1, 50), np.linspace(0, 0.2, 500), 0.0),
    ]
    for same, other, wanted in cases:
        found = answer(same.copy(), other.copy())
        if np.ndim(found) or not 0 <= float(found) <= 1:
            return "Expected one number from 0 to 1."
        if abs(float(found) - wanted) > 0.012:
            return (
                f"With {len(same)} pairs of one person and {len(other)} of two it says {float(found):.3f}. At your"
                " threshold, are the two rates equal, and each a share of its own kind of pairs?"
            )
    return None


@SHEET.exercise(3, "a function")
def one_vector(answer):
    rng = np.random.default_rng(1)
    clips = rng.standard_normal((4, 64)) + 1.5
    unit = clips / np.linalg.norm(clips, axis=1, keepdims=True)
    wanted = unit.mean(0) / np.linalg.norm(unit.mean(0))
    found = answer(clips.copy())
    if hint := array_like(found, wanted, "the vector"):
        return hint
    if not np.isclose(np.linalg.norm(found), 1, atol=1e-5):
        return "Its length is not 1."
    louder = answer(clips * np.array([[1], [1], [1], [50]]))
    if not close(louder, found, 1e-3):
        return "A clip whose vector is fifty times longer pulls all towards itself. Every clip should count alike."
    return None if close(found, wanted, 1e-3) else "It points elsewhere. Which clips take part?"


@SHEET.exercise(4, "a function")
def by_words(answer):
    rng = np.random.default_rng(2)
    rows = [
        dict(speaker=name, word=f"word {rng.integers(12)}", recording=k)
        for name in ("ana", "ben", "cai", "dee")
        for k in range(30)
    ]
    found = list(answer([dict(row) for row in rows]))
    if len(found) != len(rows) or set(found) - {"Train", "Test"}:
        return "Expected a list with 'Train' or 'Test' for each row."
    sides = {}
    for row, side in zip(rows, found):
        sides.setdefault(row["speaker"], {}).setdefault(row["word"], set()).add(side)
    for name, words in sides.items():
        if any(len(one) > 1 for one in words.values()):
            return f"{name} says one word on both sides. A test like that can be passed by ear for words."
        if len(set().union(*words.values())) < 2:
            return f"{name} stands on one side alone: known people need recordings for both sides."
    share = np.mean([side == "Test" for side in found])
    return None if 0.2 <= share <= 0.5 else f"{share:.0%} of the rows are Test; between 20 and 50 % were asked for."
