"""The second look at who is whom: by hand on vectors, on a recording, and VBx where a PLDA is given."""

import numpy as np
import pytest
import torch
from made_voices import syllables
from pyannote.audio.core.plda import PLDA
from pyannote.core import Annotation, Segment

from lib.diarization import models, pipeline, second_look
from lib.diarization.encoders import Voiceprint

SR = 16000


def test_a_stretch_goes_to_the_mean_it_is_most_like():
    ana, ben = np.array([1.0, 0.1]), np.array([0.1, 1.0])
    vectors = np.stack([ana, ana, ana, ben, ben, ben, ana]) / np.hypot(1, 0.1)
    labels = np.array([0, 0, 0, 1, 1, 1, 1])  # the last is ana's and was given to ben
    assert list(second_look.regroup(vectors, np.ones(7), labels)) == [0, 0, 0, 1, 1, 1, 0]
    assert list(second_look.regroup(vectors, np.ones(7), labels, margin=2.0)) == list(labels)
    alone = np.array([0, 0, 0, 2, 2, 2, 1])  # nobody's last stretch is taken
    assert list(second_look.regroup(vectors, np.ones(7), alone)) == list(alone)


def test_who_speaks_when_stays_and_whose_it_is_changes():
    rng = np.random.default_rng(0)
    wave, found = np.zeros(16 * SR, np.float32), Annotation(uri="talk")
    for k, pitch in enumerate([100, 260, 100, 260, 100, 260, 100, 260]):
        wave[2 * k * SR : 2 * (k + 1) * SR] = syllables(rng, pitch, 2.0)
        found[Segment(2 * k, 2 * k + 1.8), k] = "low" if pitch == 100 or k == 7 else "high"  # the last one is wrong
    seen = second_look.again(found.support(), wave, Voiceprint())
    assert seen.get_timeline().duration() == pytest.approx(found.get_timeline().duration())
    assert seen.label_duration("high") == pytest.approx(7.2) and seen.label_duration("low") == pytest.approx(7.2)
    one = found.subset(["low"])
    assert second_look.again(one, wave, Voiceprint()) is one


def test_the_pipeline_looks_twice_where_it_clusters_our_vectors():
    segmentation = models.load()
    assert pipeline.pipeline(segmentation).second_look
    assert not pipeline.pipeline(segmentation, second_look=False).second_look
    assert not pipeline.Diarizer(segmentation, clustering="OracleClustering", second_look=True).second_look


def test_vbx_clusters_where_a_plda_is_given(tmp_path):
    rng, dim = np.random.default_rng(0), 256
    np.savez(tmp_path / "xvec_transform.npz", mean1=np.zeros(dim), mean2=np.zeros(128), lda=rng.normal(size=(dim, 128)))
    np.savez(tmp_path / "plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(2, 0.1, 128))
    plda = PLDA(tmp_path / "xvec_transform.npz", tmp_path / "plda.npz")
    made = pipeline.pipeline(models.load(), Voiceprint(), plda=plda)
    assert not made.second_look and made.klustering == "VBxClustering"
    assert made.clustering.Fa == pipeline.VBX["clustering"]["Fa"]
    wave = np.concatenate([syllables(rng, pitch, 3.0) for pitch in (100, 260, 100, 260)])
    file = {"uri": "talk", "waveform": torch.from_numpy(wave)[None], "sample_rate": SR}
    assert len(pipeline.apply(made, file).labels()) >= 1
    with pytest.raises(pipeline.DiarizationError, match="none was made for resemblyzer"):
        pipeline.pipeline(models.load(), plda="pyannote/speaker-diarization-community-1")
