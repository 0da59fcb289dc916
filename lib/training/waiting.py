"""What threads do while they wait for each other: `python -m lib.training.waiting --out results/speed_waiting.csv`.

OpenMP's threads, which torch computes with, spin while they wait, for milliseconds by default. That is quick where
every thread has a core of its own. Where other work wants the cores, threads spin away the time of the one they wait
for. With OMP_WAIT_POLICY=PASSIVE they sleep at once, and waking takes longer than a small product does. In between
stands a short spin (GOMP_SPINCOUNT, for the OpenMP of Linux). Measured are training steps of the starter's Conformer,
one run alone and several at once, in turns, so that whatever else the machine does meets all alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from lib import runs

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
POLICIES = {
    "default": {},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"{spins} spins": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(spins)} for spins in (1000, 3000, 10000)},
}


def work(seconds, batch=4):
    """Print "ready" after a step to warm up, wait for a line, and print the steps a second over `seconds`."""
    import torch

    from lib.models.conformer import Conformer  # not all of the model: its other parts take ten seconds to import

    torch.manual_seed(0)
    model = Conformer(769, 256, 4, 4, 256, 5, 0.1, 0.1, 0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    features = torch.randn(batch, 313, 769)

    def step():
        model(features).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    print("ready", flush=True)
    sys.stdin.readline()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    print(steps / (time.perf_counter() - started), flush=True)


def rates(policy, at_once, seconds):
    """Steps a second of each of `at_once` runs that begin together under `policy`, a key of `POLICIES`."""
    variables = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, "OMP_NUM_THREADS")}
    variables |= POLICIES[policy]
    command = [sys.executable, "-m", "lib.training.waiting", "--work", str(seconds)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables, cwd=runs.ROOT)
    workers = [subprocess.Popen(command, **pipes) for _ in range(at_once)]
    try:
        for worker in workers:
            if worker.stdout.readline().strip() != "ready":
                raise runs.RunError(f"a run ended before it began (exit code {worker.wait()}).")
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return [float(worker.communicate()[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def table(seconds, rounds, most=2, say=print):
    """Rows (dicts): at_once, policy, steps a second of each run (median over rounds), times as fast as the default, and
    the machine's load before, in processes that want a core.
    """
    found, loads = {}, {}
    for _ in range(rounds):
        for at_once in range(1, most + 1):
            for policy in POLICIES:
                key = (at_once, policy)
                loads.setdefault(key, []).append(os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"))
                found.setdefault(key, []).append(statistics.mean(rates(policy, at_once, seconds)))
                say(f"{at_once} at once, {policy}: {found[key][-1]:.3f} steps a second each")
    rows = []
    for (at_once, policy), values in found.items():
        pairs = [one / two for one, two in zip(values, found[at_once, "default"])]
        row = {"at_once": at_once, "policy": policy, "steps_per_second": round(statistics.median(values), 4)}
        row |= {"faster": round(statistics.median(pairs), 3), "least": round(min(pairs), 3)}
        rows.append({**row, "most": round(max(pairs), 3), "load": round(statistics.median(loads[at_once, policy]), 1)})
    return rows


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lib.training.waiting", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file")
    parser.add_argument("--seconds", type=float, default=8, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=2, help="runs at once")
    parser.add_argument("--work", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work is not None:
        return work(options.work)
    import pandas as pd

    found = pd.DataFrame(table(options.seconds, options.rounds, options.most))
    print(found.to_string(index=False))
    if options.out:
        runs.write_text(options.out, found.to_csv(index=False))


if __name__ == "__main__":
    main()
