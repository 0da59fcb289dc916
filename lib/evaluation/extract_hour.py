"""What an hour costs: `python -m lib.evaluation.extract_hour` extracts one person from an hour of two-person talk.

The talk is made as in `lib.evaluation.thresholds`, of two Val people, again and again for an hour, and written as flac.
Extraction runs as a user starts it, in a process of its own; memory is the most that process held, wall time and time
of the processor include its start. Written is `results/extract_hour.csv`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from lib import runs
from lib.data import splits, voices
from lib.evaluation import streams
from lib.evaluation.extract import SR
from lib.evaluation.thresholds import stock, talk

OUT = "results/extract_hour.csv"
MINUTES_APART = 5  # of talk made at a time


def write_talk(path, seconds, enrollment, seed=0):
    """Write a talk of `seconds` to `path` and 6 s of its first person, alone, to `enrollment`."""
    table, rng = splits.split_by_speaker(voices.load("auto")), np.random.default_rng(seed)
    table = table[table["split"] == "Val"]
    people = table.groupby("speaker")["seconds"].sum().nlargest(2).index
    stocks = [stock(table[table["speaker"] == name], 300.0, rng) for name in people]
    soundfile.write(enrollment, stocks[0][: 6 * SR], SR)
    with streams.Writer(path, SR) as out:
        left = round(seconds * SR)
        while left:
            block = talk(
                [np.roll(one, -int(rng.integers(6 * SR, len(one)))) for one in stocks], 60 * MINUTES_APART, rng
            )
            block = block.sum(0)[:left]
            out.write(block)
            left -= len(block)


def measure(seconds, timeline):
    """One extraction: a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        mix, enrollment = Path(folder) / "talk.flac", Path(folder) / "enrollment.flac"
        write_talk(mix, seconds, enrollment)
        command = [sys.executable, "-m", "lib.evaluation.extract", mix, enrollment, "-o", Path(folder) / "voice.flac"]
        started = time.perf_counter()
        process = subprocess.Popen([*command, *([] if timeline else ["--no-timeline"])], cwd=runs.ROOT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        if status:
            raise SystemExit("the extraction failed; its own message stands above")
        return {
            "audio_s": seconds,
            "timeline": timeline,
            "cores": len(os.sched_getaffinity(0)),
            "load_of_others": round(max(0.0, os.getloadavg()[0] - used.ru_utime / wall), 1),
            "wall_s": round(wall, 1),
            "rtf": round(wall / seconds, 4),
            "processor_s": round(used.ru_utime + used.ru_stime, 1),
            "peak_mb": round(used.ru_maxrss / 1024),
        }


def main(given=None):
    parser = argparse.ArgumentParser(description="Wall time, RTF and memory of extracting one person from an hour.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--out", default=OUT)
    given = parser.parse_args(given)
    table = pd.DataFrame([measure(given.seconds, timeline) for timeline in (True, False)])
    runs.write_text(runs.place(given.out), table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
