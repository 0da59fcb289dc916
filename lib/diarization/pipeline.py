"""Who spoke when in a whole recording: pyannote's pipeline with what is at hand offline.

A segmentation model tells up to three people apart inside each window; a speaker encoder gives each of them a vector;
clustering says which vectors are one person; the windows are put together. Times in seconds. `scores.py` says how good
it is, `tuning.py` finds its thresholds.
"""

import functools
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from lib import audio, extras, runs
from lib.diarization import models
from lib.diarization.encoders import ENCODERS, Voiceprint
from lib.diarization.second_look import again
from lib.runs import place

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.audio.core.plda import PLDA
    from pyannote.audio.pipelines import SpeakerDiarization
    from pyannote.audio.pipelines.clustering import AgglomerativeClustering
    from pyannote.core import Annotation, Segment

SR = 16000
LINKAGE = "ward"  # on Val better than the average of cosine distances by three points (results/04_linkage.csv)
USUAL = 80  # vectors in a minute of talk, with windows of 5 s and a step of 0.2
# the middle for the segmentation; for the clustering a distance that suits Resemblyzer's vectors
UNTUNED = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"method": LINKAGE, "threshold": 1.8, "min_cluster_size": 8},
}
VBX = {  # pyannote's own, for its community-1 pipeline
    "segmentation": UNTUNED["segmentation"],
    "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
}
SECOND_LOOK = True  # on Val a point better with the x-vector, and no better with Resemblyzer (results/04_encoders.csv)
SILENT_DB = -70.0


class DiarizationError(ValueError):
    """A recording or a setting cannot be used; the message says what to do."""


class Clustering(AgglomerativeClustering):
    """pyannote's own, with a threshold for Ward's linkage that grows with the recording.

    Ward's distance of two people grows with the root of how many vectors each has. So does the threshold, beyond the
    `USUAL` vectors of a minute; else a long talk would fall into more people than there are.
    """

    def cluster(self, embeddings, *arguments, **settings):
        held = self.threshold
        if self.method == "ward":
            self.threshold = held * max(1.0, len(embeddings) / USUAL) ** 0.5
        try:
            return super().cluster(embeddings, *arguments, **settings)
        finally:
            self.threshold = held


class Diarizer(SpeakerDiarization):
    """pyannote's own pipeline.

    Agglomerative without a PLDA, which would be a download, VBx with one; and its oracle clustering works again (4.0.7
    asks it for vectors). second_look: see `lib.diarization.second_look`.
    """

    def __init__(
        self,
        segmentation,
        encoder="resemblyzer",
        step=0.2,
        clustering="AgglomerativeClustering",
        plda=None,
        second_look=False,
    ):
        oracle = clustering == "OracleClustering"
        given = None if oracle else _encoder(encoder)
        self.second_look = second_look and isinstance(given, Voiceprint)  # others' encoders take no list of waves
        super().__init__(
            legacy=True,
            segmentation=segmentation,
            segmentation_step=step,
            segmentation_batch_size=32,
            embedding=given,
            embedding_exclude_overlap=True,
            embedding_batch_size=24,
            clustering=clustering,
            plda=plda or PLDA.__new__(PLDA),
        )
        if clustering == "AgglomerativeClustering":
            self.clustering = Clustering(metric="cosine")
        if oracle:
            self._embedding = SimpleNamespace(dimension=0)  # looked at where nobody speaks

    def get_embeddings(self, *arguments, **settings):
        return None if self.klustering == "OracleClustering" else super().get_embeddings(*arguments, **settings)


@functools.cache
def _encoder(kind):
    """An offline encoder by name; a path, a hub id or pyannote's dict of one is left to pyannote."""
    return Voiceprint(kind) if isinstance(kind, str) and "/" not in kind and not place(kind).exists() else kind


def pipeline(segmentation, encoder="resemblyzer", parameters=None, step=0.2, plda=None, second_look=SECOND_LOOK):
    """pyannote's diarization pipeline on a segmentation model and a speaker encoder, with `parameters` (default
    `UNTUNED`, or `VBX` with a PLDA).

    encoder: a name of `lib.diarization.encoders`, or a path or hub id of pyannote's. step: how far the window moves, as
    a share of its length; smaller is finer and slower. plda: a folder or hub id of a PLDA that was made for this very
    encoder; the clustering is VBx then (Landini et al., Computer Speech and Language 71, 2022). second_look: whether
    stretches of one person alone are compared once more with everybody's mean voice.
    """
    kind = "AgglomerativeClustering"
    if plda:
        if isinstance(encoder, str) and encoder in ENCODERS:
            raise DiarizationError(
                f"a PLDA belongs to the encoder that it was made with, and none was made for {encoder}. Name pyannote's"
                " encoder too, for example encoder=plda='pyannote/speaker-diarization-community-1'."
            )
        kind = "VBxClustering"
        plda, encoder = _part(plda, "plda"), _part(encoder, "embedding")
    made = Diarizer(segmentation, encoder, step, kind, plda, second_look and not plda)
    return made.instantiate(_fitting(made, parameters or (VBX if plda else UNTUNED)))


def _part(source, subfolder):
    """pyannote's name of a part of a pipeline: a folder of this machine as it is, a hub id with its subfolder."""
    if isinstance(source, str) and not place(source).exists():
        return {"checkpoint": source, "subfolder": subfolder}
    return str(place(source)) if isinstance(source, str) else source


def defaults(source=models.STARTER):
    """The thresholds that come with a model's folder (pipeline.json), else `UNTUNED`."""
    path = place(source) / "pipeline.json"
    return runs.read_json(path) if path.is_file() else UNTUNED


def _fitting(made, parameters):
    """Models that answer in sets of speakers have no segmentation threshold."""
    known = set(made.segmentation._parameters) if hasattr(made.segmentation, "_parameters") else set()
    segmentation = {name: value for name, value in parameters["segmentation"].items() if name in known or not known}
    if made._segmentation.model.specifications.powerset:
        segmentation.pop("threshold", None)
    return {**parameters, "segmentation": segmentation}


def diarize(made, recording, sr=SR, num_speakers=None):
    """Who speaks when in a file or a wave as `audio.mono` takes it: a pyannote `Annotation`. The number of people is
    found, or given.

    Silence gives an empty annotation and a warning; a recording shorter than the model's window is padded, with a
    warning. Raises
    `DiarizationError` for an impossible number of people, `AudioError` for a file that cannot be read.
    """
    if num_speakers is not None and (
        isinstance(num_speakers, bool) or not isinstance(num_speakers, (int, np.integer)) or num_speakers < 1
    ):
        raise DiarizationError(
            f"num_speakers is {num_speakers!r}; give a whole number from 1 on, or None to have the number found."
        )
    named = isinstance(recording, (str, Path))
    uri = Path(recording).stem if named else "recording"
    wave = audio.read(recording, SR) if named else np.zeros(0, np.float32)
    if not named and np.size(recording):
        wave = audio.resample(audio.mono(recording, "the recording"), sr, SR)
    if not wave.size or audio.rms_db(wave) < SILENT_DB:
        warnings.warn(
            f"{uri}: silent ({audio.rms_db(wave) if wave.size else audio.SILENCE_DB:.0f} dBFS), so nobody speaks. Was"
            " the microphone on?",
            stacklevel=2,
        )
        return Annotation(uri=uri)
    window = made._segmentation.model.specifications.duration
    if len(wave) < window * SR:
        warnings.warn(
            f"{uri}: {len(wave) / SR:.1f} s is shorter than the model's window of {window:g} s; silence is appended,"
            " and people are hard to tell apart in so little.",
            stacklevel=2,
        )
    return apply(
        made,
        {"uri": uri, "waveform": torch.from_numpy(np.ascontiguousarray(wave))[None], "sample_rate": SR},
        num_speakers,
    )


def apply(made, file, num_speakers=None):
    """The pipeline's annotation of one of pyannote's files, within the file's length.

    The reference, where there is one, is not looked at.
    """
    seconds = file["waveform"].shape[1] / file["sample_rate"]
    plain = {name: file[name] for name in ("uri", "waveform", "sample_rate")}
    if seconds < (window := made._segmentation.model.specifications.duration):
        plain["waveform"] = torch.nn.functional.pad(plain["waveform"], (0, int((window - seconds) * SR) + 1))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        found = made(plain, num_speakers=num_speakers).crop(Segment(0, seconds)).support()
        return again(found, plain["waveform"][0], _encoder(made.embedding.kind)) if made.second_look else found
