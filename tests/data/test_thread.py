"""The mixture that runs through chapters 1 to 3 is the one that chapter 1 takes apart."""

import pandas as pd
import pytest

from lib.data import thread
from lib.data.folders import DatasetError


def facts(rows):
    return pd.DataFrame(rows, columns=["split", "index", "others", "snr_db", "speaks"])


@pytest.mark.parametrize(
    "rows, wanted",
    [
        ([("Test", 1, 1, 3.0, "yes"), ("Test", 2, 2, 9.0, "yes"), ("Test", 3, 2, 4.0, "yes")], 3),
        ([("Test", 1, 2, 4.0, "yes"), ("Test", 2, 2, 4.0, "yes"), ("Train", 3, 5, 0.0, "yes")], 1),
        ([("Test", 1, 2, 1.0, "no"), ("Test", 2, 1, 4.0, "yes")], 2),  # nobody to extract in the first
        ([("Test", 1, 1, float("nan"), "yes"), ("Test", 2, 1, 6.0, "yes")], 2),  # without a background: last
    ],
)
def test_most_others_then_least_snr_then_the_first(monkeypatch, rows, wanted):
    monkeypatch.setattr(thread.inspection, "facts", lambda folder: facts(rows))
    monkeypatch.setattr(thread, "open_dataset", lambda folder, split: [{"index": k} for k in (1, 2, 3)])
    assert thread.thread("anywhere")["index"] == wanted


def test_an_empty_split_is_an_error(monkeypatch):
    monkeypatch.setattr(thread.inspection, "facts", lambda folder: facts([]))
    monkeypatch.setattr(thread, "open_dataset", lambda folder, split: [])
    with pytest.raises(DatasetError, match="no Test mixture"):
        thread.thread("anywhere")
