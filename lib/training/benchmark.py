"""How much faster: `python -m lib.training.benchmark` measures training steps and inference, always as a ratio to the
plain path in the same run.

The plain path: both x-vectors and all blocks forward in each step, backward through the trainable blocks, fp32,
attention written out. Against it: fused attention, bfloat16 autocast, the frozen-prefix cache (read from disk, as in
training), and each pair of them. A step is reading the batch, forward, backward and the optimizer. Weights are random,
as only time is measured; waves are noise. Machines are noisy: each figure is the median of a few steps, and the ratio's
two sides are measured within the same minute.
"""

import argparse
import contextlib
import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import runs
from lib.models import conformer
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing, prefix
from lib.training.fit import pad
from lib.training.settings import accepted_by, pick_device

FULL = dict()  # the public checkpoint's size
STARTER = dict(
    adim=256, aheads=4, linear_units=256, hop_length=256, xvector_channels=256, xvector_pool=768, magnitude_power=0.3
)
STRATEGIES = {
    "mask only": dict(depth=0, open_mask=1),
    **{f"depth {d} {t}": dict(depth=d, type=t) for d in (1, 2, 4) for t in ("full", "attn")},
    "depth 2 full, speaker layer": dict(depth=2, open_spk_ffn=1),
}
VARIANTS = [
    dict(attention=a, precision=p, cache=c)
    for c, p, a in itertools.product((False, True), ("fp32", "bf16"), ("plain", "fused"))
]

FAST = dict(
    attention="plain", precision="bf16", cache=True
)  # attention written out is the faster one in bfloat16 training on CPUs


class Noise(torch.utils.data.Dataset):
    """`count` items of `seconds` of noise."""

    def __init__(self, count=4, seconds=5.0):
        generator = torch.Generator().manual_seed(0)
        self.items = [
            {
                name: 0.1 * torch.randn(int(seconds * 16000), generator=generator)
                for name in ("mix", "target", "enrollment")
            }
            for _ in range(count)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        return self.items[place]


@contextlib.contextmanager
def attention(form):
    """Within: all models use the `plain` or the `fused` form."""
    usual, conformer.RelativeAttention.form = conformer.RelativeAttention.form, form
    try:
        yield
    finally:
        conformer.RelativeAttention.form = usual


def autocast(precision, device):
    """The context in which a step of `precision` runs."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def step_time(sizes, strategy, variant, folder, steps, device, batch=4):
    """Median seconds a step after one to warm up; peak MB of it all (weights, gradients, filling the cache); trainable
    parameters.
    """
    with attention(variant["attention"]), runs.PeakMemory(device) as peak:
        seconds, _, trainable = _steps(sizes, strategy, variant, folder, steps + 1, device, batch)
    return statistics.median(seconds[1:]), peak.mb, trainable


def _steps(sizes, strategy, variant, folder, steps, device, batch, items=None, last=None):
    """Seconds of each of `steps`, seconds that filling the cache took, trainable parameters.

    last: a context for the last step.
    """
    torch.manual_seed(0)
    items = items or batch
    model, data, collate = ConVoiFilter(ConVoiFilterConfig(**sizes)).to(device), Noise(items), pad
    started = time.perf_counter()
    table = freezing.freeze(model, **STRATEGIES[strategy])
    if variant["cache"]:
        data, _, collate, _ = prefix.prepare(
            model, data, Noise(1), collate, 8, variant["precision"], device, folder=folder
        )
    if variant.get("compiled"):
        for block in model.enh_model.separator.conformer.encoders:
            block.compile(dynamic=False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-5)
    accepted, filled, seconds = accepted_by(model), time.perf_counter() - started, []
    model.train()
    for step in range(steps):
        started = time.perf_counter()
        inputs = collate([data[(step * batch + i) % items] for i in range(batch)])
        inputs = {
            name: {n: t.to(device) for n, t in value.items()} if isinstance(value, dict) else value.to(device)
            for name, value in inputs.items()
            if name in accepted
        }
        with last if last and step == steps - 1 else contextlib.nullcontext():
            with autocast(variant["precision"], device):
                loss = model(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        loss.item()  # a GPU has finished only then
        seconds.append(time.perf_counter() - started)
    return seconds, filled, table.attrs["trainable"]


def training_table(sizes, strategies, steps, device, variants=VARIANTS, say=print):
    """A row a strategy and variant: strategy, attention, precision, cache, trainable, seconds, memory_mb, faster,
    less_memory.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for strategy in strategies:
            for variant in variants:
                seconds, memory, trainable = step_time(sizes, strategy, variant, Path(folder), steps, device)
                rows.append(
                    {"strategy": strategy, **variant, "trainable": trainable, "seconds": seconds, "memory_mb": memory}
                )
                plain = next(row for row in rows if row["strategy"] == strategy)
                rows[-1] |= {"faster": plain["seconds"] / seconds, "memory_share": memory / plain["memory_mb"]}
                kind = " ".join(
                    [
                        variant["precision"],
                        "cached" if variant["cache"] else "uncached",
                        *["compiled"] * variant.get("compiled", False),
                    ]
                )
                say(
                    f"{strategy:<13} {variant['attention']:<5} {kind:<22} "
                    f"{seconds:6.2f} s  x {rows[-1]['faster']:.2f}  {memory:6.0f} MB"
                )
    return pd.DataFrame(rows)


def comparison_table(sizes, strategies, device, items=8, epochs=5, batch=4, say=print):
    """A row a strategy and a last row for all: seconds of `epochs` over `items` mixtures, plain and fast, and the
    ratio.

    Fast is bfloat16 with the cache, which all strategies share; the seconds that filling it took are in the row of the
    strategy that needed it first, and in a column of their own.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for strategy in strategies:
            took = {}
            for name, variant in (("plain", VARIANTS[0]), ("fast", FAST)):
                with attention(variant["attention"]):
                    seconds, filled, _ = _steps(
                        sizes, strategy, variant, Path(folder), epochs * items // batch, device, batch, items
                    )
                took[name] = sum(seconds) + filled * variant["cache"]
            rows.append(
                {
                    "strategy": strategy,
                    "plain_seconds": took["plain"],
                    "fast_seconds": took["fast"],
                    "of_it_filling": filled,
                }
            )
            say(f"{strategy:<28} {took['plain']:7.1f} s  {took['fast']:7.1f} s")
    table = pd.DataFrame(rows)
    table = pd.concat(
        [table, pd.DataFrame([{"strategy": "all", **table.drop(columns="strategy").sum()}])], ignore_index=True
    )
    return table.assign(faster=table["plain_seconds"] / table["fast_seconds"])


def inference_table(sizes, seconds, batches, device, folder=None, say=print):
    """A row a length, batch and precision: RTF (seconds of work a second of sound), faster than plain fp32, SNR (dB)
    against it.
    """
    torch.manual_seed(0)
    model = (
        ConVoiFilter.from_pretrained(folder).float() if folder else ConVoiFilter(ConVoiFilterConfig(**sizes)).eval()
    ).to(device)
    rng, rows = np.random.default_rng(0), []
    for length, batch in itertools.product(seconds, batches):
        mix = (0.1 * rng.standard_normal(int(length * 16000))).astype(np.float32)
        enrollment, plain = mix[: 5 * 16000], None
        for kind, precision in (("plain", "fp32"), ("fused", "fp32"), ("fused", "bf16")):
            with attention(kind):
                model.extract(mix[: 5 * 16000], enrollment, precision=precision)  # warm up
                started = time.perf_counter()
                est = model.extract(mix, enrollment, batch=batch, precision=precision)
                took = time.perf_counter() - started
            plain = (took, est) if plain is None else plain
            noise = np.sum((est - plain[1]) ** 2)
            rows.append(
                {
                    "seconds": length,
                    "batch": batch,
                    "attention": kind,
                    "precision": precision,
                    "rtf": took / length,
                    "faster": plain[0] / took,
                    "snr_db": 10 * np.log10(np.sum(plain[1] ** 2) / noise) if noise else math.inf,
                }
            )
            say(
                f"inference {length:6.0f} s, batch {batch}, {kind} {precision}: RTF {rows[-1]['rtf']:.4f}  x"
                f" {rows[-1]['faster']:.2f}  SNR {rows[-1]['snr_db']:.0f} dB"
            )
    return pd.DataFrame(rows)


def profile(sizes, strategy, variant, device, rows=12):
    """Where the time of one step goes, by PyTorch's profiler: a DataFrame op, calls, ms, share."""
    from torch.profiler import ProfilerActivity, profile as profiler

    found = profiler(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda"))
    with tempfile.TemporaryDirectory() as folder, attention(variant["attention"]):
        _steps(sizes, strategy, variant, Path(folder), 3, device, 4, last=found)
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


def matrix_share(sizes, strategy, batches, device, steps=5, say=print):
    """A row a batch: TFLOP/s of an uncached bf16 step (its matrix products and convolutions alone are counted), and of
    one large product.
    """
    from torch.utils.flop_counter import FlopCounterMode

    edge, times = 8192 if device.type == "cuda" else 1024, []
    one = torch.randn(edge, edge, device=device, dtype=torch.bfloat16)
    for _ in range(8):
        started = time.perf_counter()
        (one @ one)[0, 0].item()
        times.append(time.perf_counter() - started)
    rows, most = [], 2 * edge**3 / statistics.median(times[3:]) / 1e12
    for batch in batches:
        variant, counter = dict(attention="fused", precision="bf16", cache=False), FlopCounterMode(display=False)
        with attention("fused"):
            seconds, _, _ = _steps(sizes, strategy, variant, None, steps + 1, device, batch)
            _steps(sizes, strategy, variant, None, 1, device, batch, last=counter)
        took, flop = statistics.median(seconds[1:]), counter.get_total_flops()
        rows.append(
            {
                "strategy": strategy,
                "batch": batch,
                "seconds": took,
                "tflop_per_second": flop / took / 1e12,
                "matrix_rate": most,
                "share": flop / took / 1e12 / most,
            }
        )
        say(f"{strategy}, batch {batch}: {took:.3f} s a step, {flop / took / 1e12:.1f} of {most:.0f} TFLOP/s")
    return pd.DataFrame(rows)


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
    parser.add_argument("--profile", metavar="STRATEGY", help="instead: where the time of a cached bf16 step goes")
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
        print(profile(sizes, options.profile, FAST, device).round(3).to_string(index=False))
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
        from lib import plots

        plots.speed(tables["training"]).savefig(options.out.with_name(f"{options.out.name}_training.png"))


if __name__ == "__main__":
    main()
