"""Guess before you see, and know whether an exercise is reached: what a reader answers in a chapter.

Nothing here blocks a run from top to bottom: an exercise without an answer says so and goes on, and a guess that
nobody made is no error. `WORKBOOK_GRADE=3` in the environment makes `Sheet.score` an error under three reached.
"""

import html
import os
import re
import traceback
from typing import NamedTuple

import ipywidgets
import numpy as np
from IPython.display import HTML

from lib.listening.widgets import alive, put

GRADE = "WORKBOOK_GRADE"  # environment variable: how many exercises a notebook must reach
KINDS = {
    "a function": callable,
    "a number": lambda answer: isinstance(answer, (int, float, np.number)) and not isinstance(answer, bool),
    "a dict": lambda answer: isinstance(answer, dict),
}


class Verdict(NamedTuple):
    """What `check` found: `reached` is True, False, or None without an answer, and `says` is one or two sentences."""

    name: str
    reached: bool | None
    says: str

    def __repr__(self):
        state = {True: "reached", False: "not reached", None: "not answered yet"}[self.reached]
        return f"Exercise {self.name}: {state}. {self.says}".rstrip()

    def _repr_html_(self):
        colour = {True: "#2a7", False: "#c50", None: "#888"}[self.reached]
        return f'<p style="border-left:4px solid {colour};padding-left:8px">{html.escape(repr(self))}</p>'


class Sheet:
    """The exercises of one chapter, whose checks are registered with `exercise` and asked with `check`."""

    def __init__(self, chapter):
        self.chapter, self.judges, self.verdicts = chapter, {}, {}

    def exercise(self, number, wants):
        """Register `judge(answer)` as exercise `number`: it returns None where reached, else what to look at.

        wants: what an answer is, a name of `KINDS`. A judge never says the answer.
        """

        def register(judge):
            self.judges[number] = (wants, judge)
            return judge

        return register

    def check(self, number, answer):
        """Whether `answer` reaches exercise `number`, as a `Verdict` to display; None means not answered yet.

        An answer of another type, and a function that stops with an error, get a sentence and no traceback. Raises
        KeyError for a number that the chapter does not have.
        """
        if number not in self.judges:
            known = ", ".join(map(str, self.judges))
            raise KeyError(f"chapter {self.chapter} has no exercise {number!r}; it has: {known}")
        wants, judge = self.judges[number]
        verdict = Verdict(f"{self.chapter}.{number}", *_judged(wants, judge, answer))
        self.verdicts[number] = verdict.reached
        return verdict

    def score(self):
        """A line that says how many exercises are reached; an AssertionError where `WORKBOOK_GRADE` asks for more."""
        reached, needed = sum(one is True for one in self.verdicts.values()), os.environ.get(GRADE, "")
        line = f"Chapter {self.chapter}: {reached} of {len(self.judges)} exercises reached."
        if needed and not needed.isdecimal():
            raise ValueError(f"{GRADE} is {needed!r}; expected a whole number, how many exercises must be reached.")
        if needed and reached < int(needed):
            raise AssertionError(f"{line} {GRADE} asks for {needed}.")
        print(line)


def _judged(wants, judge, answer):
    if answer is None:
        return None, ""
    if not KINDS[wants](answer):
        return False, f"Expected {wants}; got {type(answer).__name__}."
    try:
        with np.errstate(all="ignore"):
            hint = judge(answer)
    except Exception as error:
        return False, f"It stopped{_where(error, answer)} with {type(error).__name__}: {_first_line(error)}"
    return (False, hint) if hint else (True, "")


def _first_line(error):
    return (str(error).splitlines() or ["no message"])[0]


def _where(error, answer):
    """The line of the reader's own function that stopped, where there is one."""
    code = getattr(answer, "__code__", None)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.name == getattr(code, "co_name", 0)
    ]
    return f" in line {lines[-1] - code.co_firstlineno + 1} of your function" if lines and code else ""


def array_like(found, wanted, name="what your function returns"):
    """A sentence where `found` is not a finite array of the shape of `wanted`; None where it is."""
    found = np.asarray(found)
    if found.dtype == object or found.shape != np.shape(wanted):
        return f"{name} should have the shape {np.shape(wanted)}; it has {found.shape}."
    if not np.isfinite(found).all():
        return f"{name} holds NaN or infinity. What happens where something is zero?"
    return None


def close(found, wanted, within=1e-4):
    """Whether two arrays of one shape agree within a share `within` of the larger's greatest value."""
    return bool(np.abs(np.asarray(found) - wanted).max() <= within * max(np.abs(wanted).max(), 1e-12))


def predict(question, choices):
    """Ask for a guess before an output: buttons in a running notebook, the question and its choices in a stored one.

    question: one sentence, *so* for a word in italics; choices: two or more. The guess is shown again and nothing else
    happens: what came out, and why, stands under the output. Returns nothing, waits for nobody.
    """
    if len(choices) < 2:
        raise ValueError(f"predict needs two choices or more; got {len(choices)}.")
    words = re.sub(r"\*([^*]+)\*", r"<i>\1</i>", html.escape(question))
    asked = f"<p><b>Predict.</b> {words}</p>"
    buttons = ipywidgets.ToggleButtons(options=list(choices), value=None, style={"button_width": "auto"})
    noted = ipywidgets.Output()

    def note(change):
        said = html.escape(str(change["new"]))
        put(noted, HTML(f"<p>Noted: <i>{said}</i>. Now run on, and compare with <b>Why</b> under the output.</p>"))

    buttons.observe(note, names="value")
    listed = " &nbsp;·&nbsp; ".join(html.escape(str(one)) for one in choices)
    box = ipywidgets.VBox([ipywidgets.HTML(asked), buttons, noted])
    alive(box, f'<div class="predict">{asked}<p>{listed}</p></div>')
