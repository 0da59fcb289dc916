"""The parts of `lib.training.gpu_check`: each takes a report, the device, whether to run in miniature, and a folder."""

import copy
import statistics
import time

import numpy as np
import torch

from lib import runs
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing, measuring, record as records
from lib.training.fit import fit
from lib.training.strategies import freeze_as

SMALL = dict(
    adim=64, aheads=4, layers=2, linear_units=96, xvector_dim=32, xvector_channels=32, xvector_pool=48, hop_length=128
)
TINY = {**SMALL, "adim": 16, "layers": 4, "linear_units": 16, "hop_length": 256, "enh_chunk_size": 0.5}
STILL = dict(dropout=0.0, positional_dropout=0.0, attention_dropout=0.0, condition_dropout=0.0)
CLOSE = 1e-3  # how far a device may lie from the CPU, relative
REACH = {"depth 1 full": 5.0, "depth 2 full": 4.0, "depth 2 attn": None, "depth 4 full": 3.0}  # times faster than plain
PLAIN = dict(attention="plain", precision="fp32", cache=False)
LADDER = {  # the plain path, the fastest, and what lies between
    "plain fp32": PLAIN,
    "cached bf16, graphs": dict(attention="fused", precision="bf16", cache=True, resident=True, graphs=True),
    "cached bf16": dict(attention="fused", precision="bf16", cache=True),
    "cached fp32, graphs": {**PLAIN, "attention": "fused", "cache": True, "resident": True, "graphs": True},
    "cached bf16, graphs, written out": dict(
        attention="plain", precision="bf16", cache=True, resident=True, graphs=True
    ),
}
FASTEST = "cached bf16, graphs"


def correct(report, device, small, folder):
    """The device says what the CPU says: estimates, gradients, histories; with and without graphs."""
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        for form in ("plain", "fused"):
            for depth in (2, 1):
                _compare_step(report, device, small, form, depth)
        _compare_histories(report, device, small, folder)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _compare_step(report, device, small, form, depth):
    model = _model(SMALL, seed=1, enh_chunk_size=1 if small else 5, **STILL)
    freezing.freeze(model, depth)
    batch, found = _batch(2, int(1.4 * model.chunk)), {}
    with measuring.attention(form):
        for name, where, precision in (("cpu", "cpu", "fp32"), ("fp32", device, "fp32"), ("bf16", device, "bf16")):
            own = copy.deepcopy(model).to(where).train()
            with measuring.autocast(precision, torch.device(where)):
                output = own(**{name: wave.to(where) for name, wave in batch.items()})
            output.loss.backward()
            gradient = torch.cat([p.grad.flatten().cpu() for p in own.parameters() if p.requires_grad])
            found[name] = (output.est.detach().cpu(), gradient)
    for precision, most in (("fp32", CLOSE), ("bf16", 0.15)):
        for what, one, two in zip(("estimate", "gradient"), found[precision], found["cpu"]):
            report.found(f"{what}, {form}, depth {depth}, {precision}", _apart(one, two), most=most)


def _compare_histories(report, device, small, folder):
    how = dict(epochs=2, batch_size=3, precision="fp32", progress="none", learning_rate=1e-4, seed=3)
    ways = {
        "cpu": dict(device="cpu"),
        "as usual": dict(device=device.type, resident="off", graphs="off"),
        "resident and replayed": dict(device=device.type, resident="on"),
    }
    for opened, strategy in {"depth 1": dict(depth=1), "adapters": dict(adapters=8)}.items():
        found = {}
        for name, way in ways.items():
            model, out = _model(TINY if small else SMALL, seed=2, **STILL), folder / f"history {opened} {name}"
            freeze_as(model, strategy)
            found[name] = fit(model, measuring.Noise(7, 1.2), measuring.Noise(4, 1.0), out, **how, **way)
        for name in list(ways)[1:]:
            for column in ("train_loss", "val_loss"):
                one, two = (torch.tensor(found[n][column].to_numpy()[1:]) for n in (name, "cpu"))
                report.found(f"{column}, {opened}, {name}", _apart(one, two), most=CLOSE)
        record = runs.read_json(out / "settings.json")
        report.same(f"data on the device, {opened}", record["resident"], "on")
        report.same(f"a step is one CUDA graph, {opened}", record["graphs"], "on" if device.type == "cuda" else "off")


def steps(report, device, small, folder):
    """Steps at batch 4 against the plain path at the same depth, and the memory of each row."""
    sizes, count, rows = TINY if small else measuring.FULL, 2 if small else 12, []
    for strategy, reach in REACH.items():
        for name, variant in LADDER.items():
            if report.left() < 3 or (small and name not in ("plain fp32", FASTEST)):
                continue
            seconds, memory, _, broken = measuring.step_time(sizes, strategy, variant, folder / "steps", count, device)
            rows.append({"strategy": strategy, "way": name, "milliseconds": 1000 * seconds, "memory_mb": memory})
            rows[-1] |= {"reserved_mb": _reserved(device), "no_graph": broken}
            plain = next(row for row in rows if row["strategy"] == strategy)
            rows[-1]["faster"] = plain["milliseconds"] / rows[-1]["milliseconds"]
            report.table("steps", rows)
            if variant["cache"]:
                least = reach if name == FASTEST else None
                report.found(f"{strategy}, {name}: times faster", rows[-1]["faster"], least=least, speed=True)
                shares = memory / plain["memory_mb"]
                report.found(f"{strategy}, {name}: memory, of plain", shares, most=1.0, speed=True)
            if variant.get("graphs") and device.type == "cuda":
                report.same(f"{strategy}, {name}: why no graph", broken, "")


def matrix(report, device, small, folder):
    """The share of the card's own rate for matrix products that a full step of 32 mixtures reaches."""
    sizes, batches = (TINY, [2]) if small else (measuring.FULL, [4, 32])
    rows = []
    for more in (dict(), dict(resident=True, graphs=True)):
        for batch in batches:
            if report.left() < 5:
                return
            given = (sizes, "depth 4 full", [batch], device)
            rows += measuring.matrix_share(*given, 2 if small else 8, _quiet, more, 128 if small else 8192).to_dict(
                "records"
            )
            report.table("matrix", rows)
            least = 0.35 if more and batch == batches[-1] else None
            what = f"batch {batch}{', graphs' * bool(more)}: share of the matrix rate"
            report.found(what, rows[-1]["share"], least=least, speed=True)


def strategies(report, device, small, folder):
    """Eight strategies of five epochs over 450 mixtures, each a whole run: data read, cache filled, weights kept."""
    items, epochs, names = (6, 1, ["mask only", "depth 2 attn"]) if small else (450, 5, list(measuring.STRATEGIES))
    start, rows = _model(TINY if small else measuring.FULL, seed=0), []
    seconds = start.chunk / 16000
    train, val = measuring.Noise(items, seconds), measuring.Noise(max(2, items // 9), seconds)
    began = time.perf_counter()
    for name in names:
        if report.left() < 8:
            break
        one, model = time.perf_counter(), copy.deepcopy(start)
        freezing.freeze(model, **measuring.STRATEGIES[name])
        out = folder / "strategies" / name.replace(" ", "_")
        how = dict(epochs=epochs, batch_size=2 if small else 4, patience=0, progress="none", device=device.type)
        history = fit(model, train, val, out, **how)
        record = runs.read_json(out / "settings.json")
        row = {"strategy": name, "seconds": time.perf_counter() - one, "an_epoch": history["seconds"].iloc[-1]}
        row |= {word: record[word] for word in ("precision", "prefix", "prefix_seconds", "resident", "graphs")}
        rows.append({**row, "memory_mb": record["peak_memory_mb"]})
        report.table("strategies", rows)
        report.found(f"{name}: seconds", row["seconds"])
    report.same("strategies trained", str(len(rows)), str(len(names)))
    report.found("all together: seconds", time.perf_counter() - began, most=120, speed=True)


def inference(report, device, small, folder):
    """Seconds of work a second of sound, by length; bfloat16 is never slower than float32."""
    sizes, lengths, batches = (TINY, [2], [2]) if small else (measuring.FULL, [5, 60, 600, 3600], [8, 64])
    rows = []
    for length in lengths:
        for batch in [batch for batch in batches if batch == batches[0] or length > 60]:
            if report.left() < 4:
                return
            table = measuring.inference_table(sizes, [length], [batch], device, say=_quiet)
            rows += table.to_dict("records")
            report.table("inference", rows)
            rtf = table.set_index(["attention", "precision"])["rtf"]
            ratio = rtf["fused", "fp32"] / rtf["fused", "bf16"]
            report.found(f"{length} s, {batch} chunks: bf16 over fp32", ratio, least=0.98, speed=True)
            report.found(f"{length} s, {batch} chunks: bf16 within dB", float(table["snr_db"].iloc[-1]), least=20)


def resume(report, device, small, folder):
    """A run that broke off in its second epoch goes on to what it would have been, dropout and all."""
    histories = []
    usual, records.FIRST_SAVE = records.FIRST_SAVE, 0.0
    try:
        for name in ("whole", "broken"):
            model = _model(SMALL if not small else TINY, seed=4)
            freezing.freeze(model, 1)
            given = (measuring.Noise(7, 1.2), measuring.Noise(4, 1.2), folder / name)
            how = dict(epochs=3, batch_size=3, progress="none", device=device.type, resident="on", precision="fp32")
            if name == "broken":
                try:
                    fit(copy.deepcopy(model), *given, score=_Breaks(3), **how)
                except _Broken:
                    report.same("a checkpoint is there", str(runs.last_checkpoint(folder / name) is not None), "True")
            histories.append(fit(model, *given, resume=name == "broken", **how))
    finally:
        records.FIRST_SAVE = usual
    one, two = (torch.tensor(history["val_loss"].to_numpy()) for history in histories)
    report.found("validation loss, resumed against whole", _apart(two, one), most=1e-5)


def compiled(report, device, small, folder):
    """What `graphs="compile"` brings, and how long compiling takes: for long runs at large batches."""
    batch, rows = 2 if small else 32, []
    fastest = {**LADDER[FASTEST], "cache": False}
    for name, variant in (("graphs", fastest), ("graphs, compiled", {**fastest, "compiled": not small})):
        given = (TINY if small else measuring.FULL, "depth 4 full", variant, None)
        began = time.perf_counter()
        with measuring.attention("fused"):
            seconds, *_, broken = measuring.run_steps(*given, 4 if small else 10, device, batch)
        rows.append({"way": name, "batch": batch, "milliseconds": 1000 * statistics.median(seconds[2:])})
        rows[-1] |= {"first_seconds": time.perf_counter() - began, "no_graph": broken}
        report.table("compiled", rows)
        report.found(f"batch {batch}, {name}: milliseconds", rows[-1]["milliseconds"])


PARTS = {part.__name__: part for part in (correct, steps, matrix, strategies, inference, resume, compiled)}


class _Broken(Exception):
    """Thrown on purpose in the middle of a run."""


class _Breaks:
    """Scores for validation that break off at the `last` call."""

    def __init__(self, last):
        self.calls, self.last = 0, last

    def __call__(self, output, batch):
        self.calls += 1
        if self.calls == self.last * 2:  # two batches a validation: the first two validations end
            raise _Broken
        return {}


def _model(sizes, seed, **more):
    torch.manual_seed(seed)
    return ConVoiFilter(ConVoiFilterConfig(**sizes, **more))


def _batch(count, samples):
    random = np.random.default_rng(0)
    return {
        name: torch.from_numpy(0.1 * random.standard_normal((count, samples)).astype(np.float32))
        for name in ("mix", "target", "enrollment")
    }


def _apart(one, two):
    """The distance of two tensors over the length of the second."""
    one, two = one.double(), two.double()
    return float((one - two).norm() / two.norm().clamp_min(1e-12))


def _reserved(device):
    """MB that PyTorch has taken from the device at most; not a number on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**20 if device.type == "cuda" else float("nan")


def _quiet(line):
    """Nothing is printed."""
