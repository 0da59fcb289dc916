"""The committed starter of chapter 4: small, complete, and able to hear where somebody speaks."""

from pathlib import Path

import numpy as np
import torch
from made_voices import syllables

from lib.diarization import models, pipeline, tuning

FOLDER = Path(__file__).resolve().parents[2] / "pretrained" / "diarization"


def test_it_is_small_and_has_its_card_and_thresholds():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2e6
    assert {"README.md", "config.json", "history.csv", "model.safetensors", "pipeline.json"} <= {
        path.name for path in FOLDER.iterdir()
    }
    parameters = pipeline.defaults(models.STARTER)
    low, high = tuning.SEARCH
    assert 0 < parameters["segmentation"]["threshold"] < 1 and low <= parameters["clustering"]["threshold"] <= high
    assert 2 <= parameters["clustering"]["min_cluster_size"] <= 10


def test_it_hears_where_somebody_speaks():
    wave = np.zeros(80000, np.float32)
    wave[32000:64000] = syllables(np.random.default_rng(0), 140, 2.0)
    with torch.no_grad():
        anybody = models.load()(torch.from_numpy(wave)[None, None])[0].amax(-1).numpy()
    frames = len(anybody)
    assert (
        anybody[int(0.45 * frames) : int(0.75 * frames)].mean() > 0.8
        and anybody[int(0.05 * frames) : int(0.35 * frames)].mean() < 0.3
    )
