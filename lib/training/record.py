"""The history of a training as it goes: rows, best weights, checkpoints, and when to stop. A callback of Trainer."""

import math
import os
import shutil
import time

from transformers import TrainerCallback

from lib import runs
from lib.training.progress import progress_for
from lib.training.settings import TrainingError

THRIFTY = ("cuda",)  # an epoch takes a second or two there, and writing what it learned as long again
FIRST_SAVE = 1.0  # s that the first checkpoint is taken to cost
NOT_SCORES = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")


class Record(TrainerCallback):
    """Collects the history, keeps the best weights, and says when to stop."""

    def __init__(self, model, out, settings, checkpoint, thrifty=False):
        self.model, self.out, self.patience, self.epochs = model, out, settings.patience, settings.epochs
        self.rows = [] if checkpoint is None else runs.read_history(checkpoint / "history.csv").to_dict("records")
        self.train_loss = self.learning_rate = math.nan
        self.progress, self.started = progress_for(settings), time.perf_counter()
        self.thrifty, self.best_weights = thrifty, None  # those not on the disk yet
        self.saved, self.saving = self.started, FIRST_SAVE

    def due(self):
        """Whether to write weights and checkpoint after this epoch: each time, or (`thrifty`) for a tenth of the time
        at most; what was learned since is lost in a kill, and not in an error.
        """
        return not self.thrifty or time.perf_counter() - self.saved >= 10 * self.saving

    def hold_best(self):
        """Keep the best weights aside, those that train and the statistics, until they are written."""
        learned = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        frozen = {name for name, _ in self.model.named_parameters()} - learned
        state = self.model.state_dict()
        self.best_weights = {name: state[name].detach().to("cpu", copy=True) for name in state if name not in frozen}

    def write_best(self):
        """Write the best weights where they are not on the disk yet."""
        if self.best_weights is not None:
            runs.save_model(self.model, self.out / "best", {**self.model.state_dict(), **self.best_weights})
            self.best_weights = None

    def best(self):
        """The row with the lowest validation loss so far, the first of equals."""
        return min(self.rows, key=lambda row: row["val_loss"])

    def stopped(self):
        """Whether all epochs are done, or none of the last `patience` was the best."""
        if not self.rows:
            return False
        last = self.rows[-1]["epoch"]
        return last >= self.epochs or (bool(self.patience) and last - self.best()["epoch"] >= self.patience)

    def keep(self, folder):
        """Move a complete checkpoint to its place, and drop the ones before it."""
        runs.write_history(folder / "history.csv", self.rows)
        place = self.out / folder.name
        shutil.rmtree(place, ignore_errors=True)
        os.replace(folder, place)
        runs.remove_checkpoints(self.out, but=place)
        self.saved, self.saving = time.perf_counter(), time.perf_counter() - self.began

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()  # what came before is setting up, not training

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.started = time.perf_counter()
        dataset = getattr(train_dataloader, "dataset", None)
        if hasattr(
            dataset, "set_epoch"
        ):  # data made on the fly must depend on the epoch alone, or a resumed run would differ
            dataset.set_epoch(round(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        self.progress.step(state.global_step, state.max_steps, self.epochs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.train_loss, self.learning_rate = logs["loss"], logs["learning_rate"]
            self._check(self.train_loss, "training", state)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self._check(metrics["eval_loss"], "validation", state)
        scores = {
            f"val_{name[5:]}": value
            for name, value in metrics.items()
            if name.startswith("eval_") and name not in NOT_SCORES
        }
        val_loss = scores.pop("val_loss")
        now = time.perf_counter()
        self.rows.append(
            {
                "epoch": round(state.epoch or 0),
                "train_loss": self.train_loss,
                "val_loss": val_loss,
                **scores,
                "learning_rate": self.learning_rate,
                "seconds": now - self.started,
            }
        )
        self.started = self.began = now
        due = self.due()
        control.should_save = control.should_save and due
        if state.is_world_process_zero:
            if self.best() is not self.rows[-1]:
                self.write_best() if due else None
            elif due:
                self.best_weights = None
                runs.save_model(self.model, self.out / "best")
            else:
                self.hold_best()
            runs.write_history(self.out / "history.csv", self.rows)
            self.progress.epoch(self.rows, self.best())
        control.should_training_stop = control.should_training_stop or self.stopped()

    def _check(self, loss, kind, state):
        if not math.isfinite(loss):
            raise TrainingError(
                f"the {kind} loss became {loss} in epoch {math.ceil(state.epoch or 0)}. Try a lower learning_rate, "
                "precision='fp32', or look for NaN in the data. The best weights so far are kept."
            )
