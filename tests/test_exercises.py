"""Exercises: every worked solution is reached, at least three wrong answers of each are not, and nothing blocks."""

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.listening import exercises

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("0*.ipynb"))
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
ROOMS = ["data", "training", "evaluation", "diarization", "words", "music", "speakers"]
SHEETS = [import_module("lib.listening.first_exercises").SHEET]
SHEETS += [import_module(f"lib.{room}.exercises").SHEET for room in ROOMS]


def code(path, tag=None):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and (tag is None or tag in cell["metadata"].get("tags", []))
    ]


def eval_only(model):
    model.requires_grad_(False).eval()


def half_held(model):
    model.requires_grad_(False)
    model[1].eval()
    model[1].train = lambda mode=True: model[1]  # the BatchNorm holds, the Dropout wakes up


def pair_lists(zipped):
    return lambda mixes, cleans: list(zipped(mixes, cleans))


def lerp_all(before, after, share):
    return {name: before[name] + share * (after[name] - before[name]) for name in before}


def lerp_in_place(before, after, share):
    return {name: one.lerp_(after[name], share) if one.is_floating_point() else one for name, one in before.items()}


def floats(before, after, share):
    return {
        name: torch.lerp(one, after[name], share) if one.is_floating_point() else one for name, one in before.items()
    }


def normed(values):
    return values / values.sum()


def joined(pieces, fade, weight):
    wave = pieces[0]
    for piece in pieces[1:]:
        met = wave[-fade:] * weight(1 - (np.arange(fade) + 1) / (fade + 1)) + piece[:fade] * weight(
            (np.arange(fade) + 1) / (fade + 1)
        )
        wave = np.concatenate([wave[:-fade], met, piece[fade:]])
    return wave


def pasted(frames, hop):
    wave = np.zeros((len(frames) - 1) * hop + frames.shape[1])
    for k, frame in enumerate(frames):
        wave[k * hop : k * hop + len(frame)] = frame
    return wave


def greedy(loss):
    order, loss = [0] * len(loss), loss.copy()
    for _ in loss:
        row, column = np.unravel_index(loss.argmin(), loss.shape)
        order[row] = column
        loss[row, :] = loss[:, column] = np.inf
    return order


def remixed(stems, offsets, gains, target, samples, at=True, with_gain=True, signed=True):
    cut = {
        k: (gains[k] if signed else abs(gains[k])) * v[offsets[k] if at else 0 :][:samples] for k, v in stems.items()
    }
    return sum(cut.values()), cut[target] / (1 if with_gain else gains[target])


MAGNITUDE, DRAW = np.abs, np.random.default_rng(0)
BY_CLIPS = [([0, 1, 2, 3, 4], [5, 6, 7, 8]), ([5, 6, 7, 8], [0, 1, 2, 3, 4])]
WRONG = {  # (chapter, exercise): answers that must not be reached
    (0, 1): [np.round, lambda m: m * (m > 0.5), lambda m: (m >= 0.5) * 1.0, lambda m: (m > 0.5)[0] * 1.0],
    (0, 2): [
        lambda t, n: abs(t) ** 2 / (abs(t) ** 2 + abs(n) ** 2 + 1e-12),
        lambda t, n: abs(t) / (abs(t) + abs(n)),  # NaN in a silent bin
        lambda t, n: abs(t) / (abs(t + n) + 1e-9),
        lambda t, n: t / (t + n + 1e-9),
    ],
    (0, 3): [
        lambda a, b: a @ b,
        lambda a, b: a @ b / (a @ a),
        lambda a, b: abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b),
        lambda a, b: -np.linalg.norm(a - b),
    ],
    (0, 4): [lambda f, hop: f.reshape(-1), pasted, lambda f, hop: pasted(f, f.shape[1]), lambda f, hop: f.sum(0)],
    (1, 1): [0.5, 4, -2, 6.02],
    (1, 2): [
        lambda t, o, db: np.sqrt(np.mean(t**2) / sum(np.mean(x**2) for x in o)) * 10 ** (-db / 20),
        lambda t, o, db: np.sqrt(np.mean(t**2) / np.mean(sum(o) ** 2)) * 10 ** (-db / 10),
        lambda t, o, db: np.sqrt(np.mean(t**2) / np.mean(sum(o) ** 2)) * 10 ** (db / 20),
        lambda t, o, db: [1.0 for _ in o],
    ],
    (1, 3): [
        pair_lists(zip),
        pair_lists(lambda m, c: zip(sorted(m), sorted(c))),
        lambda m, c: [(f"mix_{k:06d}.wav", f"clean_{k:06d}.wav") for k in range(1, 12)],
        lambda m, c: [("mix_000002.wav", "clean_000002.wav")],
    ],
    (1, 4): [
        lambda rows: {"ana"},
        lambda rows: {"cai", "dee"},
        lambda rows: {"ana", "ben", "cai", "dee"},
        lambda rows: {row["speaker"] for row in rows},
    ],
    (2, 1): [
        dict(depth=1),
        dict(depth=0),
        dict(depth=0, open_mask=1),
        dict(depth=0, open_input=1),
    ],
    (2, 2): [lambda m: m.requires_grad_(False), eval_only, half_held, lambda m: m.eval()],
    (2, 3): [lerp_in_place, lambda b, a, s: floats(a, b, s), lambda b, a, s: floats(b, a, 0.5), lerp_all],
    (2, 4): [
        lambda e, r: (r / np.where(e == 0, 1e-9, e)).mean(0),
        lambda e, r: (e * r.conj()).sum(0) / (abs(e) ** 2).sum(0),
        lambda e, r: np.sqrt((abs(r) ** 2).sum(0) / (abs(e) ** 2).sum(0)),
        lambda e, r: (e.conj() * r).sum(0) / (abs(e) ** 2).sum(0),  # NaN in a band that is silent
    ],
    (3, 1): [10, -20, 0.1, 40],
    (3, 2): [
        lambda v: (v.mean() - v.std(), v.mean() + v.std()),
        lambda v: (v.min(), v.max()),
        lambda v: (v.mean() - v.std() / len(v) ** 0.5, v.mean() + v.std() / len(v) ** 0.5),
        lambda v: v.mean(),
    ],
    (3, 3): [
        lambda p, a: (p.mean() + a.mean()) / 2,
        lambda p, a: p.min(),
        lambda p, a: np.concatenate([p, a]).mean(),
        lambda p, a: a,
    ],
    (3, 4): [
        lambda v, p: np.quantile(DRAW.choice(v, (2000, len(v))).mean(1), [0.025, 0.975]),
        lambda v, p: (v.min(), v.max()),
        lambda v, p: (v.mean() + 1, v.mean() - 1),
        lambda v, p: (0.0, 0.0),
    ],
    (4, 1): [30, 15, 0.22, 0.7],
    (4, 2): [
        lambda t: sum(max(0, min(a[2], b[2]) - max(a[1], b[1])) for a in t for b in t if a < b) / 12,
        lambda t: 2 / 12,
        lambda t: 0.0,
        lambda t: 1.0,
    ],
    (4, 3): [greedy, lambda x: range(len(x)), lambda x: x.argmin(1), lambda x: 0],
    (4, 4): [
        lambda t, who, s: max(((a, b) for n, a, b in t if n == who), key=lambda p: p[1] - p[0]),
        lambda t, who, s: (20, 22),
        lambda t, who, s: (10, 12.5) if who == "ana" else (13, 14),  # over the 1.5 s asked for
        lambda t, who, s: 3,
    ],
    (5, 1): [np.log(30), np.log(2), np.log2(15), np.log10(15)],
    (5, 2): [
        lambda p: normed(np.array([np.sqrt(np.sum(x**2)) for x in p])),
        lambda p: normed(np.array([abs(x).max() for x in p])),
        lambda p: np.array([np.sum(x**2) for x in p]),
        lambda p: normed(np.array([np.sum(x**2) for x in p[:3]])),
    ],
    (5, 3): [
        lambda a, t: a / t,
        lambda a, t: a**t / (a**t).sum(1, keepdims=True),
        lambda a, t: np.exp(np.log(a) / t),
        lambda a, t: a,
    ],
    (5, 4): [
        lambda s: BY_CLIPS,
        lambda s: [([k for k, n in enumerate(s) if n != "ana"], [k for k, n in enumerate(s) if n == "ana"])],
        lambda s: [(list(range(9)), [k]) for k in range(9)],
        lambda s: [([], list(range(9)))],
    ],
    (6, 1): [5, 0, 10**-0.5, -10],
    (6, 2): [
        lambda *given: remixed(*given, at=False),
        lambda *given: remixed(*given, with_gain=False),
        lambda *given: remixed(*given, signed=False),
        lambda *given: remixed(*given)[0],
    ],
    (6, 3): [
        lambda pieces, fade: np.concatenate(pieces),
        lambda pieces, fade: joined(pieces, fade, np.sqrt),
        lambda pieces, fade: joined(pieces, fade, lambda w: 0.5 + 0 * w),
        lambda pieces, fade: joined(pieces, fade, lambda w: 1.0 * (w > 0.5)),
    ],
    (6, 4): [
        lambda x, t: np.clip(MAGNITUDE(t) / np.maximum(MAGNITUDE(x), 1e-9), 0, 1),
        lambda x, t: MAGNITUDE(t) / (MAGNITUDE(t) + MAGNITUDE(x - t) + 1e-9),
        lambda x, t: np.real(t * x.conj()) / np.maximum(MAGNITUDE(x) ** 2, 1e-12),
        lambda x, t: 0 * MAGNITUDE(x),
    ],
    (7, 1): [0.2, 0.02, 0.98**10, 18.3],
    (7, 2): [
        lambda s, o: np.mean(o > 0.5),
        lambda s, o: min(((s < c).sum() + (o >= c).sum()) / len([*s, *o]) for c in np.linspace(-1, 3, 200)),
        lambda s, o: np.mean(s < o.mean()),
        lambda s, o: np.array([0.1, 0.2]),
    ],
    (7, 3): [
        lambda c: c.mean(0),
        lambda c: c.mean(0) / np.linalg.norm(c.mean(0)),
        lambda c: (c / np.linalg.norm(c, axis=1, keepdims=True)).mean(0),
        lambda c: c[0] / np.linalg.norm(c[0]),
    ],
    (7, 4): [
        lambda rows: ["Test" if k % 3 == 0 else "Train" for k in range(len(rows))],
        lambda rows: ["Test" if row["speaker"] == "ana" else "Train" for row in rows],
        lambda rows: ["Train"] * len(rows),
        lambda rows: ["Test" if int(row["word"][5:]) != 0 else "Train" for row in rows],
    ],
}


def reached(number, exercise, answer):
    return SHEETS[number].check(exercise, answer).reached


@pytest.mark.parametrize("number", range(8))
def test_each_chapter_has_four_exercises_and_each_three_wrong_answers(number):
    assert list(SHEETS[number].judges) == [1, 2, 3, 4]
    for exercise in SHEETS[number].judges:
        assert len(WRONG[number, exercise]) >= 3


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_solution_is_reached(path, monkeypatch):
    assert len(SOLUTIONS) == len(CHAPTERS) == 8
    monkeypatch.chdir(path.parent)
    cells = {"first": code(path)[0], "solutions": code(path, "solution")}
    scope, verdicts = {}, []
    exec(cells["first"], scope)
    for cell in cells["solutions"]:
        *before, last = ast.parse(cell).body
        exec(compile(ast.Module(before, []), path.name, "exec"), scope)
        verdicts.append(eval(compile(ast.Expression(last.value), path.name, "eval"), scope))
    assert [verdict.reached for verdict in verdicts] == [True] * 4, verdicts


@pytest.mark.parametrize(
    "number, exercise, which", [(*key, k) for key, answers in WRONG.items() for k in range(len(answers))]
)
def test_no_wrong_answer_is_reached(number, exercise, which):
    verdict = SHEETS[number].check(exercise, WRONG[number, exercise][which])
    assert verdict.reached is False and len(verdict.says) > 10, verdict


@pytest.mark.parametrize("number", range(8))
def test_another_type_gets_one_sentence_and_no_answer_none(number):
    for exercise in SHEETS[number].judges:
        verdict = SHEETS[number].check(exercise, "a word")
        assert verdict.reached is False and re.match(r"Expected a \w+; got str\.$", verdict.says)
        assert reached(number, exercise, None) is None
    for exercise, (wants, _) in SHEETS[number].judges.items():
        if wants == "a function":
            assert "of your function" in SHEETS[number].check(exercise, lambda *given: 1 / 0).says
            assert reached(number, exercise, lambda: 1) is False


def test_a_sheet_counts_and_grades(monkeypatch, capsys):
    sheet = exercises.Sheet(9)
    sheet.exercise(1, "a number")(lambda answer: None if answer == 3 else "Count again.")
    assert repr(sheet.check(1, 2)) == "Exercise 9.1: not reached. Count again."
    assert "border-left" in sheet.check(1, 3)._repr_html_()
    monkeypatch.setenv(exercises.GRADE, "1")
    sheet.score()
    assert capsys.readouterr().out == "Chapter 9: 1 of 1 exercises reached.\n"
    monkeypatch.setenv(exercises.GRADE, "2")
    with pytest.raises(AssertionError, match="asks for 2"):
        sheet.score()
    monkeypatch.setenv(exercises.GRADE, "all")
    with pytest.raises(ValueError, match="whole number"):
        sheet.score()
    with pytest.raises(KeyError, match="no exercise 2"):
        sheet.check(2, 1)


def test_a_prediction_is_asked_and_blocks_nothing(monkeypatch):
    shown = []
    monkeypatch.setattr(exercises, "alive", lambda widget, stored: shown.append((widget, stored)))
    assert exercises.predict("Which *is* louder?", ["<this>", "that"]) is None
    (widget, stored), buttons = shown[0], shown[0][0].children[1]
    assert "Which <i>is</i> louder?" in stored and "&lt;this&gt;" in stored and buttons.value is None
    buttons.value = "that"
    assert "Noted: <i>that</i>" in widget.children[2].outputs[0]["data"]["text/html"]
    with pytest.raises(ValueError, match="two choices"):
        exercises.predict("Alone?", ["yes"])
