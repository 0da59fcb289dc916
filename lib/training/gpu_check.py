"""All that needs a GPU, in six minutes: `python -m lib.training.gpu_check OUT`, then PASS or what differs, by part.

Card time is rented by the minute, so nothing is left to decide there. Each part has its own seconds. What it finds is
in `OUT/checks.csv` and a table of its own as soon as it is found, so that a cut loses no more than the row in work. The
parts run in a process of their own: one that ends in an error of the device is noted, and the rest go on in a new one.
`--device cpu --small` runs the same code in miniature, where no bound on speed is judged: do that first.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOTAL = 350  # s, for all
BUDGETS = {  # s: a part that has used them begins no further row
    "correct": 50,
    "steps": 75,
    "matrix": 30,
    "strategies": 125,
    "inference": 35,
    "resume": 20,
    "compiled": 100,  # if that much of the whole is left
}
COLUMNS = ("part", "what", "value", "bound", "verdict")


class Report:
    """Findings of one run, on the disk as they come.

    judge: whether bounds on speed and memory count, which they do on a GPU at full size alone.
    """

    def __init__(self, out, part, judge, budget):
        self.out, self.part, self.judge = Path(out), part, judge
        self.started, self.budget = time.monotonic(), budget

    def left(self):
        """Seconds that this part may still take."""
        return self.budget - (time.monotonic() - self.started)

    def found(self, what, value, most=None, least=None, speed=False):
        """Note a number, with the bound that it should keep: `most`, `least`, or neither. speed: see `judge`."""
        good = value == value and (most is None or value <= most) and (least is None or value >= least)
        bound = f"<= {most:g}" if most is not None else f">= {least:g}" if least is not None else ""
        judged = bool(bound) and (self.judge or not speed)
        self.write(what, f"{value:.6g}", bound, ("pass" if good else "DIFFERS") if judged else "-")

    def same(self, what, value, expected):
        """Note a word that should be `expected`."""
        self.write(what, value, expected, "pass" if value == expected else "DIFFERS")

    def write(self, what, value, bound="", verdict="-"):
        """A line of `checks.csv`, and on the terminal."""
        file = self.out / "checks.csv"
        fresh = not file.exists()
        with open(file, "a", encoding="utf-8", newline="") as handle:
            rows = csv.writer(handle)
            if fresh:
                rows.writerow(COLUMNS)
            rows.writerow((self.part, what, value, bound, verdict))
        print(f"  {self.part:<10} {what:<58} {value:>12} {bound:<9} {verdict}", flush=True)

    def table(self, name, rows):
        """Write the rows (dicts) of a table of this part, all so far."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with open(self.out / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, columns)
            writer.writeheader()
            writer.writerows(rows)


def findings(out):
    """The rows of `checks.csv`, dicts of text; none where there is no such file."""
    file = Path(out) / "checks.csv"
    if not file.exists():
        return []
    with open(file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def run_parts(out, names, device, small, seconds=TOTAL):
    """Run the parts called `names` one after the other in this process; what fails is noted, and the next begins."""
    from lib.training import gpu_parts
    from lib.training.settings import pick_device

    device, began = pick_device(device), time.monotonic()
    usual = os.environ.get("WORKBOOK_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBOOK_CACHE"] = folder
        try:
            for name in names:
                left = seconds - (time.monotonic() - began)
                report = Report(out, name, device.type == "cuda" and not small, min(BUDGETS[name], left))
                if left < (BUDGETS[name] if name == "compiled" else 10):
                    report.write("not run", "no time left")
                    continue
                try:
                    gpu_parts.PARTS[name](report, device, small, Path(folder))
                except (RuntimeError, ValueError, OSError) as error:
                    report.write(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}", "", "", "DIFFERS")
                    if device.type == "cuda" and "CUDA" in str(error):
                        raise  # the device may be of no more use to this process
                report.write("seconds", f"{time.monotonic() - report.started:.1f}")
        finally:
            os.environ.pop("WORKBOOK_CACHE")
            if usual is not None:
                os.environ["WORKBOOK_CACHE"] = usual


def run_apart(out, names, arguments, seconds=TOTAL):
    """`run_parts` in a process of its own, and again for what is left where that process dies."""
    ends = time.monotonic() + seconds
    while names and time.monotonic() < ends:
        left = ends - time.monotonic()
        command = [sys.executable, "-m", "lib.training.gpu_check", str(out), "--here", f"--seconds={left:.0f}"]
        try:
            code = subprocess.run([*command, *arguments, "--parts", *names], timeout=left + 20).returncode
        except subprocess.TimeoutExpired:
            code = "hung"
        done = {row["part"] for row in findings(out) if row["what"] in ("seconds", "not run")}
        names = [name for name in names if name not in done]
        if not names:
            return
        Report(out, names[0], True, 0).write("did not end", f"exit {code}", "", "DIFFERS")
        names = names[1:]


def verdict(out, names):
    """`PASS`, or what differs in each part, in lines."""
    rows, lines = findings(out), []
    for name in names:
        own = [row for row in rows if row["part"] == name]
        differs = [
            f"{row['what']}: {row['value']} {row['bound']}".strip() for row in own if row["verdict"] == "DIFFERS"
        ]
        judged = sum(row["verdict"] == "pass" for row in own)
        state = "; ".join(differs) or (f"PASS ({judged} bounds kept)" if judged else "nothing judged")
        lines.append(f"{name:<10} {state}")
    good = rows and not any(row["verdict"] == "DIFFERS" for row in rows)
    return "\n".join([*lines, "PASS" if good else "DIFFERS"])


def main(arguments=None):
    """The command line; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.training.gpu_check", description="All that needs a GPU, in six minutes; tables into OUT."
    )
    parser.add_argument("out", type=Path, help="folder for the tables")
    parser.add_argument("--device", default="auto", help="auto, cuda, cpu")
    parser.add_argument("--small", action="store_true", help="the same in miniature, to try it before")
    parser.add_argument("--parts", nargs="*", choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--seconds", type=float, default=TOTAL, help="for all parts together")
    parser.add_argument("--here", action="store_true", help="in this process, and without a verdict")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.here:
        return run_parts(options.out, options.parts, options.device, options.small, options.seconds)
    for name in ("checks", *BUDGETS):  # of an earlier run
        (options.out / f"{name}.csv").unlink(missing_ok=True)
    how = [f"--device={options.device}", *["--small"] * options.small]
    run_apart(options.out, options.parts, how, options.seconds)
    text = verdict(options.out, options.parts)
    (options.out / "verdict.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(not text.endswith("PASS"))


if __name__ == "__main__":
    sys.exit(main())
