"""The network that chapter 4 trains: pyannote's PyanNet, faster on processors that multiply bfloat16 fast."""

import os
import warnings

from lib import extras  # lib makes torchaudio importable, which pyannote wants

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "false")  # nothing is sent anywhere
with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchcodec without FFmpeg
    from pyannote.audio.models.blocks.sincnet import SincNet
    from pyannote.audio.models.segmentation import PyanNet

import torch

from lib.models.precision import bf16_is_faster


class Segmenter(PyanNet):
    """pyannote's PyanNet with its recurrent layers in bfloat16 where that pays (`lib.models.precision`).

    Its filters stay in float32, since they round too coarsely in bfloat16, and so does its sigmoid: near 1,
    bfloat16 knows no number but 1.
    """

    def build(self):
        super().build()
        self.sincnet.__class__ = _Filters  # an __init__ of our own would change what pyannote notes as settings

    def forward(self, waveforms):
        """`(batch, 1, samples)` -> probabilities `(batch, frames, speakers)`, float32."""
        with torch.autocast(waveforms.device.type, torch.bfloat16, enabled=bf16_is_faster(waveforms.device)):
            return super().forward(waveforms)

    def default_activation(self):
        return _Sigmoid()


class _Filters(SincNet):
    def forward(self, waveforms):
        with torch.autocast(waveforms.device.type, enabled=False):
            return super().forward(waveforms)


class _Sigmoid(torch.nn.Sigmoid):
    def forward(self, x):
        return super().forward(x.float())
