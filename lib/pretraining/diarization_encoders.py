"""Which speaker encoder's vectors to cluster, and where the errors come from: measured on Val conversations.

    python -m lib.pretraining.diarization OUT --encoders pretrained/diarization

Every encoder gets thresholds of its own from one grid, behind the same segmentation; writes `OUT`/encoders.csv.
"""

import itertools

import numpy as np
import pandas as pd

from lib.diarization import models, pipeline, scores
from lib.diarization.encoders import ENCODERS
from lib.diarization.second_look import again

THRESHOLDS = (1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5)
SIZES = (8,)  # least cluster
CACHE = "training_cache/embeddings"


def compare(source, files, out):
    """A row an encoder at its best thresholds: DER and its parts, the same with a second look. Prints as it goes, and
    returns encoder -> the clustering's thresholds.
    """
    model, segmentation = models.load(source), pipeline.defaults(source)["segmentation"]
    vectors, rows, chosen = {}, [], {}
    print("perfect clustering:", row_of(_oracle(model, files, segmentation), files), flush=True)
    for kind in ENCODERS:
        made = pipeline.Diarizer(model, "resemblyzer" if kind == "both" else kind)
        made.training = True  # keeps what was computed in each file
        for number, file in enumerate(files):
            file.pop(CACHE, None)
            if kind == "both":
                joint = np.concatenate([vectors[name, number] for name in ("resemblyzer", "xvector")], axis=2)
                file[CACHE] = {"embeddings": joint, "segmentation.threshold": segmentation.get("threshold")}
        tried = []
        for threshold, size in itertools.product(THRESHOLDS, SIZES):
            settings = {"method": pipeline.LINKAGE, "threshold": threshold, "min_cluster_size": size}
            made.instantiate(pipeline._fitting(made, {"segmentation": segmentation, "clustering": settings}))
            found = [applied(made, file) for file in files]
            tried.append((row_of(found, files), threshold, size, found))
            print(kind, threshold, size, round(tried[-1][0]["DER"], 4), flush=True)
        best = min(tried, key=lambda one: one[0]["DER"])
        vectors |= {(kind, number): file[CACHE]["embeddings"] for number, file in enumerate(files)}
        chosen[kind] = {"method": pipeline.LINKAGE, "threshold": best[1], "min_cluster_size": best[2]}
        encoder = pipeline._encoder(kind)
        seen = [again(one, file["waveform"][0], encoder) for one, file in zip(best[3], files)]
        looked = row_of(seen, files)
        row = {"encoder": kind, **best[0], "DER with a second look": looked["DER"]}
        rows.append({**row, "threshold": best[1], "least cluster": best[2]})
        print(rows[-1], "second look:", looked, flush=True)
        out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(out / "encoders.csv", index=False, float_format="%.3f")
    return chosen


def _oracle(model, files, segmentation):
    made = pipeline.Diarizer(model, clustering="OracleClustering")
    made.training = True
    made.instantiate(pipeline._fitting(made, {"segmentation": segmentation}))
    return [applied(made, file) for file in files]


def applied(made, file):
    seconds = file["waveform"].shape[1] / file["sample_rate"]
    return made(file).crop(pipeline.Segment(0, seconds)).support()


def row_of(found, files):
    table = pd.DataFrame([scores.score(one, file) for one, file in zip(found, files)])
    total, style = scores.summary(table, draws=2), table["file"].str.split("_").str[0]
    return {
        **{name: total[name] for name in ("DER", *scores.PARTS)},
        **{name: scores.summary(table[style == name], draws=2)["DER"] for name in sorted(set(style))},
        "too many": float((table["found"] - table["people"]).mean()),
    }
