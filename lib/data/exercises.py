"""The checks of chapter 1's exercises: a ratio in dB, a gain for several people, pairs by number, leaks."""

import numpy as np

from lib.listening.exercises import Sheet

SHEET = Sheet(1)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def ratio(answer):
    if np.isclose(answer, 4, rtol=0.02):
        return "That is the ratio of the powers. RMS is a root."
    if np.isclose(answer, 0.5, rtol=0.02):
        return "Read again who is over whom: a negative SIR means that the others are the louder ones."
    return None if np.isclose(answer, 2, rtol=0.01) else "Put your number into 20 log10 of it. Which SIR comes out?"


@SHEET.exercise(2, "a function")
def gain(answer):
    rng = np.random.default_rng(0)
    target, shared = rng.standard_normal((2, 4000))
    for sir_db, mixed in ((0.0, 0.0), (6.0, 0.8), (-4.0, -0.6)):
        others = [rng.standard_normal(4000) + mixed * shared, 2 * (rng.standard_normal(4000) + shared)]
        found = answer(target.copy(), [one.copy() for one in others], sir_db)
        if np.ndim(found):
            return "Expected one number, the gain that all others are multiplied with."
        together = float(found) * sum(others)
        reached = 10 * np.log10(np.mean(target**2) / max(np.mean(together**2), 1e-20))
        if abs(reached - sir_db) > 0.02:
            if abs(reached + sir_db) < 0.02 and sir_db:
                return "The sign is turned round: a higher SIR means fainter others."
            return (
                f"An SIR of {sir_db:g} dB was asked for and {reached:.2f} dB came out. What is the level of"
                " several people together: do you measure the sum?"
            )
    return None


@SHEET.exercise(3, "a function")
def pairs(answer):
    mixes = ["mix_000010.wav", "mix_000002.wav", "mix_000003.wav", "mix_000100.wav", "mix_000007.wav"]
    cleans = ["clean_000002.wav", "clean_000100.wav", "clean_000010.wav", "clean_000005.wav", "clean_000007.wav"]
    numbers = (2, 7, 10, 100)
    found = answer(list(mixes), list(cleans))
    try:
        found = {(str(mix), str(clean)) for mix, clean in found}
    except (TypeError, ValueError):
        return "Expected a list of pairs (mix, clean), both names of files."
    if any(mix[-10:] != clean[-10:] for mix, clean in found):
        return "A pair stands there whose two numbers differ. What happens to a list when one file is missing?"
    if any(mix not in mixes or clean not in cleans for mix, clean in found):
        return "A name stands there that was not given."
    return None if len(found) == len(numbers) else "Some pairs are missing. Which files have a partner?"


@SHEET.exercise(4, "a function")
def leaks(answer):
    rows = [
        dict(speaker="ana", content="a1", split="Train"),
        dict(speaker="ana", content="a2", split="Test"),
        dict(speaker="ben", content="b1", split="Train"),
        dict(speaker="ben", content="b1", split="Train"),
        dict(speaker="cai", content="c1", split="Val"),
        dict(speaker="dee", content="c1", split="Test"),
        dict(speaker="eli", content="e1", split="Val"),
        dict(speaker="fay", content="f1", split="Train"),
    ]
    found = answer([dict(row) for row in rows])
    if not isinstance(found, (set, list, tuple)) or not all(isinstance(name, str) for name in found):
        return "Expected a set of names."
    found = set(found)
    if "ben" in found:
        return "One recording twice in the same split is untidy, and no leak."
    if found - {"ana", "cai", "dee"}:
        return "Somebody is named who stands in one split, with recordings of their own."
    if "ana" not in found:
        return "Somebody's name stands in two splits, and you do not say so."
    return None if len(found) == 3 else "Two names can hide one recording. Whom does that give away? Both count."
