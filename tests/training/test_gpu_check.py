"""The script for a GPU runs in miniature on the CPU, notes what differs, and goes on after a part that died."""

import subprocess

import pandas as pd
import pytest

from lib.training import gpu_check, gpu_parts

TABLES = ("checks", "compiled", "inference", "matrix", "steps", "strategies")


def test_the_small_form_passes_on_the_cpu(tmp_path):
    gpu_check.main([str(tmp_path), "--device", "cpu", "--small", "--here"])
    assert sorted(file.stem for file in tmp_path.glob("*.csv")) == sorted(TABLES)
    text = gpu_check.verdict(tmp_path, list(gpu_check.BUDGETS))
    assert text.endswith("\nPASS"), text
    found = pd.read_csv(tmp_path / "checks.csv")
    assert set(found["part"]) == set(gpu_check.BUDGETS) == set(gpu_parts.PARTS)
    assert (found["verdict"] == "pass").sum() > 20
    speeds = found["what"].str.contains("faster|memory|share")
    assert speeds.any() and (found["verdict"][speeds] == "-").all(), "no speed is judged in miniature"
    steps = pd.read_csv(tmp_path / "steps.csv")
    assert set(steps["strategy"]) == set(gpu_parts.REACH) and (steps["milliseconds"] > 0).all()


def test_a_part_that_fails_is_noted_and_the_next_one_runs(tmp_path, monkeypatch):
    ran = []

    def breaks(report, device, small, folder):
        report.found("first", 1.0, most=2)
        raise RuntimeError("no kernel\nand a long trace")

    monkeypatch.setattr(gpu_parts, "PARTS", {"correct": breaks, "resume": lambda *given: ran.append(given)})
    gpu_check.run_parts(tmp_path, ["correct", "resume"], "cpu", True)
    assert ran and "RuntimeError: no kernel" in gpu_check.verdict(tmp_path, ["correct", "resume"])
    assert gpu_check.verdict(tmp_path, ["correct"]).endswith("DIFFERS")


def test_a_part_that_dies_with_its_process_is_noted_and_the_rest_run_in_a_new_one(tmp_path, monkeypatch):
    calls = []

    def dies_in_steps(command, timeout):
        names = command[command.index("--parts") + 1 :]
        calls.append(names)
        for name in names:
            if name == "steps":
                return subprocess.CompletedProcess(command, -11)
            gpu_check.Report(tmp_path, name, True, 1).write("seconds", "1.0")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", dies_in_steps)
    gpu_check.run_apart(tmp_path, ["correct", "steps", "matrix"], [])
    assert calls == [["correct", "steps", "matrix"], ["matrix"]]
    assert "steps      did not end: exit -11" in gpu_check.verdict(tmp_path, ["correct", "steps", "matrix"])


def test_no_part_begins_without_time(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "PARTS", {"steps": lambda *given: pytest.fail("begun")})
    gpu_check.run_parts(tmp_path, ["steps"], "cpu", True, seconds=5)
    assert [row["what"] for row in gpu_check.findings(tmp_path)] == ["not run"]


@pytest.mark.parametrize(
    "value, bounds, judge, said",
    [
        (4.0, dict(least=5, speed=True), True, "DIFFERS"),
        (4.0, dict(least=5, speed=True), False, "-"),
        (6.0, dict(least=5, speed=True), True, "pass"),
        (float("nan"), dict(most=1), True, "DIFFERS"),
        (0.5, dict(most=1), False, "pass"),
        (0.5, dict(), True, "-"),
    ],
)
def test_bounds(tmp_path, value, bounds, judge, said):
    gpu_check.Report(tmp_path, "steps", judge, 1).found("it", value, **bounds)
    assert gpu_check.findings(tmp_path)[0]["verdict"] == said
