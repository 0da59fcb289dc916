"""The checks of chapter 4's exercises: a DER by thought, shares of overlap, the best order, an enrollment."""

from itertools import permutations

import numpy as np

from lib.listening.exercises import Sheet

SHEET = Sheet(4)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def error_rate(answer):
    if np.isclose(answer, 30):
        return "Give it as a share, not in per cent."
    if np.isclose(answer, 15):
        return "Those are the seconds that are wrong. Of how many?"
    return (
        None
        if np.isclose(answer, 0.3, atol=1e-3)
        else "Three kinds of error count, over the speech of the reference alone."
    )


@SHEET.exercise(2, "a function")
def overlapped(answer):
    cases = [
        ([("ana", 0, 10), ("ben", 8, 12)], 2 / 12),
        ([("ana", 0, 10), ("ben", 2, 4), ("cai", 3, 5)], 3 / 10),
        ([("ana", 0, 4), ("ana", 3, 6), ("ben", 8, 10)], 0.0),
        ([("ana", 0, 4), ("ben", 20, 24), ("cai", 23, 24)], 1 / 8),
    ]
    for number, (turns, wanted) in enumerate(cases):
        found = float(answer(list(turns)))
        if not np.isclose(found, wanted, atol=0.02):
            why = [
                "Two people, one stretch in which both speak. Over what do you divide?",
                "A moment in which three speak is one moment.",
                "Somebody cannot speak over themselves.",
                "A silence is no speech.",
            ][number]
            return f"For {turns} it says {found:.3f}. {why}"
    return None


@SHEET.exercise(3, "a function")
def best_order(answer):
    rng = np.random.default_rng(0)
    for size in (2, 3, 3, 4, 4):
        loss = rng.random((size, size))
        found = answer(loss.copy())
        try:
            found = tuple(int(one) for one in found)
        except TypeError:
            return "Expected a tuple: for each row its column."
        if sorted(found) != list(range(size)):
            return "Two rows got the same column. Each true speaker is given to one answer alone."
        total = sum(loss[row, column] for row, column in enumerate(found))
        best = min(sum(loss[row, column] for row, column in enumerate(one)) for one in permutations(range(size)))
        if total > best + 1e-9:
            return f"For {size} by {size} another order costs less. What is best for one row may be dear for the rest."
    return None


@SHEET.exercise(4, "a function")
def enrollment(answer):
    turns = [
        ("ana", 0, 9),
        ("ben", 1, 8),
        ("ana", 10, 13),
        ("ben", 12.5, 14),
        ("ana", 20, 22),
        ("ben", 30, 31),
        ("ana", 15, 16),
    ]
    cases = [
        ("ana", 4.0, 2.5, (10, 12.5)),
        ("ben", 4.0, 1.0, None),
        ("ana", 1.5, 1.5, None),
        ("ana", 100.0, 2.5, (10, 12.5)),
    ]
    for who, seconds, length, where in cases:
        try:
            start, end = (float(one) for one in answer(list(turns), who, seconds))
        except (TypeError, ValueError):
            return "Expected two numbers, start and end."
        if any(name != who and low < end and start < high for name, low, high in turns):
            return f"From {start:g} to {end:g} s somebody else speaks too."
        if not any(name == who and low <= start and end <= high for name, low, high in turns):
            return f"From {start:g} to {end:g} s {who} does not speak throughout."
        if end - start > seconds + 1e-6:
            return f"At most {seconds:g} s were asked for."
        if end - start < length - 1e-6 or (where and not np.allclose((start, end), where)):
            return f"{who} has a longer stretch alone than that from {start:g} to {end:g} s."
    return None
