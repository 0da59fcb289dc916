"""When bfloat16 pays, and how an extractor runs in it: weights cast once, not in every chunk."""

import contextlib
import copy
import functools
import time

import torch
from torch import nn

LEAST_DB = 40.0  # how far the difference between the two precisions' estimates must lie below the estimate
LEAST_CHUNKS = 4  # a CPU tries bf16 on one chunk, which pays from so many on
TRIALS = 10  # of a CPU with the instructions that seems no faster with them
LEAST_BATCHES = 8  # a GPU tries both on one batch, twice each


def bf16_is_faster(device):
    """Whether `device` is likely to be faster in bfloat16: a GPU since 2020, a CPU with units for it, or one that has
    the instructions and proves it (`bf16_pays`).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    amx, avx = (getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "avx512_bf16"))
    return device.type == "cpu" and (amx or (avx and bf16_pays()))


@functools.cache
def bf16_pays():
    """True where this CPU multiplies bfloat16 at least 1.2 times as fast as float32. Some have the instruction and are
    half as fast.

    Timed once, in turns, for 30 ms. A no is asked for again up to nine times, 30 ms apart: other work on the cores may
    have been in the way, and a whole training depends on the answer.
    """
    kinds = (torch.float32, torch.bfloat16)
    ones, best = {kind: torch.ones(512, 512, dtype=kind) for kind in kinds}, dict.fromkeys(kinds, float("inf"))
    for trial in range(TRIALS):
        time.sleep(0.03 * (trial > 0))
        for kind in 8 * kinds:
            started = time.perf_counter()
            ones[kind] @ ones[kind]
            best[kind] = min(best[kind], time.perf_counter() - started)
        if best[torch.float32] > 1.2 * best[torch.bfloat16]:
            return True
    return False


class Runs:
    """Calls methods of `model` in float32 or bfloat16: `Runs(model, "bf16")("embed", wave)`.

    In bfloat16 it calls a copy whose linear and convolutional weights were cast once, and that shares all else.
    Autocast alone would cast the weights that do not train, and those of pointwise convolutions, in every call. The
    numbers are the same.
    """

    def __init__(self, model, kind):
        self.model, self.kind = (cast(model) if kind == "bf16" else model), kind
        self.device = next(model.parameters()).device

    def __call__(self, method, *arguments):
        low = torch.autocast(self.device.type, torch.bfloat16) if self.kind == "bf16" else contextlib.nullcontext()
        with low:
            return getattr(self.model, method)(*arguments)


def cast(model):
    """A copy of `model` with the weights of linear and convolutional layers in bfloat16 that shares its other
    tensors.
    """
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d)):
            kept[id(part.weight)] = nn.Parameter(part.weight.detach().to(torch.bfloat16), requires_grad=False)
    return copy.deepcopy(model, kept)


def choose(model, chunks, batch, estimate):
    """`Runs` of `model` in the precision that "auto" means for an input of `chunks` chunks, `batch` at a time.

    estimate: runs, count -> what they say of the loudest `count` chunks, `(count, samples)`. bfloat16 where the device
    is faster with it, the input is long enough for a trial to pay, and its estimate there lies within `LEAST_DB` of
    float32's.
    """
    plain = Runs(model, "fp32")
    gpu = plain.device.type == "cuda"
    long_enough = chunks >= (LEAST_BATCHES * batch if gpu else LEAST_CHUNKS)
    if not long_enough or not bf16_is_faster(plain.device):
        return plain
    low, count = Runs(model, "bf16"), batch if gpu else 1
    if gpu and _seconds(estimate, low, count) > _seconds(estimate, plain, count):
        return plain
    return low if _within(estimate(low, count), estimate(plain, count)) else plain


def _within(est, ref):
    return float((est - ref).square().sum()) <= 10 ** (-LEAST_DB / 10) * float(ref.square().sum())


def _seconds(estimate, runs, count):
    """Of the second of two calls; each ends with its estimate on the CPU, so a GPU has finished."""
    for _ in range(2):
        started = time.perf_counter()
        estimate(runs, count)
    return time.perf_counter() - started
