"""Fine-tuning a segmentation model: pyannote's task, Lightning's loop, a row an epoch in the columns of the field.

The loss is the sum of two, both with the best permutation of the local speakers: who speaks in which frame
(segmentation), and whether anybody does (voice activity, "vad"). The DER of validation is that of single windows at the
best threshold, without clustering: a number to choose epochs by, not the DER of a recording.
"""

import copy
import os
import tempfile
import time
import warnings
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import torch

from lib import extras, runs
from lib.diarization import models, protocols
from lib.diarization.task import Segmentation

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from pyannote.audio import Model

COLUMNS = [
    "epoch",
    "loss/val/segmentation",
    "loss/val/vad",
    "loss/val",
    "DER",
    "Confusion",
    "FalseAlarm",
    "Miss",
    "Threshold",
    "loss/train/segmentation",
    "loss/train/vad",
    "loss/train",
]
OPTIMIZERS = ("Adam", "AdamW", "RAdam", "NAdam")


@dataclass(frozen=True)
class Settings:
    """How to fine-tune. An epoch draws as many windows as the training set is long."""

    epochs: int = 6
    batch_size: int = 16
    learning_rate: float = 1e-3
    optimizer: str = "NAdam"  # Adam, AdamW, RAdam, NAdam
    cosine: bool = True  # the learning rate falls to 0 over all steps as a half cosine; False: it stays
    strategy: str = "all but the filters"  # what trains: a name of lib.diarization.models.STRATEGIES
    patience: int = 10  # epochs without a better DER after which to stop; 0 never stops early
    keep: int = 2  # how many of the best checkpoints stay, beside the last
    grad_clip: float = 0.5  # L2 norm of the gradient; 0 does not clip
    seed: int = 0

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise TrainingError(f"unknown optimizer {self.optimizer!r}; known are: {', '.join(OPTIMIZERS)}")
        if self.strategy not in models.STRATEGIES:
            raise TrainingError(f"unknown strategy {self.strategy!r}; known are: {', '.join(models.STRATEGIES)}")
        for name, least in dict(epochs=1, batch_size=1, patience=0, keep=1, seed=0).items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise TrainingError(f"{name} is {value!r}; give a whole number from {least} on")
        if not self.learning_rate > 0:
            raise TrainingError(f"learning_rate is {self.learning_rate!r}; give a number over 0")

    @classmethod
    def of(cls, settings):
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise TrainingError(f"unknown setting {', '.join(unknown)}; known are: {', '.join(known)}")
        return cls(**settings)

    def name(self):
        return f"{self.optimizer.lower()}{'_cosine' if self.cosine else ''}_{self.epochs}_batch{self.batch_size}"


class TrainingError(ValueError):
    """Training cannot be done as asked; the message says what is known or what to do."""


class _History(Callback):
    """A row an epoch, written after each, so that a resumed run goes on with it."""

    def __init__(self, path, seed, each=None):
        self.path, self.seed, self.each = path, seed, each
        self.rows = runs.read_history(path).to_dict("records") if path.is_file() else []

    def on_train_epoch_start(self, trainer, model):
        torch.manual_seed(
            self.seed * 1000 + trainer.current_epoch
        )  # so that augmentation goes on the same after a resume

    def on_validation_end(self, trainer, model):
        if trainer.sanity_checking:
            return
        epoch = 0 if trainer.state.fn == "validate" else trainer.current_epoch + 1
        row = {
            "epoch": epoch,
            **{name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS},
        }
        if epoch == 0:
            self._add(row)
        else:
            self.waiting = row

    def on_train_epoch_end(self, trainer, model):
        losses = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("loss/train")
        }
        self._add({**self.waiting, **losses})

    def _add(self, row):
        self.rows = [old for old in self.rows if old["epoch"] < row["epoch"]] + [row]
        runs.write_history(self.path, pd.DataFrame(self.rows).reindex(columns=COLUMNS))
        if self.each:
            self.each(row)


def prepared(model, root):
    """pyannote's task on `root` for a copy of `model`, set up without a training: to look at windows and losses."""
    copied = copy.deepcopy(model)
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        copied.task = Segmentation(
            protocols.protocol(root), copied.specifications, cache=str(Path(folder) / "prepared.npz")
        )
        copied.prepare_data()
        copied.setup()
    return copied.eval().task


def fit(model, root, out, augmentation=None, resume=False, each=None, max_epochs=None, **settings):
    """Fine-tune a copy of `model` on the data in `root` (see `lib.diarization.protocols`). Returns (best model,
    history).

    The history has a row an epoch with `COLUMNS`; epoch 0 is the model as it came in. The best model is that of the
    lowest DER of
    validation, which may be the one it came with. In the folder `out`: settings.json, history.csv, the best checkpoints
    and last.ckpt.
    resume: go on from last.ckpt. each: called with each row. max_epochs: stop there for now (to be resumed). Raises
    `TrainingError` for a setting, `RunError` for an `out` that is taken.
    """
    settings, out = Settings.of(settings), Path(out)
    last, finished = _open(out, settings, {"model": f"{runs.fingerprint(model):08x}", "data": _lists_of(root)}, resume)
    if finished:
        return _read(model, out)
    _windows_fit(root, model.specifications.duration)
    start = copy.deepcopy(model)
    task = Segmentation(
        protocols.protocol(root),
        start.specifications,
        batch_size=settings.batch_size,
        augmentation=augmentation,
        cache=str(out / "prepared.npz"),
    )
    start.task = task
    (out / "prepared.npz").unlink(missing_ok=True)
    history = _History(out / "history.csv", settings.seed, each)
    saver = ModelCheckpoint(
        out, filename="{epoch}", monitor="DER", mode="min", save_top_k=settings.keep, save_last=True
    )
    callbacks = [history, saver] + (
        [EarlyStopping("DER", mode="min", patience=settings.patience, check_on_train_epoch_end=False)]
        if settings.patience
        else []
    )
    with models.quiet():
        os.environ["PL_GLOBAL_SEED"] = str(settings.seed)  # pyannote draws its windows by this and the epoch
        torch.manual_seed(settings.seed)
        trainer = lightning.Trainer(
            max_epochs=min(settings.epochs, max_epochs or settings.epochs),
            accelerator="auto",
            devices=1,
            callbacks=callbacks,
            logger=False,
            gradient_clip_val=settings.grad_clip or None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            inference_mode=False,
        )  # metrics outlive validate
        start.prepare_data()
        start.setup()
        models.freeze(start, settings.strategy)
        start.configure_optimizers = lambda: _optimizers(start, settings, trainer)
        if not last:
            trainer.validate(start, verbose=False)
        started = time.perf_counter()
        trainer.fit(start, ckpt_path=last, weights_only=False)
    return _finish(
        model, out, settings, saver, history, time.perf_counter() - started, trainer.max_epochs == settings.epochs
    )


def measure(model, root):
    """The losses and the DER of windows of `model` on the dev set of `root`, as a dict with the names in `COLUMNS`."""
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        copied = copy.deepcopy(model)
        copied.task = Segmentation(
            protocols.protocol(root), copied.specifications, batch_size=32, cache=str(Path(folder) / "prepared.npz")
        )
        copied.prepare_data()
        trainer = lightning.Trainer(
            accelerator="auto", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        (found,) = trainer.validate(copied, verbose=False)
    return {name: found[name] for name in COLUMNS if name in found}


def _optimizers(model, settings, trainer):
    optimizer = getattr(torch.optim, settings.optimizer)(
        [p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate
    )
    if not settings.cosine:
        return optimizer
    steps = settings.epochs * max(1, model.task.train__len__() // settings.batch_size)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps), "interval": "step"},
    }


def _lists_of(root):
    """A short number for the recordings that teach and validate."""
    heard = " ".join(f"{part}:{uri}" for part in ("train", "dev") for uri in protocols.uris(root, part))
    return f"{zlib.crc32(heard.encode()):08x}"


def _open(out, settings, run, resume):
    """(checkpoint to go on from or None, whether the run is finished); `RunError` where the folder is taken or asks for
    something else.
    """
    seconds = 0.0
    if (out / "settings.json").is_file():
        if not resume:
            raise runs.RunError(
                f"{out}: there is already a run here. Pass resume=True to go on with it, or choose another folder."
            )
        record = runs.read_json(out / "settings.json")
        earlier, seconds = record["settings"], record.get("seconds", 0.0)
        now, before = {**asdict(settings), **run}, {**earlier, **record["run"]}
        if changed := [
            f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in now.items()
            if before.get(name) != value
        ]:
            raise runs.RunError(
                f"{out}: cannot go on with this run, for {'; '.join(changed)}. Ask for the same, or choose another"
                " folder."
            )
        if record["finished"]:
            return None, True
    runs.write_json(
        out / "settings.json",
        {**runs.describe(), "settings": asdict(settings), "run": run, "seconds": seconds, "finished": False},
    )
    return (str(out / "last.ckpt") if (out / "last.ckpt").is_file() else None), False


def _windows_fit(root, window):
    for part in ("train", "dev"):
        names = protocols.uris(root, part)
        short = [uri for uri in names if protocols.seconds_of(root, part, uri) < window + 0.1]
        if short:
            raise TrainingError(
                f"{root}: {len(short)} recording(s) of {part} are shorter than the model's window of {window:g} s, such"
                f" as {short[0]}. Take them out of {part}.txt, or join short recordings."
            )


def _finish(model, out, settings, saver, history, seconds, finished):
    """Note the run in its folder, and read it from there."""
    table, record = pd.DataFrame(history.rows), runs.read_json(out / "settings.json")
    best = table.loc[table["DER"].idxmin()]
    checkpoint = Path(saver.best_model_path).name if best["epoch"] > 0 else None
    record.update(
        finished=finished,
        seconds=round(record["seconds"] + seconds, 2),
        best_epoch=int(best["epoch"]),
        best_der=float(best["DER"]),
        best_checkpoint=checkpoint,
    )
    runs.write_json(out / "settings.json", record)
    return _read(model, out)


def _read(model, out):
    """The best model of the run in `out`, and its history."""
    record, table = runs.read_json(out / "settings.json"), runs.read_history(out / "history.csv")
    table.attrs.update(best_epoch=record["best_epoch"], seconds=record["seconds"])
    if record["best_checkpoint"] is None:
        return copy.deepcopy(model).eval(), table
    with models.quiet():
        return Model.from_pretrained(out / record["best_checkpoint"]).eval(), table
