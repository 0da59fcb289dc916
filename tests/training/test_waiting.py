"""The table of how threads wait compares within a round, and a run measures what it says."""

import io
import os

import pytest

from lib.training import waiting


def test_policies_are_compared_within_a_round(monkeypatch):
    monkeypatch.setattr(waiting, "POLICIES", {"default": {}, "PASSIVE": {}})
    speeds = iter([4.0, 4.0, 1.0, 3.0, 2.0, 2.0, 2.0, 4.0])  # alone, two at once; then the same in a second round
    monkeypatch.setattr(waiting, "rates", lambda policy, at_once, seconds: [next(speeds)] * at_once)
    rows = {(row["at_once"], row["policy"]): row for row in waiting.table(1, 2, say=lambda line: None)}
    assert [rows[1, policy]["faster"] for policy in waiting.POLICIES] == [1, 1]
    slow, fast = (rows[2, policy] for policy in waiting.POLICIES)
    assert slow["faster"] == 1 and (fast["faster"], fast["least"], fast["most"]) == (2.5, 2, 3)
    assert (slow["steps_per_second"], fast["steps_per_second"]) == (1.5, 3.5)


def test_a_run_waits_for_its_word_and_counts(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    waiting.work(0.01)
    ready, rate = capsys.readouterr().out.split()
    assert ready == "ready" and float(rate) > 0


def test_tests_themselves_wait_asleep():
    assert os.environ.get("OMP_WAIT_POLICY") in ("PASSIVE", "ACTIVE")  # conftest.py sets it where nobody did


def test_a_run_that_dies_is_said(monkeypatch):
    monkeypatch.setattr(waiting.sys, "executable", "false")
    with pytest.raises(ValueError, match="before it began"):
        waiting.rates("PASSIVE", 1, 1)
