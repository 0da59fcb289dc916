"""The checks of chapter 5's exercises: KL by thought, shares of energy, a temperature, folds by voice."""

import numpy as np

from lib.listening.exercises import Sheet, array_like, close

SHEET = Sheet(5)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def guessing(answer):
    if np.isclose(answer, np.log(30), atol=0.01):
        return "That is what a single word would cost. Here two words share the label, and sharing saves something."
    if np.isclose(answer, np.log2(15), atol=0.01) or np.isclose(answer, np.log10(15), atol=0.01):
        return "Nats are counted with the natural logarithm."
    return (
        None
        if np.isclose(answer, np.log(15), atol=0.005)
        else "Write the sum down: it has two terms that are not zero."
    )


@SHEET.exercise(2, "a function")
def energy_shares(answer):
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(800) * level for level in (1.0, 0.5, 2.0)] + [np.zeros(800)]
    parts[1][100:] = 0
    energies = np.array([np.sum(one**2) for one in parts])
    wanted = energies / energies.sum()
    found = np.asarray(answer([one.copy() for one in parts]), float)
    if hint := array_like(found, wanted, "the shares"):
        return hint
    if not np.isclose(found.sum(), 1):
        return f"Shares sum to 1; yours to {found.sum():.3f}."
    return (
        None
        if close(found, wanted)
        else "Twice as loud is four times the energy, and a short word has little of it. Do yours say so?"
    )


@SHEET.exercise(3, "a function")
def cool(answer):
    rng = np.random.default_rng(1)
    answers = rng.dirichlet(np.ones(6), 5)
    answers[0] = [1, 0, 0, 0, 0, 0]
    for temperature in (1.0, 3.0, 0.5):
        powered = answers ** (1 / temperature)
        wanted = powered / powered.sum(1, keepdims=True)
        found = answer(answers.copy(), temperature)
        if hint := array_like(found, wanted, "the cooled answers"):
            return hint
        if not np.allclose(np.sum(found, axis=1), 1, atol=1e-5):
            return "Each row must still be a distribution."
        if not close(found, wanted, 1e-3):
            return f"At a temperature of {temperature:g} it differs. Over 1 makes less sure, under 1 surer: does yours?"
    return None


@SHEET.exercise(4, "a function")
def folds(answer):
    speakers = ["ana", "ben", "ana", "cai", "ben", "ben", "ana", "cai", "dee"]
    try:
        found = [(sorted(map(int, train)), sorted(map(int, test))) for train, test in answer(list(speakers))]
    except (TypeError, ValueError):
        return "Expected a list of pairs (train, test), each a list of row numbers."
    for train, test in found:
        if set(train) & set(test):
            return "A row stands on both sides of one fold."
        if {speakers[row] for row in train} & {speakers[row] for row in test}:
            return "A voice stands on both sides of one fold: that is the split by clips, which flatters."
        if len(train) + len(test) != len(speakers):
            return "In one fold some rows are on neither side."
    held = sorted(row for _, test in found for row in test)
    if held != list(range(len(speakers))):
        return "Over all folds each row should be tested once. Count them."
    return None if len(found) == 4 else "Each fold holds out one voice, no more and no less."
