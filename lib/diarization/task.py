"""pyannote's segmentation task as chapter 4 fine-tunes by it: its windows, its losses and what validation measures."""

import os
import warnings
from pathlib import Path
from typing import ClassVar

import torch

from lib import extras
from lib.diarization import protocols

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.tasks import SpeakerDiarization
    from pyannote.audio.torchmetrics import (
        OptimalDiarizationErrorRate,
        OptimalDiarizationErrorRateThreshold,
        OptimalFalseAlarmRate,
        OptimalMissedDetectionRate,
        OptimalSpeakerConfusionRate,
    )
    from pyannote.audio.utils.permutation import permutate


class Segmentation(SpeakerDiarization):
    """pyannote's task with waves in memory, both losses in train and validation, and one threshold for all of
    validation.

    Works for models that answer in one probability a speaker (the starter) and in sets of speakers ("powerset",
    segmentation-3.0).
    """

    waves: ClassVar = {}  # (path, date) -> (1, samples): shared by all tasks, so that a study reads a file once

    def __init__(self, protocol, specifications, **settings):
        super().__init__(
            protocol,
            duration=specifications.duration,
            max_speakers_per_chunk=len(specifications.classes),
            max_speakers_per_frame=specifications.powerset_max_classes or 2,
            num_workers=0,
            **settings,
        )
        self.wanted = specifications

    def get_file(self, file_id):
        path = str(self.prepared_data["audio-path"][file_id])
        key = path, os.stat(path).st_mtime_ns
        if key not in self.waves:
            # pyannote refuses a window that ends with the wave's last sample, so one more is appended
            self.waves[key] = torch.nn.functional.pad(protocols.waveform(path), (0, 1))
        return {"waveform": self.waves[key], "sample_rate": protocols.SR, "uri": Path(path).stem}

    def setup(self, stage=None):
        super().setup(stage)
        if not self.wanted.powerset:
            self.specifications = Specifications(
                problem=Problem.MULTI_LABEL_CLASSIFICATION,
                resolution=Resolution.FRAME,
                duration=self.duration,
                min_duration=self.duration,
                classes=self.wanted.classes,
                permutation_invariant=True,
            )

    def setup_loss_func(self):
        if self.wanted.powerset:
            super().setup_loss_func()

    def losses(self, windows, target):
        """-> (segmentation loss, vad loss, probabilities `(batch, frames, speakers)`, both losses in nats a frame)."""
        answer = self.model(windows)
        anybody = target.any(-1).float()
        if self.wanted.powerset:
            chances = self.model.powerset.to_multilabel(answer, soft=True)
            fitted, _ = permutate(self.model.powerset.to_multilabel(answer), target)
            classes = self.model.powerset.to_powerset(fitted.float()).argmax(-1)
            segmentation = torch.nn.functional.nll_loss(answer.flatten(0, 1), classes.flatten())
            talking = 1 - answer[..., 0].exp()
        else:
            chances = answer
            fitted, _ = permutate(answer, target)
            segmentation = torch.nn.functional.binary_cross_entropy(answer, fitted.float())
            talking = answer.amax(-1)
        return segmentation, torch.nn.functional.binary_cross_entropy(talking.clamp(1e-6, 1 - 1e-6), anybody), chances

    def _log(self, stage, segmentation, vad, windows):
        for name, value in (("/segmentation", segmentation), ("/vad", vad), ("", segmentation + vad)):
            self.model.log(f"loss/{stage}{name}", value.detach(), on_step=False, on_epoch=True, batch_size=windows)

    def training_step(self, batch, batch_idx):
        segmentation, vad, _ = self.losses(batch["X"], batch["y"])
        self._log("train", segmentation, vad, len(batch["X"]))
        return {"loss": segmentation + vad}

    def validation_step(self, batch, batch_idx):
        segmentation, vad, chances = self.losses(batch["X"], batch["y"])
        self._log("val", segmentation, vad, len(batch["X"]))
        self.model.validation_metric.update(chances.transpose(1, 2), batch["y"].transpose(1, 2))
        self.model.log_dict(self.model.validation_metric, on_step=False, on_epoch=True, batch_size=len(batch["X"]))

    def default_metric(self):
        return {
            "DER": OptimalDiarizationErrorRate(),
            "Confusion": OptimalSpeakerConfusionRate(),
            "FalseAlarm": OptimalFalseAlarmRate(),
            "Miss": OptimalMissedDetectionRate(),
            "Threshold": OptimalDiarizationErrorRateThreshold(),
        }
