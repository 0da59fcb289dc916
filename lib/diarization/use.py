"""From who spoke when to hearing one of them: each speaker's voice cut out, and the cleanest seconds as an enrollment
for extraction.

Waves are float32 `(samples,)` at 16 kHz; annotations are pyannote's.
"""

import numpy as np

from lib.diarization.pipeline import DiarizationError
from lib.diarization.second_look import stretches_alone

SR = 16000


def alone(annotation, speaker):
    """The stretches `(start, end)` in which `speaker` and nobody else talks, longest first."""
    if speaker not in annotation.labels():
        raise DiarizationError(
            f"{speaker}: nobody of that name was found; there are"
            f" {', '.join(map(str, annotation.labels())) or 'no speakers'}."
        )
    return stretches_alone(annotation, speaker)


def cut_out(wave, annotation, sr=SR, seconds=8.0):
    """speaker -> what they say when they talk alone, up to `seconds`, in order of time; who never does is left out."""
    out = {}
    for speaker in annotation.labels():
        chosen, length = [], 0.0
        for start, end in alone(annotation, speaker):
            if length >= seconds:
                break
            chosen.append((start, min(end, start + seconds - length)))
            length += chosen[-1][1] - chosen[-1][0]
        if chosen:
            out[speaker] = np.concatenate([wave[round(start * sr) : round(end * sr)] for start, end in sorted(chosen)])
    return out


def enrollment(wave, annotation, speaker, seconds=4.0, margin=0.1, sr=SR):
    """The cleanest seconds of `speaker`: their longest stretches alone, `margin` s from any border. Returns (wave,
    stretches).

    Raises `DiarizationError` where there is under a second of that.
    """
    chosen, length = [], 0.0
    for start, end in alone(annotation, speaker):
        start, end = start + margin, min(end - margin, start + margin + seconds - length)
        if end - start < 0.25 or length >= seconds:
            break
        chosen.append((start, end))
        length += end - start
    if length < 1.0:
        raise DiarizationError(
            f"{speaker}: only {length:.1f} s alone, and an enrollment needs 1 s or more (4 are better). Choose another"
            " speaker."
        )
    return np.concatenate([wave[round(start * sr) : round(end * sr)] for start, end in chosen]), chosen


def overlapped(annotation, speaker, seconds=5.0, end=None):
    """Where a window of `seconds` has most overlap with `speaker` in it: its (start, end). Raises `DiarizationError`
    where there is none.
    """
    shared = [
        (segment.start, segment.end)
        for segment in annotation.get_overlap()
        if annotation.label_timeline(speaker).crop(segment)
    ]
    if not shared:
        raise DiarizationError(
            f"{speaker} never talks at the same time as somebody else here, so there is nothing to extract."
        )
    starts = [min(max(0.0, first - 0.5), (end or np.inf) - seconds) for first, _ in shared]
    amount = [
        sum(max(0.0, min(last, start + seconds) - max(first, start)) for first, last in shared) for start in starts
    ]
    best = starts[int(np.argmax(amount))]
    return best, best + seconds
