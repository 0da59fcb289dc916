"""One stage of pretraining through transformers' Trainer: by steps, or by the clock, for a machine that is rented by
the minute.
"""

import json
import os
import time

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from lib.pretraining.batches import MixtureBatches
from lib.pretraining.muon import Muon
from lib.training.settings import pick_precision

FIRST = 3  # steps in which kernels are compiled: they take minutes and teach nothing
WARM, LEAST = 0.04, 0.01  # share of the time in which the rate rises; what it ends at, of its highest


class ByTheClock(TrainerCallback, ExportableState):
    """Sets the learning rate before each step by the share of `seconds` that is over, and stops where all are.

    seconds: of all training, compiling among them, counted from when this is made. learning_rate: at its highest. A
    run that goes on from a checkpoint has its own `seconds` for what is left, and takes up the share of the checkpoint.
    """

    def __init__(self, seconds, learning_rate):
        self.seconds, self.learning_rate = seconds, learning_rate
        self.made, self.began, self.share = time.monotonic(), None, 0.0
        self.before = 0.0  # share of the rate's way that an earlier run has gone

    def state(self):
        """What the Trainer keeps in a checkpoint."""
        return {
            "args": {"seconds": self.seconds, "learning_rate": self.learning_rate},
            "attributes": {"before": self.share},
        }

    def rate(self):
        """The learning rate at `share` of the time: up, then in a straight line to `LEAST`."""
        return self.learning_rate * min(1.0, self.share / WARM, max(LEAST, 1 - self.share))

    def on_train_begin(self, args, state, control, **_):
        kept = state.stateful_callbacks.get(type(self).__name__, {})
        self.before = kept.get("attributes", {}).get("before", 0.0)
        self.began, self.share, self.first = None, self.before, state.global_step + FIRST

    def on_step_begin(self, args, state, control, optimizer=None, **_):
        now = time.monotonic()
        if state.global_step >= self.first:
            self.began = self.began or now
            left = self.seconds - (self.began - self.made)
            gone = (now - self.began) / left if left > 0 else 1.0
            self.share = self.before + (1 - self.before) * min(1.0, gone)
        for group in optimizer.param_groups:
            group["lr"] = self.rate() if state.global_step >= self.first else 1e-3 * self.learning_rate

    def on_step_end(self, args, state, control, **_):
        if self.share >= 1 or time.monotonic() - self.made >= self.seconds:
            control.should_training_stop = control.should_evaluate = control.should_save = True

    def on_log(self, args, state, control, **_):
        if "learning_rate" in state.log_history[-1]:  # the Trainer's own knows nothing of the clock
            state.log_history[-1]["learning_rate"] = self.rate()


def train(module, data, val, out, steps, learning_rate, batch_size, decay, workers, every, muon=False, clock=None):
    """Run one stage through transformers' Trainer, from its last checkpoint where there is one; `data` gives mixtures,
    or whole batches. clock: a `ByTheClock` that sets the rate and the end in place of `steps` and `decay`.
    """
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments, default_data_collator
    from transformers.trainer_utils import get_last_checkpoint

    class InOrder(Trainer):
        def _get_train_sampler(self, *args, **kwargs):  # items are already random; their order makes a resume exact
            return SequentialSampler(self.train_dataset)

        def create_optimizer(self, *args, **kwargs):
            if muon and self.optimizer is None:
                self.optimizer = Muon(self.model.parameters(), self.args.learning_rate, self.args.weight_decay)
            return super().create_optimizer(*args, **kwargs)

        def evaluate(self, *args, **kwargs):
            with torch.compiler.set_stance(
                "eager_on_recompile"
            ):  # mixtures of another length, not often enough to pay for that
                return super().evaluate(*args, **kwargs)

    whole = isinstance(data, MixtureBatches)
    gpu, learning_rate = (
        torch.cuda.is_available(),
        learning_rate * int(os.environ.get("WORLD_SIZE", 1)) ** 0.5,
    )  # a batch as many times larger
    torch.set_flush_denormal(True)  # as `lib.training.fit`
    torch.backends.cudnn.benchmark = True  # all batches are of one shape
    if gpu:
        torch.set_float32_matmul_precision(
            "high"
        )  # for Muon's products; of the model only what bfloat16 does in any case
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=1 if whole else batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=min(300, steps // 10),
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="constant" if clock else "warmup_stable_decay",
        lr_scheduler_kwargs=None if clock else {"num_decay_steps": int(decay * steps), "min_lr_ratio": 0.01},
        bf16=pick_precision("auto", torch.device("cuda" if gpu else "cpu")) == "bf16",
        use_cpu=not gpu,
        eval_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=2,
        logging_steps=min(every, 100) if clock else every,
        logging_first_step=True,
        dataloader_num_workers=0 if whole else workers,
        dataloader_persistent_workers=workers > 0 and not whole,
        dataloader_pin_memory=gpu and not whole,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["target"],
        seed=0,
        ddp_backend="gloo" if "RANK" in os.environ and not gpu else None,
        ddp_find_unused_parameters=False,
    )
    trainer = InOrder(
        model=module,
        args=arguments,
        train_dataset=data,
        eval_dataset=val,
        data_collator=lambda items: items[0] if torch.is_tensor(items[0]["mix"]) else default_data_collator(items),
        compute_metrics=lambda p: {"score": float(np.mean(p.predictions))},
        callbacks=[clock] if clock else None,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    (out / "history.json").write_text(json.dumps(trainer.state.log_history, indent=1))
    return trainer.state.log_history
