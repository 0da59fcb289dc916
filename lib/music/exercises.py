"""The checks of chapter 6's exercises: a floor by thought, a remix, a cross-fade, the best real mask."""

import numpy as np

from lib.listening.exercises import Sheet, array_like, close

SHEET = Sheet(6)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a number")
def floor(answer):
    if np.isclose(answer, 5):
        return "Which is the louder one, what is wanted or what disturbs?"
    return (
        None
        if np.isclose(answer, -5, atol=0.05)
        else "The mixture is the voice and an error. What is the error here, and how loud?"
    )


@SHEET.exercise(2, "a function")
def remix(answer):
    rng = np.random.default_rng(0)
    stems = {name: rng.standard_normal(500) for name in ("vocals", "drums", "bass")}
    offsets, gains = {"vocals": 17, "drums": 230, "bass": 0}, {"vocals": 0.5, "drums": -1.2, "bass": 0.8}
    cut = {name: gains[name] * wave[offsets[name] : offsets[name] + 100] for name, wave in stems.items()}
    try:
        mix, target = answer({name: wave.copy() for name, wave in stems.items()}, offsets, gains, "vocals", 100)
    except (TypeError, ValueError) as error:
        return f"Expected two waves, mix and target: {error}"
    if hint := array_like(mix, cut["vocals"], "the mix") or array_like(target, cut["vocals"], "the target"):
        return hint
    if not close(mix, sum(cut.values())):
        return "The mix is not the sum of the stems, each from its own offset and with its own gain and sign."
    return (
        None
        if close(target, cut["vocals"])
        else "The mix is right. Is the target as loud as it is in it, and from the same place?"
    )


@SHEET.exercise(3, "a function")
def cross_fade(answer):
    rng = np.random.default_rng(1)
    whole = rng.standard_normal(100)
    for size, fade in ((40, 10), (22, 4), (28, 4)):
        starts = range(0, 100 - fade, size - fade)
        pieces = [whole[start : start + size] for start in starts]
        wanted = whole[: starts[-1] + size]
        found = answer([one.copy() for one in pieces], fade)
        if hint := array_like(found, wanted, f"{len(pieces)} pieces joined with a fade of {fade}"):
            return hint
        if not close(found, wanted):
            return "Pieces of one wave should give this wave back. What do the two weights sum to where pieces meet?"
    steps = np.asarray(answer([np.zeros(20), np.ones(20)], 10), float)
    if np.abs(np.diff(steps)).max() > 0.2:
        return "From a piece of zeros to one of ones it jumps. A fade goes there in small steps."
    return None


@SHEET.exercise(4, "a function")
def best_real_mask(answer):
    rng = np.random.default_rng(2)
    target, rest = (rng.standard_normal((40, 9)) + 1j * rng.standard_normal((40, 9)) for _ in range(2))
    mix = target + rest
    target[0, 0] = mix[0, 0] = 0
    found = answer(mix.copy(), target.copy())
    if hint := array_like(found, np.abs(mix), "the mask"):
        return hint
    if np.iscomplexobj(found) or np.min(found) < -1e-6 or np.max(found) > 1 + 1e-6:
        return "The mask should be real and lie between 0 and 1."
    grid = np.linspace(0, 1, 101)[:, None, None]
    best = (np.abs(grid * mix - target) ** 2).min(0)
    worse = np.abs(found * mix - target) ** 2 - best
    if worse.max() > 1e-3:
        return (
            f"In {np.mean(worse > 1e-3):.0%} of the bins another value comes closer to the target. Think of both as"
            " arrows in a plane: how far along the mixture's arrow is the point next to the target?"
        )
    return None
