"""The checks of chapter 0's exercises: a hard mask, an ideal mask, a cosine, an overlap-add."""

import numpy as np

from lib.listening.exercises import Sheet, array_like, close

SHEET = Sheet(0)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a function")
def hard_mask(answer):
    mask = np.array([[0.0, 0.2, 0.5], [0.51, 0.999, 1.7]])
    found, wanted = answer(mask.copy()), np.array([[0, 0, 0], [1, 1, 1.0]])
    if hint := array_like(found, wanted, "the hard mask"):
        return hint
    if set(np.unique(np.asarray(found, float))) - {0.0, 1.0}:
        return "A hard mask holds nothing but 0 and 1. Look at what yours makes of a mask over 1.5."
    return None if close(found, wanted) else "Look at a bin of exactly one half: the text says over, not from."


@SHEET.exercise(2, "a function")
def ideal_mask(answer):
    rng = np.random.default_rng(0)
    target, other = (rng.standard_normal((6, 5)) + 1j * rng.standard_normal((6, 5)) for _ in range(2))
    target[0, 0] = other[0, 0] = other[1, 1] = target[2, 2] = 0
    wanted = np.abs(target) / (np.abs(target) + np.abs(other) + 1e-12)
    found = answer(target.copy(), other.copy())
    if hint := array_like(found, wanted, "the mask"):
        return hint
    if np.iscomplexobj(found):
        return "A mask of this kind is real: it is made of magnitudes."
    if np.min(found) < -1e-6 or np.max(found) > 1 + 1e-3:
        return "The mask leaves 0 to 1. Is what you divide by at least as large as what you divide?"
    return (
        None if close(found, wanted, 1e-3) else "At equal magnitudes it is a half, at one to three a quarter. Is yours?"
    )


@SHEET.exercise(3, "a function")
def cosine(answer):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 512))
    wanted = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    tried = [float(answer(*pair)) for pair in ((a, b), (a, 3 * a), (a, -b), (7 * a, b))]
    if not np.isclose(tried[0], tried[3], atol=1e-6):
        return "Seven times the same vector gives another number. Loudness must not matter."
    if not np.isclose(tried[1], 1, atol=1e-6):
        return "A vector and three times itself point the same way. What should a cosine say then, and what does yours?"
    if not np.isclose(tried[2], -tried[0], atol=1e-6):
        return "Turn one of the two round: what must happen to the sign?"
    return None if np.isclose(tried[0], wanted, atol=1e-6) else "Look at which lengths you divide by."


@SHEET.exercise(4, "a function")
def overlap_add(answer):
    rng = np.random.default_rng(2)
    for size, hop in ((8, 4), (6, 2), (5, 5)):
        frames = rng.standard_normal((7, size))
        wanted = np.zeros(hop * 6 + size)
        for number, frame in enumerate(frames):
            wanted[number * hop : number * hop + size] += frame
        found = answer(frames.copy(), hop)
        if hint := array_like(found, wanted, f"the wave of 7 frames of {size} with hop {hop}"):
            return hint
        if not close(found, wanted):
            return f"With frames of {size} and a hop of {hop} it differs. Where two frames meet, what becomes of both?"
    return None
