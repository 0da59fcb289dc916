"""Speaker encoders that are at hand offline, in the form pyannote's diarization pipeline takes: wave and mask in, one
vector out.

Waves are float32 `(batch, 1, samples)` at 16 kHz; a mask `(batch, frames)` says in which frames of the window the
person speaks.
"""

import warnings

import torch

import lib.diarization.models  # noqa: F401  (imports pyannote without its remarks and reports)
from lib import backbones, extras, mels
from lib.models.precision import bf16_is_faster
from lib.runs import place

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.audio import Model

SR = 16000
ENCODERS = ("resemblyzer", "xvector", "both", "efficientnet_lite0")
SHORTEST = 0.4  # s of speech under which a vector says nothing


class EncoderError(ValueError):
    """An encoder does not exist; the message lists those that do."""


class Voiceprint(Model):
    """Only the speech under the mask is heard, so that a window with two people gives two vectors. A silent mask gives
    NaN.

    kind: resemblyzer (a d-vector network, its weights in the package), xvector (the speaker encoder of chapter 2's
    starter), both (their vectors side by side), or efficientnet_lite0 (a network that learned pictures: the control).
    """

    def __init__(self, kind="resemblyzer", starter="pretrained/starter"):
        if kind not in ENCODERS:
            raise EncoderError(f"unknown speaker encoder {kind!r}; known are: {', '.join(ENCODERS)}")
        super().__init__(sample_rate=SR)
        self.kind = kind
        names = ("resemblyzer", "xvector") if kind == "both" else (kind,)
        self.backbones = torch.nn.ModuleList(
            backbones.backbone(name, str(place(starter)) if name == "xvector" else "pretrained") for name in names
        )
        self.eval()

    @property
    def dimension(self):
        return sum(backbone.dim for backbone in self.backbones)

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
            out[active] = self.vectors([waveforms[k, 0, heard[k]] for k in active])
        return out

    @torch.inference_mode()
    def vectors(self, speech):
        """A list of waves `(samples,)` of any length -> `(len, dimension)`, each network's part of length 1."""
        return torch.cat([_embed(backbone, speech) for backbone in self.backbones], dim=1)


def _embed(backbone, speech):
    if backbone.name == "resemblyzer":
        windows = [mels.mel_windows(wave[None]) for wave in speech]  # each (1, windows, 160, 40)
        flat = torch.cat(windows, dim=1).transpose(0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_faster(torch.device("cpu"))):
            vectors = backbones.run(backbone.stages.values(), flat)
        vectors = vectors.float().split([part.shape[1] for part in windows])
        vectors = torch.stack([part.mean(0) for part in vectors])
    else:
        least = int(SHORTEST * SR)
        vectors = torch.cat([backbone(wave.repeat(-(-least // len(wave)))[None]) for wave in speech])
    return torch.nn.functional.normalize(vectors, dim=1)
