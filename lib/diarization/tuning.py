"""A pipeline's thresholds, chosen on dev by pyannote.pipeline's optimizer, in two stages that can be gone on with."""

import warnings
from pathlib import Path

from lib import extras, runs
from lib.diarization.pipeline import LINKAGE, UNTUNED, Diarizer

with extras(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyannote.pipeline import Optimizer
    from pyannote.pipeline.parameter import Uniform

SEARCH = (1.3, 2.5)  # where tuning looks: around what Val chose for each encoder (results/04_encoders.csv)


def tune(
    segmentation, files, out, encoder="resemblyzer", step=0.2, trials=(12, 16), seed=0, start=UNTUNED, progress=True
):
    """Choose the pipeline's thresholds on `files` (dev, never test) in two stages; returns the parameters, and writes
    `out`/tuned.json.

    Stage 1: the segmentation threshold, with clustering taken from the reference (an oracle), so that only the
    segmentation counts.
    Stage 2: the clustering threshold, with stage 1's result fixed. The least cluster size stays that of `start`: a few
    minutes of dev are too little to choose two numbers that stand in for each other. pyannote.pipeline's optimizer
    (Optuna's TPE) keeps its trials in `out`; an interrupted tuning goes on there, a finished one is read. A model
    without a threshold of its own (powerset) is tuned on the pause to bridge (min_duration_off) instead. start: the
    parameters of each stage's first trial.
    """
    from tqdm.auto import tqdm

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    asked = {
        "encoder": encoder,
        "step": step,
        "trials": list(trials),
        "seed": seed,
        "files": [file["uri"] for file in files],
        "model": f"{runs.fingerprint(segmentation):08x}",
    }
    earlier = runs.read_json(out / "tuned.json") if (out / "tuned.json").is_file() else None
    if earlier and earlier["asked"] != asked:
        raise runs.RunError(
            f"{out}: another tuning is there already (other model, files or settings). Choose another folder, or delete"
            " this one."
        )
    if earlier and earlier["finished"]:
        return earlier["parameters"]
    runs.write_json(out / "tuned.json", {"asked": asked, "finished": False})
    powerset = segmentation.specifications.powerset
    with tqdm(total=sum(trials), desc="tuning", unit="trial", disable=not progress) as bar:
        first = Diarizer(segmentation, step=step, clustering="OracleClustering")
        first.freeze({"segmentation": {} if powerset else {"min_duration_off": 0.0}})
        name = "min_duration_off" if powerset else "threshold"
        oracle = _stage(
            first,
            files,
            out / "segmentation.journal",
            trials[0],
            seed,
            {"segmentation": {name: start["segmentation"][name]}},
            bar,
        )
        second = Diarizer(segmentation, encoder, step)
        low, high = SEARCH
        second.clustering.threshold = Uniform(low, high)
        fixed = {"min_duration_off": 0.0, **oracle["params"]["segmentation"]}
        kept = {"method": LINKAGE, "min_cluster_size": start["clustering"]["min_cluster_size"]}
        second.freeze({"segmentation": fixed, "clustering": kept})
        begin = {"clustering": {"threshold": min(max(start["clustering"]["threshold"], low), high)}}
        clustering = _stage(second, files, out / "clustering.journal", trials[1], seed, begin, bar)
    parameters = {"segmentation": fixed, "clustering": {**kept, **clustering["params"]["clustering"]}}
    runs.write_json(
        out / "tuned.json",
        {
            "asked": asked,
            "finished": True,
            "parameters": parameters,
            "dev_der_oracle_clustering": oracle["loss"],
            "dev_der": clustering["loss"],
            **runs.describe(),
        },
    )
    return parameters


def _stage(made, files, journal, trials, seed, start, bar):
    """Bring a study to `trials` trials, the first of them at `start`; returns its best loss and parameters. What is
    cached in files is dropped.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = Optimizer(made, db=journal, study_name=journal.stem, seed=seed)
        done = len(optimizer.study_.trials)
        bar.update(min(done, trials))
        best = {"loss": optimizer.best_loss, "params": optimizer.best_params} if done else None
        each = optimizer.tune_iter(files, warm_start=None if done else start, show_progress=False)
        for _ in range(done, trials):
            best = next(each)
            bar.set_postfix_str(f"{journal.stem}, DER on dev {best['loss']:.3f}")
            bar.update()
    for file in files:
        for name in ("training_cache/segmentation", "training_cache/embeddings", "oracle_segmentations"):
            file.pop(name, None)
    return best
