"""Speaker encoders that are at hand offline, in the form pyannote's diarization pipeline takes: wave and mask in, one
vector out.

Waves are float32 `(batch, 1, samples)` at 16 kHz; a mask `(batch, frames)` says in which frames of the window the
person speaks.
"""

import warnings

import torch

import lib.diarization.models  # noqa: F401  (imports pyannote without its remarks and reports)
from lib import backbones, extras, mels
from lib.runs import place

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.audio import Model

SR = 16000
ENCODERS = ("resemblyzer", "xvector")
SHORTEST = 0.4  # s of speech under which a vector says nothing


class EncoderError(ValueError):
    """An encoder does not exist; the message lists those that do."""


class Voiceprint(Model):
    """Only the speech under the mask is heard, so that a window with two people gives two vectors. A silent mask gives
    NaN.

    kind: resemblyzer (a d-vector network, its weights in the package) or xvector (the speaker encoder of chapter 2's
    starter).
    """

    def __init__(self, kind="resemblyzer", starter="pretrained/starter"):
        if kind not in ENCODERS:
            raise EncoderError(f"unknown speaker encoder {kind!r}; known are: {', '.join(ENCODERS)}")
        super().__init__(sample_rate=SR)
        self.kind = kind
        self.backbone = backbones.backbone(kind, str(place(starter)) if kind == "xvector" else "pretrained")
        self.eval()

    @property
    def dimension(self):
        return self.backbone.dim

    @torch.inference_mode()
    def forward(self, waveforms, weights=None):
        """`(batch, 1, samples)`, `(batch, frames)` -> `(batch, dimension)`. Raises ValueError for waves under 0.4 s."""
        if waveforms.shape[-1] < SHORTEST * SR:
            raise ValueError(f"a voice is known by {SHORTEST:g} s or more; got {waveforms.shape[-1] / SR:.2f} s.")
        weights = torch.ones(len(waveforms), 1) if weights is None else weights
        heard = (
            torch.nn.functional.interpolate(weights[:, None].float(), waveforms.shape[-1], mode="nearest")[:, 0] > 0.5
        )
        out = torch.full((len(waveforms), self.dimension), float("nan"))
        active = [k for k in range(len(waveforms)) if heard[k].any()]
        if active:
            out[active] = self._embed([waveforms[k, 0, heard[k]] for k in active])
        return out

    def _embed(self, speech):
        """A list of waves `(samples,)` -> `(len, dimension)`."""
        if self.kind == "xvector":
            least = int(SHORTEST * SR)
            return torch.cat([self.backbone(wave.repeat(-(-least // len(wave)))[None]) for wave in speech])
        windows = [mels.mel_windows(wave[None]) for wave in speech]  # each (1, windows, 160, 40)
        flat = torch.cat(windows, dim=1).transpose(0, 1)
        vectors = backbones.run(self.backbone.stages.values(), flat).split([part.shape[1] for part in windows])
        return torch.stack([torch.nn.functional.normalize(part.mean(0), dim=0) for part in vectors])
