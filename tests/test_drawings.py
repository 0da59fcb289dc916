"""Drawings: each a small picture with a sentence of alt text, the same each time, with the right numbers in it."""

import inspect

import pandas as pd
import pytest

from lib.listening import diagrams, drawings

DRAWN = [
    function
    for module in (drawings, diagrams)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_") and name != "opened"
]


def table(trainable):
    groups = ["xvector", "spk_ffn", "condition", "pre_ffn", "block 1 attn", "block 1 rest", "mask"]
    return pd.DataFrame({"group": groups, "parameters": [10] * 7, "trainable": trainable})


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_it_is_a_small_png_with_alt_text_and_the_same_each_time(draw):
    shown = draw()
    assert shown.data.startswith(b"\x89PNG") and len(shown.data) < 40_000
    assert shown.alt.endswith(".") and len(shown.alt) > 40
    assert draw().data == shown.data


def test_what_trains_changes_the_drawing():
    frozen, head = table([0] * 7), table([0] * 6 + [10])
    assert diagrams.opened({"head": head}).data != diagrams.opened({"head": frozen}).data
    assert "head, none" in diagrams.opened({"head": head, "none": frozen}).alt


def test_a_drawing_counts_the_der_that_it_shows(monkeypatch):
    """The stretches marked wrong are those that the bars of `errors` make wrong: 6 of 11 s."""
    marked = []
    monkeypatch.setattr(drawings.plt.Axes, "axvspan", lambda self, start, end, **_: marked.append(end - start))
    drawings.errors()
    assert sum(marked) == 6
