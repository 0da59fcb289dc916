"""Where the errors of a diarization come from, on Val people: segmentation, clustering, or the number of people.

    python -m lib.pretraining.diarization_errors OUT --model pretrained/diarization

12 studio conversations and 12 meetings. The pipeline as it is; with the number of people given; with the clustering
taken from the reference; and the other way round, the segmentation taken from the reference, so that only the vectors
and their clustering count. Writes `OUT`/errors.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from lib import extras
from lib.data import splits, voices
from lib.diarization import conversations, models, pipeline, protocols, scores, styles

with extras():
    from pyannote.audio.pipelines.utils import oracle_segmentation
    from pyannote.core import SlidingWindow

ENCODERS = ("resemblyzer", "xvector")
THRESHOLDS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 3.0)
LEAST = 4  # vectors in a cluster
WINDOW, HOP = 5.0, 1.0  # s, where the segmentation is the reference's


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=models.STARTER)
    known = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table, rows = splits.split_by_speaker(voices.load("debian")), []
    model, parameters = models.load(known.model), pipeline.defaults(known.model)
    for style in (styles.STUDIO, styles.MEETING):
        root = known.out / f"val_{style.name}"
        conversations.build(table, root, style, {"dev": 12}, seed=4, progress=False)
        for what, values in measure(model, parameters, protocols.files(root, "dev")):
            rows.append({"style": style.name, "what": what, **values})
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(known.out / "errors.csv", index=False, float_format="%.3f")


def measure(model, parameters, files):
    """Yields (what, values) for each row of the table."""
    oracle = pipeline.Diarizer(model, clustering="OracleClustering")
    oracle.instantiate({"segmentation": parameters["segmentation"]})
    found = [oracle(dict(file)).crop(pipeline.Segment(0, _seconds(file))) for file in files]
    yield "clustering from the reference", _scores(found, files)
    for kind in ENCODERS:
        made = pipeline.pipeline(model, kind, parameters)
        yield f"{kind}, as it is", _scores([pipeline.apply(made, file) for file in files], files)
        found = [pipeline.apply(made, file, len(file["annotation"].labels())) for file in files]
        yield f"{kind}, number of people given", _scores(found, files)
    for kind in ENCODERS:
        yield f"{kind}, segmentation from the reference", clustering_alone(model, kind, parameters, files)


def _seconds(file):
    return file["waveform"].shape[1] / file["sample_rate"]


def _scores(found, files):
    table = pd.DataFrame([scores.score(one, file) for one, file in zip(found, files)])
    total = scores.summary(table, draws=2)
    too_many = float((table["found"] - table["people"]).mean())
    return {**{name: total[name] for name in ("DER", *scores.PARTS)}, "people too many": too_many}


def clustering_alone(model, kind, parameters, files):
    """The share of the speech that lies in the wrong cluster where each window's people are the true ones, at the best
    of `THRESHOLDS`.
    """
    made, cut = pipeline.pipeline(model, kind, parameters), []
    field = model.receptive_field
    frames, window = SlidingWindow(start=0, step=field.step, duration=field.duration), SlidingWindow(WINDOW, HOP, 0)
    for file in files:
        truth = oracle_segmentation(file, window, frames=frames)
        plain = {name: file[name] for name in ("uri", "waveform", "sample_rate")}
        cut.append((truth, made.get_embeddings(plain, truth, exclude_overlap=True)))
    tried = []
    for threshold in THRESHOLDS:
        settings = {"method": pipeline.LINKAGE, "threshold": threshold, "min_cluster_size": LEAST}
        made.instantiate({"segmentation": parameters["segmentation"], "clustering": settings})
        wrong, more = zip(*(_wrong(made.clustering, truth, vectors) for truth, vectors in cut))
        tried.append((float(np.mean(wrong)), threshold, float(np.mean(more))))
    wrong, threshold, more = min(tried)
    return {"confusion": wrong, "people too many": more, "threshold": threshold}


def _wrong(clustering, truth, vectors):
    """(share of the speech in the wrong cluster, clusters too many) of one recording."""
    hard, *_ = clustering(
        embeddings=vectors.copy(), segmentations=truth, num_clusters=None, min_clusters=1, max_clusters=20
    )
    active = truth.data.sum(1)  # (windows, people)
    hard[active == 0] = -2
    shared = np.array(
        [[active[:, p][hard[:, p] == k].sum() for k in range(hard.max() + 1)] for p in range(active.shape[1])]
    )
    people, clusters = linear_sum_assignment(-shared)
    return 1 - shared[people, clusters].sum() / shared.sum(), shared.shape[1] - shared.shape[0]


if __name__ == "__main__":
    main()
