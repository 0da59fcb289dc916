"""How much faster: `python -m lib.training.benchmark` measures training steps and inference, always as a ratio to the
plain path in the same run.

The plain path: both x-vectors and all blocks forward in each step, backward through the trainable blocks, fp32,
attention written out, convolutions over all frames at once. Against it: fused attention, bfloat16 autocast, the frozen-
prefix cache (read from disk, as in training), and each pair of them. A step is reading the batch, forward, backward and
the optimizer. Weights are random, as only time is measured; waves are noise. Machines are noisy: each figure is the
median of a few steps, and the ratio's two sides are measured within the same minute.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from lib import runs
from lib.training.measuring import (
    FAST,
    FULL,
    STARTER,
    STRATEGIES,
    attention,
    comparison_table,
    inference_table,
    matrix_share,
    run_steps,
    training_table,
)
from lib.training.settings import pick_device, pick_precision


def profile(sizes, strategy, variant, device, rows=24):
    """Where the time of one step goes, by PyTorch's profiler: a DataFrame op, calls, ms, share."""
    from torch.profiler import ProfilerActivity, profile as profiler

    found = profiler(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda"))
    with tempfile.TemporaryDirectory() as folder, attention(variant["attention"]):
        run_steps(sizes, strategy, variant, Path(folder), 3, device, 4, last=found)
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -getattr(event, name))
    total = sum(getattr(event, name) for event in events)
    return pd.DataFrame(
        [
            {
                "op": event.key,
                "calls": event.count,
                "ms": getattr(event, name) / 1000,
                "share": getattr(event, name) / total,
            }
            for event in events[:rows]
        ]
    )


def main(arguments=None):
    """Measure, print, and write `<out>_training.csv` with a figure, and `<out>_inference.csv`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", choices=("full", "starter"), default="full", help="54 M parameters, or the starter's 5.5 M"
    )
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES), help="default: all")
    parser.add_argument("--steps", type=int, default=3, help="timed steps a figure")
    parser.add_argument(
        "--seconds", type=float, nargs="*", default=[5, 60, 3600], help="lengths for inference; none with no number"
    )
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8], help="chunks at a time in inference")
    parser.add_argument("--profile", metavar="STRATEGY", help="instead: where the time of a cached step goes")
    parser.add_argument(
        "--comparison", action="store_true", help="instead: all strategies, five epochs each, plain and fast"
    )
    parser.add_argument(
        "--compiled",
        metavar="STRATEGY",
        help="instead: a cached bf16 step as it is, and with torch.compile on the blocks",
    )
    parser.add_argument(
        "--matrix-share",
        metavar="STRATEGY",
        help="instead: which share of the device's matrix rate an uncached bf16 step reaches",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None, help="beginning of the names of the CSV files")
    options = parser.parse_args(arguments)
    sizes, device = {"full": FULL, "starter": STARTER}[options.size], pick_device(options.device)
    print(f"{options.size} size, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.profile:
        usual = {**FAST, "attention": "auto", "precision": pick_precision("auto", device)}
        print(profile(sizes, options.profile, usual, device).round(3).to_string(index=False))
        return
    if options.compiled:
        training_table(sizes, [options.compiled], options.steps, device, [FAST, {**FAST, "compiled": True}])
        return
    tables = {}
    if options.matrix_share:
        tables["share"], options.seconds = matrix_share(sizes, options.matrix_share, options.batches, device), []
    elif options.comparison:
        tables["comparison"] = comparison_table(sizes, options.strategies, device)
    elif options.strategies:
        tables["training"] = training_table(sizes, options.strategies, options.steps, device)
    if options.seconds and not options.comparison:
        tables["inference"] = inference_table(sizes, options.seconds, options.batches, device)
    for name, table in tables.items():
        print(table.round(3).to_string(index=False))
        if options.out:
            runs.write_text(options.out.with_name(f"{options.out.name}_{name}.csv"), table.round(4).to_csv(index=False))
    if options.out and "training" in tables:
        _picture(tables["training"], options.out.with_name(f"{options.out.name}_training.png"))


def _picture(table, path):
    """The figure of the steps, where the machine can draw one; else a line says what is missing."""
    try:
        from lib.training import views
    except ModuleNotFoundError as error:
        print(f"No picture, as the package {error.name} is not installed.")
        return
    views.speed(table).savefig(path)


if __name__ == "__main__":
    main()
