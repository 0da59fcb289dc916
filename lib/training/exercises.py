"""The checks of chapter 2's exercises: which part to open, a freeze that holds, weights in between, an equaliser."""

import copy

import numpy as np
import torch
from torch import nn

from lib import runs
from lib.listening.exercises import Sheet, array_like, close
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing

SHEET = Sheet(2)
check, score = SHEET.check, SHEET.score


@SHEET.exercise(1, "a dict")
def input_side(answer):
    config = ConVoiFilterConfig.from_pretrained(runs.place("pretrained/starter"))
    try:
        table = freezing.freeze(ConVoiFilter(config), **answer).set_index("group")
    except (freezing.FreezeError, TypeError) as error:
        return f"`freeze` does not take that: {error}"
    share = table["trainable"].sum() / table["parameters"].sum()
    if not share:
        return "Nothing trains. Which switches are there?"
    if share >= 0.05:
        return f"{share:.1%} of the parameters train; stay under 5 %."
    if not table.loc["pre_ffn", "trainable"]:
        return "What trains lies behind the Conformer or beside it. Follow the signal in the chapter's drawing."
    return None


def _small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


@SHEET.exercise(2, "a function")
def stays_frozen(answer):
    model = _small()
    answer(model)
    if any(one.requires_grad for one in model.parameters()):
        return "A parameter still wants a gradient."
    held, x = {name: one.clone() for name, one in model.state_dict().items()}, torch.randn(16, 6)
    model.train()
    first, second = model(x), model(x)
    if moved := [name for name, one in model.state_dict().items() if not torch.equal(one, held[name])]:
        return f"After train() and one batch {moved[0]} has moved, though nothing was optimised."
    if not torch.equal(first, second):
        return "The same input gives two answers after train(): something random is still awake."
    return None


@SHEET.exercise(3, "a function")
def between(answer):
    before, after = _small().state_dict(), _small().state_dict()
    after = {name: one + 3 if one.is_floating_point() else one + 5 for name, one in after.items()}
    kept = copy.deepcopy(before)
    for share in (0.0, 0.25, 1.0):
        found = answer(before, after, share)
        if not isinstance(found, dict) or set(found) != set(before):
            return "Expected a dict with the same names as the two that came in."
        if any(not torch.equal(before[name], kept[name]) for name in before):
            return "Your function changes `before`, and the model that it belongs to with it."
        for name, one in kept.items():
            if found[name].dtype != one.dtype:
                return f"{name} is {one.dtype} and came back as {found[name].dtype}: not everything can lie in between."
            if one.is_floating_point() and not torch.allclose(found[name], one + 3 * share, atol=1e-6):
                return f"At a share of {share:g} it is not {share:g} of the way from before to after."
    return None


@SHEET.exercise(4, "a function")
def equaliser(answer):
    rng = np.random.default_rng(0)

    def spectra(frames):
        return rng.standard_normal((frames, 9)) + 1j * rng.standard_normal((frames, 9))

    true = spectra(1)[0]
    est = spectra(400)
    ref = est * true
    if hint := array_like(answer(est.copy(), ref.copy()), true, "the equaliser"):
        return hint
    if not close(answer(est.copy(), ref.copy()), true, 1e-3):
        return "Without noise the filter that was used should come back, phase and all. Which of the two is conjugated?"
    noisy = ref + spectra(400)
    best = (est.conj() * noisy).sum(0) / (np.abs(est) ** 2).sum(0)
    found = answer(est.copy(), noisy.copy())
    if not close(found, best, 1e-3):
        return "With noise another filter leaves less error. Quotients of single frames are at the mercy of faint ones."
    est[:, 4] = 0
    return array_like(answer(est, ref), true, "the equaliser of a band in which nothing is heard")
