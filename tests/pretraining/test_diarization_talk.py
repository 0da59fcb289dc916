"""What the starter of chapter 4 learns from: free voices, and conversations that go on where they stopped."""

import numpy as np
import pandas as pd
import pytest
from made_voices import make_voices

from lib import audio
from lib.diarization import protocols, styles
from lib.pretraining import diarization_talk as talk


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(talk, "DEV", {styles.STUDIO: 1})
    return make_voices(tmp_path / "voices", train=4, val=4, test=1, recordings=9, seconds=(2.9, 3.1))


def test_conversations_go_on_where_they_stopped_and_dev_is_the_same_whoever_is_in_train(tmp_path, table):
    talk.make(table, tmp_path / "one", {styles.STUDIO: 2}, 10.0, workers=1)
    talk.make(table[table["split"] != "Train"], tmp_path / "other", {}, 10.0, workers=1)
    wavs = [tmp_path / where / "dev/wav/studio_dev_000.wav" for where in ("one", "other")]
    assert wavs[0].read_bytes() == wavs[1].read_bytes()
    assert protocols.uris(tmp_path / "one", "train") == ["studio_train_000", "studio_train_001"]
    kept, lost = (tmp_path / "one/train/wav" / f"studio_train_00{k}.wav" for k in range(2))
    before, dates = lost.read_bytes(), kept.stat().st_mtime_ns
    (tmp_path / "one/train/uem/studio_train_001.uem").unlink()  # written last: an interrupted call lacks it
    (tmp_path / "one/database.yml").unlink()
    talk.make(table, tmp_path / "one", {styles.STUDIO: 2}, 10.0, workers=1)
    assert lost.read_bytes() == before and kept.stat().st_mtime_ns == dates


def test_only_voices_that_anybody_may_use_are_heard(tmp_path):
    rows = [("acted", "uqm-vux"), ("acted", "queen-joe"), ("kokoro", "kokoro-af_heart"), ("synthesised", "mbrola-us3")]
    rows += [("val", "somebody")]
    for _, speaker in rows:
        audio.write(tmp_path / f"{speaker}.wav", np.zeros(1600, np.float32))
    made = [
        dict(speaker=speaker, path=f"{speaker}.wav", seconds=0.1, sex="?", source=source)
        | {"split": "Val" if source == "val" else "Train"}
        for source, speaker in rows
    ]
    pd.DataFrame(made).to_csv(tmp_path / "voices.csv", index=False)
    assert set(talk.people(tmp_path)["speaker"]) == {"queen-joe", "kokoro-af_heart"}
