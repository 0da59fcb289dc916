"""A second look at who is whom: the stretches in which one person talks alone, compared with everybody's mean voice.

The clustering decides window by window, and a window in which the segmentation took two people for one misleads it.
Once the whole recording is put together, each stretch alone has a vector of its own. It goes to the person whose other
stretches it is most like, as in k-means.
"""

import numpy as np
import torch

SR = 16000
LEAST = 0.8  # s a stretch needs for its vector to say something
ROUNDS = 5
MARGIN = 0.03  # by which another person must be more alike


def stretches_alone(annotation, speaker):
    """The stretches `(start, end)` in which `speaker` and nobody else talks, longest first."""
    own = annotation.label_timeline(speaker).support()
    others = annotation.subset([speaker], invert=True).get_timeline().support()
    stretches = [part for segment in own for part in others.gaps(support=segment)] if others else list(own)
    return [(part.start, part.end) for part in sorted(stretches, key=lambda part: -part.duration)]


def again(annotation, wave, encoder, least=LEAST, margin=MARGIN):
    """`annotation` (pyannote's) with stretches given to the person they fit best; who speaks when stays the same.

    wave: `(samples,)` at 16 kHz. encoder: a `Voiceprint`.
    """
    parts = [
        (start, end, name)
        for name in annotation.labels()
        for start, end in stretches_alone(annotation, name)
        if end - start >= least
    ]
    names = sorted({name for *_, name in parts}, key=str)
    if len(names) < 2:
        return annotation
    wave = torch.as_tensor(np.asarray(wave), dtype=torch.float32)
    vectors = encoder.vectors([wave[round(start * SR) : round(end * SR)] for start, end, _ in parts]).numpy()
    lengths = np.array([min(end - start, 4.0) for start, end, _ in parts])
    now = regroup(vectors, lengths, np.array([names.index(name) for *_, name in parts]), margin)
    return _moved(annotation, [(*part[:2], part[2], names[k]) for part, k in zip(parts, now) if names[k] != part[2]])


def regroup(vectors, lengths, labels, margin=MARGIN, rounds=ROUNDS):
    """Labels `(stretches,)` after `rounds` of moving each of `vectors` `(stretches, dim)`, of length 1, to the mean it
    is most like; its own share in its mean does not count, and nobody's last stretch is taken.
    """
    labels, weighted = labels.copy(), vectors * lengths[:, None]
    for _ in range(rounds):
        before = labels.copy()
        sums = np.stack([weighted[labels == k].sum(0) for k in range(labels.max() + 1)])
        likeness = np.full((len(labels), len(sums)), -1.0)
        for k, total in enumerate(sums):
            others = total - weighted * (labels == k)[:, None]
            norm = np.linalg.norm(others, axis=1)
            likeness[:, k] = np.where(norm > 1e-6, (vectors * others).sum(1) / np.maximum(norm, 1e-6), -1.0)
        best = likeness.argmax(1)
        own = likeness[np.arange(len(labels)), labels]
        moves = (likeness.max(1) > own + margin) & (own > -1.0)
        labels = np.where(moves, best, labels)
        if np.array_equal(labels, before):
            break
    return labels


def _moved(annotation, moves):
    """`annotation` with each (start, end, from, to) of `moves` given from one to the other."""
    from pyannote.core import Annotation, Segment, Timeline

    out = Annotation(uri=annotation.uri)
    for name in annotation.labels():
        kept = annotation.label_timeline(name).support()
        gone = Timeline([Segment(start, end) for start, end, old, _ in moves if old == name]).support()
        for segment in kept:
            for number, part in enumerate(gone.gaps(support=segment) if gone else [segment]):
                out[part, f"{name} {segment.start:.3f} {number}"] = name
    for start, end, _, new in moves:
        out[Segment(start, end), f"{new} {start:.3f} moved"] = new
    return out.support()
