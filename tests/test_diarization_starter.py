"""The committed starter of chapter 4: small, complete, and able to do on a real recording what chance is not."""
from pathlib import Path

import numpy as np

from lib import diarization, diarization_models as models
from lib.data import protocols

FOLDER = Path(__file__).resolve().parent.parent / "pretrained" / "diarization"


def test_it_is_small_and_has_its_card_and_thresholds():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2e6
    assert {"README.md", "config.json", "history.csv", "model.safetensors", "pipeline.json"} <= {path.name for path in FOLDER.iterdir()}
    parameters = diarization.defaults(models.STARTER)
    low, high = diarization.SEARCH["threshold"]
    assert 0 < parameters["segmentation"]["threshold"] < 1 and low <= parameters["clustering"]["threshold"] <= high


def test_it_finds_the_speech_of_a_real_conversation():
    real = protocols.real_sample()
    made = diarization.pipeline(models.load(), parameters=diarization.defaults())
    row = diarization.score(diarization.apply(made, real), real)
    assert row["missed detection"] + row["false alarm"] < 0.35  # all of it as speech would be a false alarm of 0.23 and overlap missed
    assert 1 <= row["found"] <= 3 and np.isfinite(row["DER"])
