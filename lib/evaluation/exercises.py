"""The checks of chapter 3's exercises: SI-SDR by thought, an interval, a threshold, an interval over people."""

import numpy as np

from lib import metrics
from lib.listening.exercises import Sheet

SHEET = Sheet(3)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def by_thought(answer):
    if np.isclose(answer, 10):
        return "SI-SDR compares energies, and an energy is a square."
    if np.isclose(answer, -20):
        return "Who stands above the line, the wanted part or the rest?"
    return (
        None
        if np.isclose(answer, 20, atol=0.05)
        else "Make such an estimate with numpy and let the chapter's function measure it."
    )


def _bounds(found):
    try:
        low, high = (float(one) for one in found)
    except (TypeError, ValueError):
        return None
    return low, high


@SHEET.exercise(2, "a function")
def interval(answer):
    rng = np.random.default_rng(0)
    for count in (40, 400):
        values = rng.gamma(2.0, 2.0, count)
        found, wanted = _bounds(answer(values.copy())), metrics.bootstrap_interval(values)
        if found is None or found[0] > found[1]:
            return "Expected two numbers, low and high, in this order."
        width = (found[1] - found[0]) / (wanted.high - wanted.low)
        if width > 2:
            return f"For {count} values it is {width:.0f} times too wide. Of what is it: a value, or a mean of values?"
        if width < 0.8 or width > 1.25:
            return (
                f"For {count} values your interval is {width:.2f} times as wide as it should be. Draw with replacement?"
            )
        if abs(sum(found) / 2 - (wanted.low + wanted.high) / 2) > 0.15 * (wanted.high - wanted.low):
            return "It has the right width and lies in the wrong place."
    return None


@SHEET.exercise(3, "a function")
def threshold(answer):
    rng = np.random.default_rng(3)
    for few, many in ((30, 30), (10, 200), (200, 10)):
        present, absent = 0.7 - 0.3 * rng.random(few) ** 3, 0.35 + 0.2 * rng.random(many) ** 4
        found = answer(present.copy(), absent.copy())
        if np.ndim(found) or not np.isfinite(float(found)):
            return "Expected one number."

        def errors(cut, present=present, absent=absent):
            return min((present < cut).sum() + (absent >= cut).sum(), (present <= cut).sum() + (absent > cut).sum())

        cuts = np.concatenate([present, absent, [0.0, 1.0]])
        if errors(float(found)) > min(map(errors, cuts)):
            return (
                f"With {few} present and {many} absent another threshold makes fewer errors. Have you tried them all?"
            )
    return None


@SHEET.exercise(4, "a function")
def over_people(answer):
    rng = np.random.default_rng(4)
    people = np.repeat(np.arange(10), [2, 4, 8, 10, 10, 12, 14, 20, 20, 20])
    own = rng.normal(5, 2, 10)
    values = own[people] + 0.1 * rng.standard_normal(len(people))
    found = _bounds(answer(values.copy(), people.copy()))
    if found is None or found[0] > found[1]:
        return "Expected two numbers, low and high, in this order."
    groups = [values[people == one] for one in range(10)]
    draws = [np.concatenate([groups[k] for k in rng.integers(10, size=10)]).mean() for _ in range(4000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    width = (found[1] - found[0]) / (high - low)
    if width < 0.7:
        return "Too narrow: mixtures of one person resemble each other, and you let each count as news."
    if width > 1.3:
        return "Too wide: is it an interval of the mean?"
    return (
        None
        if abs(sum(found) - low - high) < 0.5 * (high - low)
        else "The width is right, the place is not: who counts how often?"
    )
