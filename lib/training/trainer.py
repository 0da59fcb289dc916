"""What `lib.training.fit` does with transformers' Trainer. Import it late: Trainer takes seconds to import."""

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from lib import runs
from lib.losses import level_deviation, speaks, spectral_distance
from lib.losses.perceptual import perceptual_distance
from lib.training import replay
from lib.training.record import THRIFTY, Record
from lib.training.resident import Resident
from lib.training.settings import TrainingError, accepted_by

FUSED = ("Adam", "AdamW")  # have one kernel for all weights on a GPU
SCHEDULERS = {"cosine": "cosine", "constant": "constant_with_warmup", "plateau": "reduce_lr_on_plateau"}


def train(model, train, val, out, settings, precision, device, checkpoint, collate, score):
    """Run or resume one training; writes history, best weights and checkpoints into `out` and returns the history."""
    graphs, record = "off", Record(model, out, settings, checkpoint, thrifty=device.type in THRIFTY and replay.alone())
    if not record.stopped():
        trainer = _Trainer(
            model,
            _arguments(out, settings, precision, device, checkpoint is None, isinstance(train, Resident)),
            train,
            val,
            collate,
            score,
            record,
            settings,
        )
        say = print if trainer.is_world_process_zero() else _nothing
        trainer.replay = replay.prepare(settings, model, trainer.loss_and_output, device, precision, say)
        try:
            with replay.compiled(model, settings.graphs):
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            trainer.accelerator.wait_for_everyone()  # the first process has written the best weights and the history
        finally:
            graphs = replay.told(trainer.replay)
            trainer.replay = None  # with the memory of its graphs
            # mixed precision wraps the model's forward; it must not outlive the training
            trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            model.__dict__.pop("forward", None)
            record.progress.close()
            record.write_best()
            if trainer.is_world_process_zero():
                shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    history = runs.read_history(out / "history.csv")
    history.attrs["graphs"] = graphs
    return history


def _nothing(line):
    """Said by the first process alone."""


def _arguments(out, settings, precision, device, measure_first, resident):
    reporting = _reporting(settings.report_to, out)
    arguments = TrainingArguments(
        output_dir=str(out / ".stage"),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULERS[settings.scheduler],
        warmup_steps=settings.warmup_steps,
        lr_scheduler_kwargs={"factor": 0.5, "patience": 2} if settings.scheduler == "plateau" else None,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.grad_clip,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_num_workers=0 if resident else settings.workers,
        dataloader_pin_memory=device.type == "cuda" and not resident,
        use_cpu=device.type == "cpu",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        eval_on_start=measure_first,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        report_to=reporting,
        run_name=out.name,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs go through torchrun, not through DataParallel
    if settings.batch_size % arguments.world_size:
        raise TrainingError(
            f"batch_size {settings.batch_size} cannot be shared by {arguments.world_size} processes; give a multiple"
            " of it"
        )
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = (
        settings.batch_size // arguments.world_size
    )
    return arguments


def _reporting(report_to, out):
    """Name the reporting for Trainer, and keep what it writes beside the runs rather than in the working directory."""
    if report_to == "mlflow":
        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            store = out.resolve().parent
            mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
            if mlflow.get_experiment_by_name("runs") is None:
                mlflow.create_experiment("runs", artifact_location=(store / "mlflow").as_uri())
            os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_EXPERIMENT_NAME"] = (
                f"sqlite:///{store / 'mlflow.db'}",
                "runs",
            )
    if report_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / "tensorboard")
    return [] if report_to == "none" else [report_to]


class _Trainer(Trainer):
    """Trainer with scores an item in validation, checkpoints that appear whole, and the history of `Record`."""

    def __init__(self, model, arguments, train, val, collate, score, record, settings):
        config = getattr(model, "config", None)
        had_cache = hasattr(config, "use_cache")
        optimizer = getattr(torch.optim, settings.optimizer), {"lr": settings.learning_rate}
        if arguments.device.type == "cuda" and settings.optimizer in FUSED:
            optimizer[1]["fused"] = True  # one kernel for all weights in place of several for each
        if hasattr(model, "parameter_groups"):  # a model with lower rates for its deeper layers says so itself
            optimizer[1]["params"] = model.parameter_groups(settings.learning_rate)
        super().__init__(
            model,
            arguments,
            data_collator=collate,
            train_dataset=train,
            eval_dataset=val,
            callbacks=[record],
            compute_metrics=self._average,
            optimizer_cls_and_kwargs=optimizer,
        )
        if config is not None and not had_cache and hasattr(config, "use_cache"):
            del (
                config.use_cache
            )  # Trainer sets it on every config; it is of language models, and would be saved with ours
        self.remove_callback(PrinterCallback)
        self.score, self.record, self.accepted, self.names = score, record, accepted_by(model), []
        self.settings, self.replay = settings, None  # or a `replay.Replay`

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        output = model(**{name: value for name, value in inputs.items() if name in self.accepted})
        loss = output.loss
        for weight, distance in (
            (self.settings.spectral, spectral_distance),
            (self.settings.perceptual, perceptual_distance),
            (self.settings.level, level_deviation),
        ):
            if weight:
                apart = distance(output.est, inputs["target"], inputs.get("lengths"))
                loss = loss + weight * (apart * speaks(inputs["target"])).mean()
        return (loss, output) if return_outputs else loss

    def loss_and_output(self, inputs):
        """What `replay` runs: the loss of a batch, and the model's output."""
        return self.compute_loss(self.model, inputs, return_outputs=True)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Replay the step where it can be; else Trainer's own."""
        if self.replay:
            model.train()
            inputs = self._prepare_inputs(inputs)
            if (loss := self.replay.train(inputs)) is not None:
                return loss
        return super().training_step(model, inputs, num_items_in_batch)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return the loss and one row of scores an item, rather than the estimates themselves, which would fill the
        memory.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            found = self.replay and self.replay.evaluate(inputs)
            loss, output, inputs = found or (*self.compute_loss(model, inputs, return_outputs=True), inputs)
            scores = self.score(output, inputs)
        self.names = list(scores)
        items = len(next(iter(inputs.values())))
        table = torch.stack(list(scores.values()), dim=1).float() if scores else loss.new_zeros(items, 0)
        return loss.detach().float(), table, loss.new_zeros(items)

    def _average(self, prediction):
        found = {name: prediction.predictions[:, i] for i, name in enumerate(self.names)}
        return {name: float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()}

    def floating_point_ops(self, inputs):
        return 0  # Trainer's own estimate is of language models

    def _save_checkpoint(self, model, trial):
        with runs.no_bars():
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random state into the folder
        if self.is_world_process_zero():
            self.record.keep(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
