"""Chapter 4's training and pipeline: losses by hand, freezing that holds, resuming, encoders under a mask, scores by
hand, tuning, bad input.
"""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_voices import make_voices, syllables
from pyannote.core import Annotation, Segment, Timeline

from lib import runs
from lib.diarization import (
    conversations,
    models,
    pipeline,
    protocols,
    scores,
    study,
    styles,
    task,
    training,
    tuning,
    use,
    views,
)
from lib.diarization.encoders import EncoderError, Voiceprint
from lib.training import freezing

SR = 16000
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    table = make_voices(folder / "voices", train=2, val=2, test=2, recordings=9, seconds=(2.9, 3.1))
    style = replace(styles.STUDIO, seconds=15.0, people=(2, 2))
    conversations.build(table, folder / "data", style, {"train": 2, "dev": 1, "test": 1}, progress=False)
    return folder / "data"


def annotation(*turns):
    made = Annotation(uri="talk")
    for number, (name, start, end) in enumerate(turns):
        made[Segment(start, end), number] = name
    return made


def one_batch(task, root, count=2):
    task.prepare_data()
    task.setup()
    windows = [task.prepare_chunk(0, 2.0 * k, 5.0) for k in range(count)]
    return task.collate_fn(windows, stage="val")


def with_task(root, tmp_path, model=None):
    model = model or models.new()
    model.task = task.Segmentation(
        protocols.protocol(root), model.specifications, batch_size=2, cache=str(tmp_path / "prepared.npz")
    )
    model.prepare_data()
    model.setup()
    return model


# --- losses and freezing


def test_the_losses_are_those_of_the_best_permutation(root, tmp_path):
    model = with_task(root, tmp_path)
    batch = one_batch(model.task, root)
    segmentation, vad, chances = model.task.losses(batch["X"], batch["y"])
    by_hand = []
    for chance, target in zip(chances, batch["y"].float()):
        by_hand.append(
            min(
                torch.nn.functional.binary_cross_entropy(chance, target[:, list(order)])
                for order in itertools.permutations(range(3))
            )
        )
    assert segmentation.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)
    anybody = batch["y"].any(-1).float()
    assert vad.item() == pytest.approx(
        torch.nn.functional.binary_cross_entropy(chances.max(-1).values, anybody).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "strategy, open_groups",
    [("classifier", {"classifier"}), ("all but the filters", {"convolutions", "lstm", "linear", "classifier"})],
)
def test_what_is_frozen_stays_bit_equal_and_in_eval_mode(root, tmp_path, strategy, open_groups):
    model = with_task(root, tmp_path)
    table = models.freeze(model, strategy)
    assert set(table.loc[table["trainable"] > 0, "group"]) == open_groups
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for name, parts in models.groups_of(model).items():
        part = parts[0] if isinstance(parts, list) else parts
        assert part.training == (name in open_groups), name
    batch = one_batch(model.task, root)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    segmentation, vad, _ = model.task.losses(batch["X"], batch["y"])
    (segmentation + vad).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed <= trainable and len(changed) >= 0.9 * len(trainable)


def test_pyannotes_own_freeze_is_undone_by_train_and_ours_is_not():
    model = models.new()
    assert model.freeze_by_name("lstm") == ["lstm"] and not model.lstm.training
    model.train()
    assert model.lstm.training
    assert models.freeze(model, "classifier").attrs["frozen_by_pyannote"] == ["lstm", "linear", "sincnet"]
    model.train()
    assert not model.lstm.training and model.classifier.training
    with pytest.raises(freezing.FreezeError, match="unknown strategy 'all'; known are: classifier"):
        models.freeze(model, "all")


def test_it_can_learn_a_conversation_by_heart(root, tmp_path):
    model = with_task(root, tmp_path)
    models.freeze(model)
    batch = one_batch(model.task, root, count=1)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(60):
        segmentation, vad, chances = model.task.losses(batch["X"], batch["y"])
        optimizer.zero_grad()
        (segmentation + vad).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    wrong = min(
        ((chances > 0.5) != batch["y"][..., list(order)].bool()).float().mean().item()
        for order in itertools.permutations(range(3))
    )
    assert wrong < 0.05


def test_augmentation_changes_the_sound_and_not_the_labels():
    torch.manual_seed(0)
    samples, targets = torch.randn(4, 1, 16000) * 0.1, (torch.rand(4, 1, 50, 3) > 0.5).float()
    for switches in (
        dict(noise=True, room=False, gain=False),
        dict(noise=False, room=True, gain=False),
        dict(noise=False, room=False, gain=True),
    ):
        changed = models.augmentation(**switches, rooms=2, chance=1.0).train()(
            samples=samples.clone(), sample_rate=SR, targets=targets
        )
        assert changed.samples.shape == samples.shape and not torch.allclose(changed.samples, samples), switches
        assert torch.equal(changed.targets, targets)
    assert models.augmentation(noise=False, room=False, gain=False) is None
    for response in models.responses(2):
        assert response.abs().argmax() == 0 and response.square().sum().item() == pytest.approx(1.0, abs=1e-4)


# --- fit


def test_a_resumed_run_is_the_uninterrupted_one(root, tmp_path):
    settings = dict(epochs=2, batch_size=2, learning_rate=5e-3)
    best, whole = training.fit(models.new(), root, tmp_path / "whole", **settings)
    assert list(whole.columns) == training.COLUMNS and list(whole["epoch"]) == [0, 1, 2]
    assert np.allclose(whole["loss/val"], whole["loss/val/segmentation"] + whole["loss/val/vad"], atol=1e-5)
    assert np.allclose(whole["DER"], whole[["Confusion", "FalseAlarm", "Miss"]].sum(axis=1), atol=1e-5)
    training.fit(models.new(), root, tmp_path / "parts", max_epochs=1, **settings)
    _, parts = training.fit(models.new(), root, tmp_path / "parts", resume=True, **settings)
    assert np.allclose(whole, parts, equal_nan=True, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "whole" / "last.ckpt").is_file() and runs.read_json(tmp_path / "whole" / "settings.json")[
        "finished"
    ]
    assert training.measure(best, root)["DER"] == pytest.approx(whole["DER"].min(), abs=1e-5)
    with pytest.raises(runs.RunError, match="already a run"):
        training.fit(models.new(), root, tmp_path / "whole", **settings)
    with pytest.raises(runs.RunError, match="epochs was 2 and is 3"):
        training.fit(models.new(), root, tmp_path / "whole", resume=True, **{**settings, "epochs": 3})
    models.save(best, tmp_path / "saved")
    loaded = models.load(tmp_path / "saved")
    wave = torch.randn(1, 1, 5 * SR) * 0.1
    with torch.no_grad():
        assert torch.allclose(loaded(wave), best.eval()(wave), atol=0.01)  # half precision


@pytest.mark.parametrize(
    "settings, named",
    [
        (dict(optimizer="SGD"), "known are: Adam, AdamW, RAdam, NAdam"),
        (dict(lr=1), "unknown setting lr"),
        (dict(epochs=0), "epochs is 0"),
        (dict(strategy="x"), "unknown strategy"),
        (dict(learning_rate=-1), "learning_rate is -1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings, named):
    with pytest.raises(training.TrainingError, match=named):
        training.Settings.of(settings)


def test_a_profile_that_cannot_be_is_named():
    assert [len(study.pairs(profile)) for profile in ("one", "default", "full")] == [1, 3, 10]
    with pytest.raises(training.TrainingError, match="known are: default, one, full"):
        study.pairs("quick")


def test_recordings_shorter_than_the_window_are_named(root, tmp_path):
    with pytest.raises(training.TrainingError, match="studio_train_000"):
        training.fit(models.new(window=20.0), root, tmp_path / "run")


def test_what_others_saw_stands_beside_ours():
    ranked = study.pd.DataFrame(
        [
            {
                "run": "adam",
                "seed": 0,
                "DER before": 0.5,
                "DER": 0.3,
                "Confusion": 0.1,
                "FalseAlarm": 0.1,
                "Miss": 0.1,
                "Threshold": 0.5,
                "loss/val": 0.4,
            }
        ]
    )
    both = study.beside(ranked)
    theirs = both[both["whose"] == "others, Korean"].iloc[0]
    assert theirs["run"] == "nadam_cosine_50" and theirs["DER"] == 0.2171 and both["whose"].iloc[0] == "ours, simulated"
    assert set(study.others().columns) - {"run"} <= set(training.COLUMNS)


# --- models and encoders


def test_without_a_token_the_starter_is_used_and_what_to_do_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    models.save(models.new(), tmp_path / "starter")
    monkeypatch.setattr(models, "STARTER", str(tmp_path / "starter"))
    assert models.load(models.PUBLIC).specifications.duration == 5.0
    said = capsys.readouterr().out
    assert "no Hugging Face token" in said and "HF_TOKEN" in said and "offline starter" in said
    with pytest.raises(models.ModelError, match="no such folder"):
        models.load(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["resemblyzer", "xvector", "both"])
def test_an_encoder_hears_what_is_under_the_mask(kind):
    encoder = Voiceprint(kind)
    rng = np.random.default_rng(0)
    low, high = (torch.from_numpy(syllables(rng, pitch, 2.5)) for pitch in (100, 260))
    window, mask = torch.cat([low, high])[None, None], torch.zeros(1, 100)
    mask[:, :50] = 1
    vector = encoder(window, mask)
    assert vector.shape == (1, encoder.dimension)
    alone, other = encoder(low[None, None]), encoder(high[None, None])
    assert torch.cosine_similarity(vector, alone).item() > 0.999 > torch.cosine_similarity(vector, other).item()
    assert encoder(window, torch.zeros(1, 100)).isnan().all()
    with pytest.raises(EncoderError, match="known are: resemblyzer, xvector, both, efficientnet_lite0"):
        Voiceprint("ecapa")


# --- scores


def test_scores_by_hand():
    reference = annotation(("A", 0, 6), ("B", 5, 10))  # 11 s of speech, 1 s of it overlap
    hypothesis = annotation(("x", 0, 5), ("y", 5, 8), ("x", 8, 9), ("y", 9, 11))
    file = {"uri": "talk", "annotation": reference, "annotated": Timeline([Segment(0, 12)])}
    row = scores.score(hypothesis, file)
    assert (
        row["missed detection"] == pytest.approx(1 / 11)
        and row["false alarm"] == pytest.approx(1 / 11)
        and row["confusion"] == pytest.approx(1 / 11)
    )
    assert row["DER"] == pytest.approx(3 / 11) and row["people"] == row["found"] == 2
    assert scores.score(reference, file)["DER"] == 0 == scores.score(reference, file)["JER"]
    assert scores.score(Annotation(), file)["DER"] == 1


def test_summaries_weigh_by_speech_and_compare_the_same_files():
    table = pd.DataFrame(
        [
            {
                "file": name,
                "DER": der,
                "confusion": der,
                "false alarm": 0.0,
                "missed detection": 0.0,
                "JER": der,
                "speech": speech,
            }
            for name, der, speech in (("a", 0.1, 30.0), ("b", 0.5, 10.0))
        ]
    )
    total = scores.summary(table)
    assert (
        total["DER"] == pytest.approx(0.2)
        and total["low"] == pytest.approx(0.1)
        and total["high"] == pytest.approx(0.5)
    )
    fell, low, high = scores.gain(table, table.assign(DER=table["DER"] / 2))
    assert fell == pytest.approx(0.5) == low == high
    with pytest.raises(pipeline.DiarizationError, match="different files"):
        scores.gain(table, table.iloc[:1])


# --- the pipeline


def test_tuning_goes_on_and_is_read_and_never_sees_the_reference_when_applied(root, tmp_path, monkeypatch):
    model, files = models.new(), protocols.files(root, "dev")
    seen = []
    monkeypatch.setattr(
        tuning.Optimizer,
        "__init__",
        (lambda plain: lambda self, *a, **k: (seen.append(k["study_name"]), plain(self, *a, **k))[1])(
            tuning.Optimizer.__init__
        ),
    )
    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "Voiceprint", lambda kind: (_ for _ in ()).throw(KeyboardInterrupt()))
        pipeline._encoder.cache_clear()
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(model, files, tmp_path, trials=(2, 2), progress=False)
    made_trials = '"op_code":4'  # in the journal of Optuna: a trial begins
    assert (tmp_path / "segmentation.journal").read_text().count(made_trials) == 2
    tuned = tuning.tune(model, files, tmp_path, trials=(2, 2), progress=False)
    assert (tmp_path / "segmentation.journal").read_text().count(made_trials) == 2  # stage 1 was not done again
    assert set(tuned["segmentation"]) == {"threshold", "min_duration_off"} and set(tuned["clustering"]) == {
        "method",
        "threshold",
        "min_cluster_size",
    }
    seen.clear()
    assert tuning.tune(model, files, tmp_path, trials=(2, 2), progress=False) == tuned and not seen
    with pytest.raises(runs.RunError, match="another tuning"):
        tuning.tune(model, files, tmp_path, trials=(3, 2), progress=False)
    made = pipeline.pipeline(model, parameters=tuned)
    blind = {name: files[0][name] for name in ("uri", "waveform", "sample_rate")}
    assert next(
        list(found.itersegments()) for found in (pipeline.apply(made, files[0]), pipeline.apply(made, blind))
    ) == list(pipeline.apply(made, blind).itersegments())


def vectors_of_two(count, seed=0):
    """`count` vectors each of two people who sound a little different in each of four moods."""
    rng = np.random.default_rng(seed)
    means = np.eye(256)[:2] + 0.9 * np.eye(256)[2]
    moods = 0.012 * rng.normal(size=(2, 4, 256))
    parts = [
        m + own[rng.integers(4, size=count)] + 0.03 * rng.normal(size=(count, 256)) for m, own in zip(means, moods)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("count", [20, 40, 400, 1500])
def test_two_people_stay_two_however_long_they_talk(count):
    settings = {"method": "ward", "threshold": 1.8, "min_cluster_size": 8}
    found = {}
    for kind in (pipeline.Clustering, pipeline.AgglomerativeClustering):
        made = kind(metric="cosine").instantiate(dict(settings))
        found[kind] = len(set(made.cluster(vectors_of_two(count), min_clusters=1, max_clusters=20)))
        assert made.threshold == 1.8
    assert found[pipeline.Clustering] == 2
    assert (found[pipeline.AgglomerativeClustering] > 2) == (count >= 400)  # what the longer reach is for


def test_bad_recordings(root):
    made = pipeline.pipeline(models.new())
    with pytest.warns(UserWarning, match="silent"):
        assert not pipeline.diarize(made, np.zeros(3 * SR))
    with pytest.warns(UserWarning, match="shorter than the model's window of 5 s"):
        found = pipeline.diarize(made, syllables(np.random.default_rng(0), 120, 2.0))
    assert not found or found.get_timeline().extent().end <= 2.0
    for number in (0, -1, 1.5, True, "two"):
        with pytest.raises(pipeline.DiarizationError, match="num_speakers"):
            pipeline.diarize(made, np.ones(SR), num_speakers=number)


# --- what it is good for


def test_the_cleanest_seconds_are_those_alone():
    talk = annotation(("A", 0, 6), ("B", 5, 10), ("A", 12, 14))
    assert use.alone(talk, "A") == [(0, 5), (12, 14)]
    wave = np.arange(16 * SR, dtype=np.float32)
    enrolled, stretches = use.enrollment(wave, talk, "A", seconds=6.0)
    assert stretches == [(0.1, 4.9), (12.1, pytest.approx(13.3))] and len(enrolled) == 6 * SR
    assert set(use.cut_out(wave, talk)) == {"A", "B"} and len(use.cut_out(wave, talk, seconds=3.0)["A"]) == 3 * SR
    assert use.overlapped(talk, "A", seconds=4.0, end=16) == (4.5, 8.5)
    with pytest.raises(pipeline.DiarizationError, match="there are A, B"):
        use.alone(talk, "C")
    with pytest.raises(pipeline.DiarizationError, match="an enrollment needs 1 s"):
        use.enrollment(wave, annotation(("A", 0, 1)), "A")


def test_views_show_every_turn():
    talk = annotation(("A", 0, 6), ("B", 5, 10))
    shown = views.turn_player(np.sin(np.arange(10 * SR) / 20).astype(np.float32), talk).data
    assert shown.count("<button") == 2 and "currentTime=5.00" in shown
    figure = views.timelines({"reference": talk, "hypothesis": talk}, 10)
    assert [len(axis.patches) for axis in figure.axes] == [3, 3]  # two turns and the overlap
    row = {"DER": 0.3, "low": 0.2, "high": 0.4, "confusion": 0.1, "false alarm": 0.1, "missed detection": 0.1}
    assert len(views.error_bars({"before": row, "after": row}).axes[0].patches) == 6


def powerset_model():
    """A model of pyannote/segmentation-3.0's kind: seven sets of up to two of three speakers."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    torch.manual_seed(0)
    model = models.PyanNet(**models.SMALL)
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        min_duration=5.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    return model.eval()


def test_a_folder_as_the_hub_lays_it_out_is_read(tmp_path):
    import lightning

    model = powerset_model()
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
    }
    model.on_save_checkpoint(checkpoint)
    (tmp_path / "segmentation-3.0").mkdir()
    torch.save(checkpoint, tmp_path / "segmentation-3.0" / "pytorch_model.bin")
    (tmp_path / "segmentation-3.0" / "config.yaml").write_text("model: {}")
    loaded = models.load(tmp_path / "segmentation-3.0")
    wave = torch.randn(1, 1, 80000)
    assert loaded.specifications.powerset and torch.allclose(loaded(wave), model(wave), atol=1e-6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(models.ModelError, match="neither config.json"):
        models.load(tmp_path / "empty")


def test_a_model_that_answers_in_sets_of_speakers_goes_the_same_way(root, tmp_path):
    model = powerset_model()
    best, history = training.fit(model, root, tmp_path / "run", epochs=1, batch_size=2)
    assert best.specifications.powerset and history["loss/val"].notna().all() and history["loss/val/vad"].iloc[0] < 3
    files = protocols.files(root, "dev")
    tuned = tuning.tune(best, files, tmp_path / "tuning", trials=(2, 1), progress=False)
    assert set(tuned["segmentation"]) == {"min_duration_off"}
    for parameters in (tuned, pipeline.UNTUNED):  # those of the starter fit too, less the threshold it does not have
        assert (
            scores.score(pipeline.apply(pipeline.pipeline(best, parameters=parameters), files[0]), files[0])["DER"] > 0
        )
