"""Measured steps and inference, as `lib.training.benchmark` and `lib.training.gpu_check` tell them.

A step is reading the batch, forward, backward and the optimizer. Weights are random, as only time is measured; waves
are noise. A variant is a dict: attention ("plain", "fused"), precision ("fp32", "bf16"), cache (the frozen prefix, read
as in training), and where wanted convolution ("whole": over all frames at once, also where that is slow), resident (the
data lies on the device), graphs (a step is one CUDA graph, where the device has them) and compiled (`torch.compile` on
the blocks).
"""

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
from lib.training import freezing, prefix, replay
from lib.training.fit import pad
from lib.training.resident import Resident
from lib.training.settings import accepted_by

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
    dict(attention=a, precision=p, cache=c, convolution="cut")
    for c, p, a in itertools.product((False, True), ("fp32", "bf16"), ("plain", "fused"))
]
VARIANTS.insert(0, {**VARIANTS[0], "convolution": "whole"})  # the plain path, as the public implementation goes

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
def attention(form, convolution="cut"):
    """Within: all models use the `plain` or the `fused` form; and convolutions over all frames at once where they are
    `whole`.
    """
    usual = conformer.RelativeAttention.form, conformer.LONGEST
    conformer.RelativeAttention.form = form
    conformer.LONGEST = math.inf if convolution == "whole" else conformer.LONGEST
    try:
        yield
    finally:
        conformer.RelativeAttention.form, conformer.LONGEST = usual


def autocast(precision, device):
    """The context in which a step of `precision` runs."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def step_time(sizes, strategy, variant, folder, steps, device, batch=4):
    """Median seconds a step after two to warm up; peak MB of it all (weights, gradients, filling the cache); trainable
    parameters; why steps are no CUDA graph, "" where they are or were not asked to be.
    """
    with attention(variant["attention"], variant.get("convolution")), runs.PeakMemory(device) as peak:
        seconds, _, trainable, broken = run_steps(sizes, strategy, variant, folder, steps + 2, device, batch)
    return statistics.median(seconds[2:]), peak.mb, trainable, broken


def run_steps(sizes, strategy, variant, folder, steps, device, batch, items=None, last=None):
    """Seconds of each of `steps`, seconds that filling the cache took, trainable parameters, why no graph was used.

    last: a context for the last step.
    """
    torch.manual_seed(0)
    items = items or batch
    with torch.device(device):
        model = ConVoiFilter(ConVoiFilterConfig(**sizes))
    data, collate = Noise(items, seconds_of(sizes)), pad
    started = time.perf_counter()
    table = freezing.freeze(model, **STRATEGIES[strategy])
    if variant["cache"]:
        data, _, collate, _ = prefix.prepare(
            model, data, Noise(1, seconds_of(sizes)), collate, 8, variant["precision"], device, folder=folder
        )
    data = Resident(data, collate, device) if variant.get("resident") else data
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, 1e-5, **{"fused": True} if variant.get("graphs") else {})
    accepted, filled, seconds = accepted_by(model), time.perf_counter() - started, []

    def loss_of(inputs):
        with autocast(variant["precision"], device):
            output = model(**{name: value for name, value in inputs.items() if name in accepted})
        return output.loss, output

    graphs = variant.get("graphs") and device.type == "cuda"
    replayed = replay.Replay(model.train(), loss_of, device, batch, say=lambda line: None) if graphs else None
    with replay.compiled(model, "compile" if variant.get("compiled") else "off"):
        for step in range(steps):
            started = time.perf_counter()
            inputs = read(data, collate, [(step * batch + i) % items for i in range(batch)], device)
            with last if last and step == steps - 1 else contextlib.nullcontext():
                loss = replayed.train(inputs) if replayed else None
                if loss is None:
                    loss, _ = loss_of(inputs)
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            loss.item()  # a GPU has finished only then
            seconds.append(time.perf_counter() - started)
    return seconds, filled, table.attrs["trainable"], replayed.broken if replayed else ""


def seconds_of(sizes):
    """Seconds of a mixture of one chunk for a model of these sizes."""
    return sizes.get("enh_chunk_size", 5)


def read(data, collate, places, device):
    """The batch of the items at `places`, on `device`."""
    if isinstance(data, Resident):
        return data.__getitems__(places)
    return {
        name: {n: t.to(device) for n, t in value.items()} if isinstance(value, dict) else value.to(device)
        for name, value in collate([data[place] for place in places]).items()
    }


def training_table(sizes, strategies, steps, device, variants=VARIANTS, say=print):
    """A row a strategy and variant: strategy, attention, precision, cache, trainable, seconds, memory_mb, faster,
    less_memory.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for strategy in strategies:
            for variant in variants:
                seconds, memory, trainable, broken = step_time(sizes, strategy, variant, Path(folder), steps, device)
                found = {"trainable": trainable, "seconds": seconds, "memory_mb": memory, "no_graph": broken}
                rows.append({"strategy": strategy, **variant, **found})
                plain = next(row for row in rows if row["strategy"] == strategy)
                rows[-1] |= {"faster": plain["seconds"] / seconds, "memory_share": memory / plain["memory_mb"]}
                kind = " ".join(
                    [
                        variant["precision"],
                        "cached" if variant["cache"] else "uncached",
                        *[word for word in ("resident", "graphs", "compiled") if variant.get(word)],
                        *["whole convolutions"] * (variant.get("convolution") == "whole"),
                    ]
                )
                say(
                    f"{strategy:<13} {variant['attention']:<5} {kind:<32} "
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
                with attention(variant["attention"], variant.get("convolution")):
                    seconds, filled, _, _ = run_steps(
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
        beat = np.abs(np.sin(np.arange(min(len(mix), 5 * 16000)) / 5000))  # so that it is not taken for a room's noise
        enrollment, plain, chunks = mix[: len(beat)] * beat.astype(np.float32), None, math.ceil(len(mix) / model.chunk)
        warm = mix[
            : (chunks if chunks <= 2 * batch else batch + chunks % batch) * model.chunk
        ]  # every shape that comes
        for kind, precision in (("plain", "fp32"), ("fused", "fp32"), ("fused", "bf16")):
            with attention(kind):
                model.extract(warm, enrollment, batch=batch, precision=precision)
                took = math.inf
                for _ in range(3 if device.type == "cuda" and length <= 60 else 1):
                    started = time.perf_counter()
                    est = model.extract(mix, enrollment, batch=batch, precision=precision)
                    took = min(took, time.perf_counter() - started)
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


def matrix_rate(device, edge=None):
    """FLOP/s of one large product of bfloat16 matrices, `edge` wide: as large as the device needs to be busy."""
    edge, times = edge or (8192 if device.type == "cuda" else 1024), []
    one = torch.randn(edge, edge, device=device, dtype=torch.bfloat16)
    for _ in range(8):
        started = time.perf_counter()
        (one @ one)[0, 0].item()
        times.append(time.perf_counter() - started)
    return 2 * edge**3 / statistics.median(times[3:])


def matrix_share(sizes, strategy, batches, device, steps=5, say=print, more=None, edge=None):
    """A row a batch: TFLOP/s of an uncached bf16 step (its matrix products and convolutions alone are counted), and of
    one large product.

    more: what else the variant has, such as `dict(resident=True, graphs=True)`. edge: see `matrix_rate`.
    """
    from torch.utils.flop_counter import FlopCounterMode

    rows, most = [], matrix_rate(device, edge) / 1e12
    variant = dict(attention="auto", precision="bf16", cache=False)
    for batch in batches:
        counter = FlopCounterMode(display=False)
        with attention("auto"):
            seconds, *_, broken = run_steps(
                sizes, strategy, {**variant, **(more or {})}, None, steps + 2, device, batch
            )
            run_steps(sizes, strategy, variant, None, 1, device, batch, last=counter)
        took, flop = statistics.median(seconds[2:]), counter.get_total_flops()
        found = {"seconds": took, "tflop_per_second": flop / took / 1e12, "matrix_rate": most}
        rows.append({"strategy": strategy, "batch": batch, **(more or {}), **found, "no_graph": broken})
        rows[-1]["share"] = flop / took / 1e12 / most
        say(f"{strategy}, batch {batch}: {took:.3f} s a step, {flop / took / 1e12:.1f} of {most:.0f} TFLOP/s")
    return pd.DataFrame(rows)
