"""One way to train everything: settings in; history, best weights and a record of the run out.

Any model will do whose `forward(**batch)` returns an output with `.loss` (what `forward` does not name is kept from
it). transformers' Trainer does the work, so accelerate, torchrun, mixed precision and reporting come with it; see
`lib/runs.py` for the folder of a run. Needs torch, transformers, accelerate, numpy and pandas alone.
"""

import contextlib
import importlib.util
import os
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from lib import runs
from lib.losses import negative_si_snr, residual_level, speaks
from lib.training import known, prefix, resident
from lib.training.settings import (
    MAY_DIFFER,
    Settings,
    SettingsError,
    TrainingError,
    accepted_by,
    pick_device,
    pick_precision,
)

KEPT = {"settings": dict, "precision": str, "run": dict}  # of settings.json, without which no run can be gone on with


def fit(model, train, val, out, *, resume=False, collate=None, score=None, notes=None, **settings):
    """Train `model` on `train`, choose by the loss on `val`, keep everything in the folder `out`. Returns the history.

    train, val: datasets of dicts. collate: list of items -> batch, default `pad`. score: `(output, batch) -> {name:
    (batch,)}` for validation, default `score_extraction`. notes: a dict kept in settings.json (what model, what data).
    settings: see `Settings`. resume: go on with an interrupted run in `out`; the history is then the one the
    uninterrupted run would have had.

    The history has a row an epoch: epoch, train_loss, val_loss, val_<score>..., learning_rate, seconds; epoch 0 is the
    model as it came in. `.attrs`: best_epoch, seconds, peak_memory_mb, precision, device. Afterwards the model holds
    the weights of the lowest validation loss, which may be those it came with, in eval mode; they are in `out/best`
    too. Frozen parts (see `lib.training.freezing`) stay. Raises `SettingsError` for a setting, `RunError` for an `out`
    that is taken or does not fit, `TrainingError` when the loss is not finite.
    """
    settings, out = Settings.of(settings), Path(out)
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    _check(model, train, val, settings)
    if (
        device.type == "cpu"
    ):  # gradients of attention's smallest weights are subnormal numbers, which CPUs multiply many times slower
        torch.set_flush_denormal(True)
    record = {
        **runs.describe(),
        "settings": asdict(settings),
        "device": _device_name(device),
        "precision": precision,
        "run": _fingerprint(model, train, val),
        "notes": notes or {},
        "finished": False,
    }
    earlier, checkpoint = _open(out, record, resume)
    if earlier and earlier["finished"]:
        runs.load_weights(model.eval(), out / "best")
        return _with_attrs(runs.read_history(out / "history.csv"), earlier)
    record = {**record, "started": earlier["started"]} if earlier else record
    if getattr(getattr(model, "config", None), "gate", None):
        model.config.gate = None  # calibrated on the model as it was
    first = int(os.environ.get("RANK", 0)) == 0  # under torchrun one process writes, all train
    if first:
        runs.write_json(out / "settings.json", record)

    from lib.training.trainer import train as run_trainer  # importing transformers' Trainer takes seconds, so only here

    with runs.PeakMemory(device) as peak:
        started = time.perf_counter()
        train, val, collate, record["prefix"] = _cached(model, train, val, collate or pad, settings, precision, device)
        train, val, collate, record["resident"] = resident.prepare(
            *(train, val, collate, settings.resident, device, settings.batch_size),
            say=print if first else lambda line: None,
        )
        record["prefix_seconds"] = round(time.perf_counter() - started, 3)
        history = run_trainer(
            model, train, val, out, settings, precision, device, checkpoint, collate, score or score_extraction
        )
    runs.load_weights(model.eval(), out / "best")
    record.update(
        finished=True,
        graphs=history.attrs.pop("graphs"),
        seconds=round(float(history["seconds"].sum()), 3),
        peak_memory_mb=round(peak.mb, 1),
        best_epoch=int(history.loc[history["val_loss"].idxmin(), "epoch"]),
    )
    if first:
        runs.write_json(out / "settings.json", record)
        runs.remove_checkpoints(out)
    return _with_attrs(history, record)


def measure(model, data, *, collate=None, score=None, batch_size=8, device="auto", precision="fp32"):
    """Score `model` on every item of `data`, in eval mode and without training anything. Returns a DataFrame, a row an
    item.

    Columns are the scores' names (default: si_sdri in dB, and level_db where somebody asked for is silent, as
    `score_extraction` says) and, where the items carry one, index. Leaves the model's modes as they were.
    """
    device = pick_device(device)
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    autocast = (
        contextlib.nullcontext() if (kind := pick_precision(precision, device)) == "fp32" else _autocast(device, kind)
    )
    accepted, rows, shared = accepted_by(model), [], known.KNOWN(model, kind)
    for batch in torch.utils.data.DataLoader(data, batch_size, collate_fn=collate or pad):
        batch = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        with torch.inference_mode(), autocast:
            output = model(**{name: value for name, value in shared(batch).items() if name in accepted})
            columns = {
                name: values.float().cpu().numpy()
                for name, values in (score or score_extraction)(output, batch).items()
            }
        index = {"index": batch["index"].cpu().numpy()} if "index" in batch else {}
        rows.append(pd.DataFrame({**index, **columns}))
    for module, mode in modes.items():
        module.training = mode
    table = pd.concat(rows, ignore_index=True)
    return table.drop(columns=[name for name in ("level_db",) if name in table and table[name].isna().all()])


def pad(items):
    """A batch of dicts: tensors stacked, those of unequal length zero-padded at the end with their lengths beside them.

    The lengths of `mix` are called `lengths`, those of another name `<name>_lengths`.
    """
    batch = {}
    for name in items[0]:
        values = [torch.as_tensor(item[name]) for item in items]
        if values[0].dim() and len({len(value) for value in values}) > 1:
            batch["lengths" if name == "mix" else f"{name}_lengths"] = torch.tensor([len(value) for value in values])
            batch[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
        else:
            batch[name] = torch.stack(values)
    return batch


def score_extraction(output, batch):
    """SI-SDRi in dB of each item, `{"si_sdri": (batch,)}`, where there are an estimate, a mixture and a target.

    A silent target has no SI-SDRi (NaN). Where a batch holds one there is also `level_db`, the estimate's level over
    the mixture's, NaN for those who speak: the lower the better.
    """
    if getattr(output, "est", None) is None or not {"mix", "target"} <= set(batch):
        return {}
    mix, target, lengths = batch["mix"], batch["target"], batch.get("lengths")
    there, none = speaks(target), torch.full((len(target),), torch.nan, device=target.device)
    gain = negative_si_snr(mix, target, lengths) - negative_si_snr(output.est, target, lengths)
    level = residual_level(output.est, mix, lengths, floor_db=60.0)
    return {"si_sdri": torch.where(there, gain, none), "level_db": torch.where(there, none, level)}


def _check(model, train, val, settings):
    if settings.report_to != "none" and importlib.util.find_spec(settings.report_to) is None:
        raise SettingsError(
            f"report_to {settings.report_to!r} needs the package {settings.report_to}: pip install -r"
            " requirements-extras.txt"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(
            "every parameter is frozen, so there is nothing to train; open a part, for example freeze(model, depth=1)"
        )
    if not len(train) or not len(val):
        raise TrainingError(
            f"there are {len(train)} items to train on and {len(val)} to validate on; both need at least one"
        )


def _cached(model, train, val, collate, settings, precision, device):
    """The data with what the frozen front of `model` says of it; one process a machine computes it, the others read."""
    turns = contextlib.nullcontext()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from accelerate import PartialState

        turns = PartialState(cpu=device.type == "cpu").local_main_process_first()
    with turns:
        return prefix.prepare(model, train, val, collate, settings.cache_gb, precision, device, settings.batch_size)


def _autocast(device, precision):
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def _device_name(device):
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )


def _fingerprint(model, train, val):
    """What a resumed run must have in common with the one it goes on with."""
    open_names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "trainable_names": zlib.crc32("\n".join(open_names).encode()),
        "train_items": len(train),
        "val_items": len(val),
    }


def _open(out, record, resume):
    """Return (settings.json of the earlier run, its last checkpoint), each None where there is none; `RunError` when
    `out` is taken.
    """
    if not any((out / name).exists() for name in ("history.csv", "best")):
        return None, None  # nothing there, or a run that broke off before it had measured anything
    if not resume:
        raise runs.RunError(
            f"{out}: there is already a run here. Pass resume=True to go on with it, choose another folder, or move it"
            " away with lib.runs.set_aside."
        )
    earlier = runs.read_json(out / "settings.json")
    if not all(isinstance(earlier.get(name), kind) for name, kind in KEPT.items()):
        raise runs.RunError(f"{out / 'settings.json'}: not a run's settings. Give another folder, or delete this one.")
    known = {**asdict(Settings()), **earlier["settings"]}  # a setting that came later was as its default is
    pairs = [(name, known[name], value) for name, value in record["settings"].items() if name not in MAY_DIFFER]
    pairs += [("precision", earlier["precision"], record["precision"])]
    pairs += [(name, earlier["run"].get(name), value) for name, value in record["run"].items()]
    if changed := [f"{name} was {before!r} and is {now!r}" for name, before, now in pairs if before != now]:
        raise runs.RunError(
            f"{out}: cannot go on with this run, for {'; '.join(changed)}. Ask for the same, or choose another folder."
        )
    return earlier, runs.last_checkpoint(out)


def _with_attrs(history, record):
    history.attrs.update(
        {name: record[name] for name in ("best_epoch", "seconds", "peak_memory_mb", "precision", "device")}
    )
    return history
