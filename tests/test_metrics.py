"""Metrics: known answers, agreement with other implementations, the rule for silence, and the tables made of them."""

import fast_bss_eval
import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics.functional.audio as outside

from lib import audio, metrics
from lib.data.dataset import spread
from lib.evaluation import scores

SR = 16000


def tone(frequency, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * SR)) / SR)


def speechlike(seed, seconds=3.0):
    """Bursts of harmonics with pauses, float32: enough like speech for PESQ, ESTOI and the encoder."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * SR)) / SR
    pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    wave = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / SR) / k for k in range(1, 25))
    gate = np.clip(np.sin(2 * np.pi * random.uniform(2, 3) * time + random.uniform(0, 6)), 0, None)
    wave = wave * gate + 0.01 * random.standard_normal(len(time))
    return (0.1 * wave / wave.std()).astype(np.float32)


@pytest.fixture(scope="module")
def ref():
    return speechlike(1)


@pytest.fixture(scope="module")
def est(ref):
    return ref + 0.5 * speechlike(2)


@pytest.mark.parametrize("decibels", [-20, 0, 7, 30])
def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_powers(decibels):
    ref, noise = tone(440), tone(880) * 10 ** (-decibels / 20)
    assert metrics.si_sdr(ref + noise, ref) == pytest.approx(decibels, abs=1e-6)
    assert metrics.si_sdr(ref - 3 * ref + noise, ref) == pytest.approx(
        decibels + 20 * np.log10(2), abs=1e-6
    )  # inverted, twice as loud


def test_si_sdr_ignores_scale_and_offset(est, ref):
    expected = metrics.si_sdr(est, ref)
    for scale in (1e-5, -1.0, 1e4):
        assert metrics.si_sdr(scale * est.astype(np.float64) + 0.3, ref) == pytest.approx(expected, abs=1e-6)
        assert metrics.si_sdr(est, scale * ref.astype(np.float64) - 2.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_si_sdr_agrees_with_torchmetrics_and_fast_bss_eval(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    ref = torch.randn(4, 8000, generator=generator, dtype=dtype) + 0.2
    est = (
        ref
        + torch.randn(4, 8000, generator=generator, dtype=dtype) * torch.tensor([0.1, 1, 3, 10], dtype=dtype)[:, None]
    )
    ours = metrics.si_sdr(est, ref).to(dtype)
    theirs = outside.scale_invariant_signal_distortion_ratio(est, ref, zero_mean=True)
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
    bss = torch.stack([fast_bss_eval.si_sdr(r[None], e[None], zero_mean=True)[0] for r, e in zip(ref, est)])
    torch.testing.assert_close(ours, bss, atol=tolerance, rtol=0)


def test_sdr_agrees_with_torchmetrics(est, ref):
    theirs = outside.signal_distortion_ratio(torch.from_numpy(est).double(), torch.from_numpy(ref).double())
    assert metrics.sdr(est, ref) == pytest.approx(float(theirs), abs=1e-3)


def test_sdr_of_a_pure_tone_and_of_a_perfect_estimate_is_a_number(ref):
    assert 15 < metrics.sdr(tone(440) + 0.1 * np.random.default_rng(0).standard_normal(SR), tone(440)) < 45
    assert 60 < metrics.sdr(ref, ref) <= metrics.CEILING_DB


def test_sdr_forgives_a_filter_and_si_sdr_does_not(ref):
    filtered = np.convolve(ref, [0.2, -0.5, 1.0, 0.4])[: len(ref)]
    assert metrics.si_sdr(filtered, ref) < 10
    assert metrics.sdr(filtered, ref) > 40


@pytest.mark.parametrize("metric", [metrics.si_sdr, metrics.sdr])
def test_numpy_and_torch_and_batches_agree(metric, est, ref):
    batch = metric(np.stack([est, ref, ref]), np.stack([ref, est, ref]))
    assert isinstance(batch, np.ndarray) and batch.shape == (3,)
    tensors = metric(torch.from_numpy(np.stack([est, ref, ref])), torch.from_numpy(np.stack([ref, est, ref])))
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(tensors.numpy(), batch, atol=1e-5)
    assert batch[0] == pytest.approx(metric(est, ref), abs=1e-6)
    assert 60 < batch[2] <= metrics.CEILING_DB


@pytest.mark.parametrize("metric", [metrics.si_sdr, metrics.sdr])
@pytest.mark.parametrize("silence", [np.zeros(SR * 3), np.full(SR * 3, 0.25)])
def test_rule_for_silence(metric, silence, est, ref):
    assert np.isnan(metric(est, silence))
    assert metric(silence, ref) == metrics.FLOOR_DB
    assert np.isnan(metric(silence, silence))
    batch = metric(np.stack([silence, est, est]), np.stack([ref, silence, ref]))
    assert batch[0] == metrics.FLOOR_DB and np.isnan(batch[1]) and batch[2] == pytest.approx(metric(est, ref))


def test_improvement_is_zero_for_the_mixture_and_the_difference_otherwise(est, ref):
    mix = ref + speechlike(3)
    assert metrics.si_sdri(mix, ref, mix) == 0
    assert metrics.si_sdri(est, ref, mix) == pytest.approx(metrics.si_sdr(est, ref) - metrics.si_sdr(mix, ref))
    assert metrics.sdri(est, ref, mix) > 3


def test_si_sdr_can_be_trained_on(est, ref):
    wave = torch.from_numpy(est).requires_grad_()
    metrics.si_sdr(wave, torch.from_numpy(ref)).backward()
    assert torch.isfinite(wave.grad).all() and wave.grad.abs().sum() > 0


@pytest.mark.parametrize("metric", [metrics.si_sdr, metrics.sdr, metrics.pesq_wb, metrics.estoi])
def test_bad_input_is_named(metric, est, ref):
    with pytest.raises(ValueError, match="47999"):
        metric(est[:-1], ref)
    with pytest.raises(ValueError, match="NaN"):
        metric(np.where(np.arange(len(est)) == 5, np.nan, est), ref)
    with pytest.raises(ValueError):
        metric(est[:0], ref[:0])


def test_pesq_takes_the_estimate_first_and_keeps_the_rule_for_silence(est, ref):
    import pesq

    assert metrics.pesq_wb(est, ref) == pytest.approx(pesq.pesq(SR, ref, est, "wb"))
    assert metrics.pesq_wb(ref, ref) > 4.5 > metrics.pesq_wb(est, ref) >= 1
    assert metrics.pesq_wb(np.zeros_like(ref), ref) == 1.0
    assert np.isnan(metrics.pesq_wb(est, np.zeros_like(ref)))
    with pytest.raises(ValueError, match="8000"):
        metrics.pesq_wb(est, ref, sr=8000)


def test_estoi_takes_the_estimate_first_and_keeps_the_rule_for_silence(est, ref):
    theirs = outside.short_time_objective_intelligibility(
        torch.from_numpy(est), torch.from_numpy(ref), SR, extended=True
    )
    assert metrics.estoi(est, ref) == pytest.approx(float(theirs), abs=1e-4)
    assert metrics.estoi(ref, ref) == pytest.approx(1.0, abs=1e-6)
    assert metrics.estoi(est, ref) < 0.95
    assert metrics.estoi(np.zeros_like(ref), ref) == 0.0
    assert np.isnan(metrics.estoi(est, np.zeros_like(ref)))


@pytest.mark.filterwarnings("ignore:Not enough STFT frames")
def test_estoi_of_too_little_speech_is_nan_and_not_a_bad_score(ref):
    assert np.isnan(metrics.estoi(ref[:4000], ref[:4000]))


def test_dnsmos_agrees_with_speechmos_and_takes_loud_and_silent_waves(est):
    from speechmos import dnsmos

    full = est / np.abs(est).max()
    ours, theirs = (
        metrics.dnsmos(3 * full),
        dnsmos.run(full, sr=SR),
    )  # what exceeds full scale is turned down, not clipped
    assert ours == pytest.approx({name: float(theirs[f"{name}_mos"]) for name in ours}, abs=1e-3)
    assert set(ours) == {"sig", "bak", "ovrl", "p808"}
    assert all(np.isfinite(list(metrics.dnsmos(np.zeros(SR, dtype=np.float32)).values())))


def test_similarity_is_one_for_the_same_wave_at_any_level_and_zero_for_silence(est, ref):
    assert metrics.similarity(ref, ref) == pytest.approx(1.0, abs=1e-5)
    assert metrics.similarity(ref * 0.01, ref) == pytest.approx(1.0, abs=1e-3)
    assert metrics.similarity(speechlike(2), ref) < 0.98
    assert metrics.similarity(np.zeros_like(ref), ref) == 0.0
    assert np.isnan(metrics.similarity(ref, np.zeros_like(ref)))


def test_shares_have_strict_bounds():
    assert metrics.shares([-1, 0, 0.5, 1.0, 1.1]) == {"share_over_1_db": 0.2, "share_below_0": 0.2}
    with pytest.raises(ValueError, match="NaN"):
        metrics.shares([1.0, np.nan])


def test_bootstrap_interval_repeats_and_covers_the_true_mean_as_often_as_it_says():
    assert metrics.bootstrap_interval([2.0] * 9) == (2.0, 2.0, 2.0)
    values = np.random.default_rng(0).normal(3, 2, 40)
    assert metrics.bootstrap_interval(values, seed=5) == metrics.bootstrap_interval(values, seed=5)
    narrow, wide = metrics.bootstrap_interval(values, level=0.5), metrics.bootstrap_interval(values)
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high
    random = np.random.default_rng(1)
    hits = [
        low <= 3 <= high
        for _, low, high in (metrics.bootstrap_interval(random.normal(3, 2, 60), draws=400) for _ in range(400))
    ]
    assert 0.91 < np.mean(hits) < 0.98


def test_paired_test_finds_a_shift_that_an_unpaired_look_would_miss():
    random = np.random.default_rng(0)
    hard = random.normal(0, 10, 60)  # samples differ far more than systems
    better = metrics.paired_test(hard + 0.5 + random.normal(0, 0.3, 60), hard)
    assert better.p < 1e-6 and 0.3 < better.low < better.effect < better.high < 0.7 and better.samples == 60
    assert metrics.paired_test(hard, hard + 0.5).effect == pytest.approx(-0.5)
    assert metrics.paired_test(hard, hard).p == 1.0
    noise = [metrics.paired_test(*random.normal(0, 1, (2, 30)), seed=i).p for i in range(100)]
    assert np.mean(np.array(noise) < 0.05) < 0.15
    with pytest.raises(ValueError, match="60 and 59"):
        metrics.paired_test(hard, hard[1:])


class Pairs(torch.utils.data.Dataset):
    """Four mixtures as `open_dataset` gives them."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        target, other = (torch.from_numpy(speechlike(seed)) for seed in (place, place + 10))
        return dict(
            mix=target + 0.7 * other,
            target=target,
            enrollment=torch.from_numpy(speechlike(place + 20)),
            index=place + 1,
        )


class Halver:
    """Stands for a model: what it extracts is the mixture at half the level."""

    def extract(self, mix, enrollment, sr=16000, overlap=0.0):
        return 0.5 * mix


def test_evaluate_has_a_row_a_sample_and_system_and_hides_nothing():
    dataset = Pairs()
    perfect = [dataset[place]["target"].numpy() for place in range(4)]
    systems = {
        "mixture": scores.unprocessed(dataset),
        "halver": scores.extract_all(Halver(), dataset, progress=False),
        "perfect": perfect,
    }
    facts = scores.mixture_facts(
        pd.DataFrame(
            {
                "index": [1, 2, 3, 4],
                "speaker": list("abab"),
                "sir_db": [1.0, 2, 3, 4],
                "interferers": [["b"], ["c"], ["d", "b"], []],
            }
        ),
        sexes=dict(a="f", b="f", c="m"),
    )
    table = scores.evaluate(systems, dataset, limit={"pesq": 2, "dnsmos": 0}, facts=facts, progress=False)
    assert list(table["system"]) == ["mixture"] * 4 + ["halver"] * 4 + ["perfect"] * 4
    assert list(table["index"]) == [1, 2, 3, 4] * 3
    assert list(table["same_sex"][:4]) == [True, False, None, None]
    by = table.set_index("system")
    assert (by.loc["mixture", "si_sdri"] == 0).all()
    np.testing.assert_allclose(by.loc["halver", "si_sdri"], 0, atol=1e-4)
    np.testing.assert_allclose(by.loc["halver", "level_db"], -6.02, atol=0.01)
    assert (by.loc["perfect", "si_sdr"] > 60).all() and (by.loc["perfect", "estoi"] > 0.99).all()
    assert by.loc["perfect", "pesq"].notna().sum() == 2
    summary = scores.summarise(table).set_index("system")
    assert summary.loc["perfect", "share_over_1_db"] == 1.0 and summary.loc["mixture", "share_over_1_db"] == 0.0
    assert summary.loc["perfect", "pesq_of"] == 2 and summary.loc["perfect", "ovrl_of"] == 0
    assert summary.loc["halver", "rtf"] >= 0 and np.isnan(summary.loc["perfect", "rtf"])
    tests = scores.paired(table, [("perfect", "mixture")], columns=("si_sdr", "pesq", "ovrl")).set_index("metric")
    assert (
        list(tests.index) == ["si_sdr", "pesq"] and list(tests["samples"]) == [4, 2] and tests.loc["si_sdr", "low"] > 50
    )
    means = scores.intervals(table, ["system", "speaker"])
    assert list(means["mixtures"]) == [2] * 6


def test_evaluate_names_what_is_wrong():
    dataset, made = Pairs(), scores.unprocessed(Pairs())
    with pytest.raises(ValueError, match="unknown metric loudness"):
        scores.evaluate({"a": made}, dataset, chosen=["loudness"])
    with pytest.raises(ValueError, match="3 estimates for a dataset of 4"):
        scores.evaluate({"a": made.waves[:3]}, dataset, progress=False)
    with pytest.raises(ValueError, match="a, index 1.*47990"):
        scores.evaluate({"a": [wave[:47990] for wave in made.waves]}, dataset, progress=False)


def test_a_test_set_opens_with_its_facts_in_order_with_and_without_a_manifest(tmp_path):
    folder = tmp_path / "Dataset" / "Test_Dataset"
    for index in (2, 3, 7):
        target, other = speechlike(index, 1.0), speechlike(index + 50, 1.0)
        for place, wave in (("Clean/clean", target), ("Mix/mix", target + 0.5 * other), ("Target/enrollment", other)):
            audio.write(folder / f"{place}_{index:06d}.wav", wave / 2)
    test, facts = scores.open_test(tmp_path / "Dataset", limit=2)
    assert [item["index"] for item in (test[0], test[1])] == [2, 7] == list(facts["index"])
    np.testing.assert_allclose(facts["sir_db"], 6.02, atol=0.05)
    rows = [
        dict(index=index, speaker=f"s{index}", interferers=f'["o{index}"]', difficulty="hard", sir_db=0.5, snr_db="")
        for index in (7, 3, 2)
    ]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    _, facts = scores.open_test(tmp_path / "Dataset", limit=2)
    assert (
        list(facts["speaker"]) == ["s2", "s7"]
        and list(facts["others"]) == ["o2", "o7"]
        and list(facts["difficulty"]) == ["hard", "hard"]
    )
    assert list(facts["sir_db"]) == [0.5, 0.5]
    pd.DataFrame(dict(index=[2, 3, 7], speaker=list("abc"))).to_csv(
        folder / "manifest.csv", index=False
    )  # the least a manifest can say
    _, facts = scores.open_test(tmp_path / "Dataset", limit=2)
    assert (
        list(facts.columns) == ["index", *scores.FACTS]
        and list(facts["speaker"]) == ["a", "c"]
        and set(facts["others"]) == {""}
    )
    np.testing.assert_allclose(facts["sir_db"], 6.02, atol=0.05)


def test_spread_takes_both_ends_and_repeats():
    assert spread(10, 3) == [0, 4, 9]
    assert spread(3) == [0, 1, 2] == spread(3, 10)
    assert spread(5, 0) == []


def test_pesq_of_a_long_wave_with_many_pauses_is_scored_in_windows():
    """80 s of words and pauses ended the process: the code of P.862 has room for 50 utterances."""
    ref = np.tile(np.r_[speechlike(1, 0.6), np.zeros(9600, np.float32)], 67)
    est = ref + 0.01 * np.random.default_rng(0).standard_normal(len(ref)).astype(np.float32)
    whole, one = metrics.pesq_wb(est, ref), metrics.pesq_wb(est[: 16 * SR], ref[: 16 * SR])
    assert 1 < whole < 4.64 and whole == pytest.approx(one, abs=0.5)


def test_pesq_leaves_silent_windows_out_and_counts_a_silent_estimate(ref):
    long = np.concatenate([np.tile(ref, 5), np.zeros(16 * SR, np.float32)])[: 30 * SR]
    assert metrics.pesq_wb(long, long) > 4.5
    assert metrics.pesq_wb(0 * long, long) == 1.0
    assert np.isnan(metrics.pesq_wb(long, 0 * long))


ODD = {  # no wave may end the process: PESQ, pystoi and onnxruntime are C code
    "one sample": np.ones(1),
    "two samples": np.array([0.1, -0.1]),
    "zeros": np.zeros(SR),
    "constant": np.full(SR, 0.5),
    "a click": np.eye(1, SR, SR // 2)[0],
    "1e30": 1e30 * np.sin(np.arange(SR)),
    "1e-30": 1e-30 * np.sin(np.arange(SR)),
    "70 bursts": np.tile(np.r_[np.sin(np.arange(3200)), np.zeros(6400)], 70),
    "empty": np.zeros(0),
    "NaN": np.full(SR, np.nan),
    "two channels": np.ones((2, SR)),
}


def test_a_voice_heard_before_is_not_heard_again(monkeypatch):
    heard = []

    class Encoder:
        def embed_utterance(self, wave):
            heard.append(len(wave))
            return np.full(256, len(heard), np.float32)

    monkeypatch.setattr(metrics, "_voice_encoder", Encoder)
    monkeypatch.setattr(metrics, "_HEARD", {})
    monkeypatch.setattr(metrics, "HEARD", 2)
    one, two, three = (speechlike(seed) for seed in range(3))
    first = metrics.voice_embedding(one)
    assert metrics.voice_embedding(one.copy()) is first and len(heard) == 1
    with pytest.raises(ValueError):
        first[0] = 0.0
    assert metrics.voice_embedding(two)[0] == 2
    assert metrics.voice_embedding(three)[0] == 3 and len(metrics._HEARD) == 1  # full, so it begins anew
    assert metrics.voice_embedding(one)[0] == 4


@pytest.mark.parametrize("wave", ODD.values(), ids=ODD)
@pytest.mark.parametrize("metric", [metrics.pesq_wb, metrics.estoi, metrics.si_sdr, metrics.sdr, metrics.similarity])
def test_odd_waves_give_a_number_nan_or_a_sentence(metric, wave):
    wave = wave.astype(np.float32)
    other = np.random.default_rng(0).uniform(-0.1, 0.1, wave.shape).astype(np.float32)
    for pair in ((wave, wave), (wave, other), (other, wave)):
        try:
            assert np.asarray(metric(*pair)).dtype.kind == "f"
        except ValueError as error:  # in words of this project
            assert any(said in str(error) for said in ("takes waves", "takes a wave", "NaN", "at least", "one shape"))


@pytest.mark.parametrize("loudness", [1e-4, 1.0, 1e4])
def test_pesq_does_not_hear_the_level(est, ref, loudness):
    assert metrics.pesq_wb(loudness * est, ref) == pytest.approx(metrics.pesq_wb(est, ref), abs=1e-3)


def test_an_interval_over_people_is_as_wide_as_they_differ():
    people = ["a"] * 10 + ["b"] * 10
    values = [0.0] * 10 + [10.0] * 10
    assert metrics.people_interval(values, people) == (5.0, 0.0, 10.0)  # a quarter of the draws is one of them twice
    _, low, high = metrics.people_interval([0.0, 10.0] * 10, people)
    assert low == high == 5.0
    with pytest.raises(ValueError, match="a name a value"):
        metrics.people_interval(values, people[:3])


def test_paired_tests_say_the_interval_over_people_where_they_are_known():
    rng = np.random.default_rng(0)
    people, base = np.repeat(list("abcd"), 10), rng.standard_normal(40)
    gain = np.repeat([0.0, 0.0, 4.0, 4.0], 10)
    rows = [{"system": "a", "index": k, "speaker": people[k], "si_sdr": base[k] + gain[k]} for k in range(40)]
    rows += [{"system": "b", "index": k, "speaker": people[k], "si_sdr": base[k]} for k in range(40)]
    row = scores.paired(pd.DataFrame(rows), [("a", "b")]).iloc[0]
    assert row["effect"] == pytest.approx(2.0) and row["people_high"] - row["people_low"] > row["high"] - row["low"]
    without = scores.paired(pd.DataFrame(rows).drop(columns="speaker"), [("a", "b")])
    assert "people_low" not in without
