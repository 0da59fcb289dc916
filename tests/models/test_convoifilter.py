"""ConVoiFilter against the public implementation's numbers, and its contracts: checkpoints, embedding, extraction."""

import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_rules import fill_by_rule, signals

from lib.models import conformer, precision
from lib.models.checkpoint import CheckpointError
from lib.models.conformer import RelativeAttention, aligned, relative_positions, shift_to_keys
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.models.resampling import to_rate

GOLDEN = Path(__file__).parent / "golden"
ENH_ARGS = {
    "encoder_conf": {"n_fft": 512, "hop_length": 128},
    "xvector_emb_dim": 512,
    "separator": "conformer_voice_filter",
    "separator_conf": {
        "num_spk": 1,
        "adim": 64,
        "aheads": 4,
        "layers": 2,
        "linear_units": 96,
        "positionwise_layer_type": "conv1d",
        "dropout_rate": 0.1,
        "nonlinear": "relu",
        "conformer_enc_kernel_size": 5,
    },
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "convoifilter_small.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model(golden):
    model = ConVoiFilter(ConVoiFilterConfig.from_enh_args(ENH_ARGS, sample_rate=16000, enh_chunk_size=5)).eval()
    model.load_state_dict(fill_by_rule(model.state_dict(), golden["low_hz"], golden["band_hz"]))
    return model


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def test_embedding_and_estimate_are_the_public_ones(model, golden):
    mix, _, enrollment = signals()
    with torch.no_grad():
        embedding = model.embed(enrollment)
        est = model(mix[None], embedding=embedding).est[0].numpy()
    assert embedding.shape == (1, 512) and est.shape == mix.shape
    assert relative(embedding[0].numpy(), golden["embedding"]) < 1e-4
    assert relative(est[::40], golden["output"]) < 1e-4
    assert np.sqrt(np.mean(est.astype(np.float64) ** 2)) == pytest.approx(golden["output_rms"], rel=1e-4)


def test_loss_and_every_gradient_are_the_public_ones(model, golden):
    mix, target, enrollment = signals()
    pad = torch.nn.functional.pad
    padded = [pad(wave, (0, 160000 - len(wave)))[None] for wave in (mix, target)]
    model.zero_grad()
    loss = model(
        padded[0], lengths=torch.tensor([len(mix)]), embedding=model.embed(enrollment).detach(), target=padded[1]
    ).loss
    loss.backward()
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-4)
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert set(norms) == set(golden["grad_names"])
    # where a normalisation right after makes the true gradient zero, what is left is rounding: those few get an
    # absolute floor,
    # a higher one in the x-vector's front, where CPUs that sum in another order differ by up to 1e-5
    for name, norm in zip(golden["grad_names"], golden["grad_norms"]):
        front = "sincnet" in name
        assert norms[name] == pytest.approx(norm, rel=2e-4 if front else 1e-4, abs=2e-5 if front else 2e-6), name


def test_names_and_shapes_are_those_of_the_public_checkpoint():
    with (GOLDEN / "convoifilter_state_dict.csv").open() as file:
        listed = {row["name"]: tuple(int(n) for n in row["shape"].split("x") if n) for row in csv.DictReader(file)}
    with torch.device("meta"):
        full = ConVoiFilter(ConVoiFilterConfig())
    assert {name: tuple(tensor.shape) for name, tensor in full.state_dict().items()} == listed
    assert len(listed) == 221 and sum(p.numel() for p in full.parameters()) == 54_285_567


def test_lengths_hide_what_is_padded(model):
    mix, target, enrollment = signals()
    embedding = model.embed(enrollment).detach()
    long = torch.nn.functional.pad(mix, (0, 20000))
    with torch.no_grad():
        alone = model(mix[None], embedding=embedding, target=target[None])
        both = model(torch.stack([long, long]), lengths=[len(mix), len(long)], embedding=embedding.repeat(2, 1))
    assert torch.allclose(both.est[0, : len(mix)], alone.est[0], atol=1e-5) and not both.est[0, len(mix) :].any()
    assert both.est[1, len(mix) :].any()


def test_fill_repeats_a_wave_where_the_public_graph_puts_zeros(model):
    mix, _, enrollment = signals()  # 7.3 s and 3.2 s, in chunks of 5 s
    again = ConVoiFilter(ConVoiFilterConfig.from_enh_args(ENH_ARGS, fill="repeat")).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        known = again.embed(enrollment)
        assert torch.allclose(known, model.embed(enrollment.repeat(2)[:80000]), atol=1e-5)
        assert not torch.allclose(known, model.embed(enrollment), atol=1e-2)
        both = torch.nn.functional.pad(
            torch.stack([enrollment, enrollment]), (0, 50000)
        )  # in a batch beside longer ones the same
        assert torch.allclose(
            again.embed(both, lengths=[len(enrollment), len(enrollment) + 50000])[0], known[0], atol=1e-5
        )
        whole = again(mix[None], embedding=known).est[0]
        padded = torch.nn.functional.pad(mix, (0, 90000))[None]
        assert torch.allclose(again(padded, lengths=[len(mix)], embedding=known).est[0, : len(mix)], whole, atol=1e-5)
        doubled = model(mix.repeat(2)[None], embedding=known).est[0, : len(mix)]
        assert torch.allclose(doubled, whole, atol=1e-5)  # 7.3 s and 2.7 s of it again
    assert np.allclose(again.extract(mix.numpy(), enrollment.numpy()), whole.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="fill must be 'zeros' or 'repeat'"):
        ConVoiFilterConfig(fill="ones")


def test_attention_by_distance_equals_the_plain_sum():
    torch.manual_seed(0)
    attention, x = RelativeAttention(16, 2, 0.0).eval(), torch.randn(1, 5, 16)
    positions = relative_positions(5, 16)
    q, k, v = (linear(x).view(5, 2, 8) for linear in (attention.linear_q, attention.linear_k, attention.linear_v))
    p = attention.linear_pos(positions).view(9, 2, 8)
    out = torch.zeros(5, 2, 8)
    for head in range(2):
        for i in range(5):
            scores = torch.stack(
                [
                    (
                        (q[i, head] + attention.pos_bias_u[head]) @ k[j, head]
                        + (q[i, head] + attention.pos_bias_v[head]) @ p[4 - (i - j), head]
                    )
                    / 8**0.5
                    for j in range(5)
                ]
            )
            out[i, head] = scores.softmax(0) @ v[:, head]
    assert torch.allclose(attention(x, positions)[0], attention.linear_out(out.reshape(5, 16)), atol=1e-5)
    by_distance = torch.arange(4, -5, -1.0).expand(1, 1, 5, 9)
    assert torch.equal(shift_to_keys(by_distance)[0, 0], torch.arange(5.0)[:, None] - torch.arange(5.0)[None])


@pytest.mark.parametrize("frames", [5, 8, 626])
def test_rows_for_a_gpu_begin_at_multiples_of_16_bytes(frames):
    bias = shift_to_keys(torch.randn(2, 3, frames, 2 * frames - 1).bfloat16())
    moved = aligned(bias)
    assert torch.equal(moved, bias) and moved.storage_offset() == 0 and moved.stride(-1) == 1
    assert all(stride * moved.element_size() % 16 == 0 for stride in moved.stride()[:-1])


def test_saved_models_come_back_bit_equal(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = ConVoiFilter.from_pretrained(tmp_path)
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_public_format_at_full_size(tmp_path):
    """config.json with nested enh_args beside pytorch_model.bin, as the public checkpoint comes."""
    sizes = {**ENH_ARGS["separator_conf"], "adim": 1024, "aheads": 8, "layers": 4, "linear_units": 896}
    config = {
        "model_type": "voicefilter",
        "sample_rate": 16000,
        "enh_chunk_size": 5,
        "audio_max_lengh": 15,
        "enh_args": {**ENH_ARGS, "separator_conf": sizes},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    full = ConVoiFilter(ConVoiFilterConfig())
    torch.save(full.state_dict(), tmp_path / "pytorch_model.bin")
    again = ConVoiFilter.from_pretrained(tmp_path)
    assert sum(p.numel() for p in again.parameters()) == 54_285_567
    name = "enh_model.separator.conformer.encoders.3.norm_final.weight"
    assert torch.equal(again.state_dict()[name], full.state_dict()[name])


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda state: state.pop("filter_condition_transform.bias"), "missing filter_condition_transform.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected extra"),
        (
            lambda state: state.update({"filter_condition_transform.bias": torch.ones(3)}),
            r"filter_condition_transform.bias is \(3,\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(model, tmp_path, spoil, said):
    model.config.save_pretrained(tmp_path)
    state = dict(model.state_dict())
    spoil(state)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=said):
        ConVoiFilter.from_pretrained(tmp_path)


def test_what_is_no_checkpoint_is_named(model, tmp_path):
    with pytest.raises(CheckpointError, match="no config.json"):
        ConVoiFilter.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not a folder"):
        ConVoiFilter.from_pretrained(tmp_path / "nowhere")
    model.config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text("Not found")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: cannot be read as weights"):
        ConVoiFilter.from_pretrained(tmp_path)
    torch.save({"code": print}, tmp_path / "pytorch_model.bin")  # weights_only refuses code
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        ConVoiFilter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("<html>")
    with pytest.raises(CheckpointError, match="config.json: not a JSON config"):
        ConVoiFilter.from_pretrained(tmp_path)


def test_another_graph_is_refused():
    with pytest.raises(ValueError, match="separator_conf.nonlinear is 'tanh'"):
        ConVoiFilterConfig.from_enh_args({"separator_conf": {"nonlinear": "tanh"}})


def test_extract_takes_any_length_rate_and_channels(model):
    mix, _, enrollment = (wave.numpy() for wave in signals())
    whole = model.extract(mix, enrollment)
    with torch.no_grad():
        plain = model(torch.from_numpy(mix)[None], enrollment=torch.from_numpy(enrollment)[None]).est[0].numpy()
    assert np.allclose(whole, plain, atol=1e-6)
    assert np.allclose(model.extract(np.stack([mix, mix]), enrollment), whole, atol=1e-6)
    assert np.allclose(model.extract(mix, enrollment, batch=1), whole, atol=1e-6)
    for sr, samples in ((8000, 20011), (44100, 70001)):
        est = model.extract(mix[:samples], np.tile(enrollment, 3), sr=sr)
        assert est.shape == (samples,) and est.dtype == np.float32 and np.isfinite(est).all()


def test_cross_fade_leaves_no_seam(model):
    """A model that passes its input through must give it back exactly, however the chunks overlap."""
    mix, _, enrollment = (wave.numpy() for wave in signals(mix_seconds=17.0))
    passing = ConVoiFilter(model.config).eval()
    passing.separate = lambda chunk, embedding: chunk
    for overlap in (0.0, 0.1, 0.25, 0.5):
        assert np.allclose(passing.extract(mix, enrollment, overlap=overlap), mix, atol=1e-6)
    with pytest.raises(ValueError, match="overlap"):
        passing.extract(mix, enrollment, overlap=0.9)


def test_weights_cast_once_give_what_autocast_gives(model):
    """Bit by bit; and the model itself stays as it was, frozen or not."""
    wave = torch.randn(2, 80000, generator=torch.Generator().manual_seed(1))
    embedding, before = torch.randn(2, 512), {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model.separate(wave, embedding)
    with torch.no_grad():
        runs = precision.Runs(model, "bf16")
        assert torch.equal(runs("separate", wave, embedding), expected)
    assert runs.model.enh_model.separator.linear[0].weight.dtype == torch.bfloat16
    assert runs.model.enh_model.separator.linear[0].bias is model.enh_model.separator.linear[0].bias
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    "seconds, faster, least_db, kind",
    [(22, True, 20, "bf16"), (22, True, 90, "fp32"), (22, False, 20, "fp32"), (14, True, 20, "fp32")],
    ids=["long and close", "too far apart", "slower here", "too short for a trial"],
)
def test_auto_takes_bfloat16_where_it_is_faster_and_close(model, monkeypatch, seconds, faster, least_db, kind):
    monkeypatch.setattr(precision, "bf16_is_faster", lambda device: faster)
    monkeypatch.setattr(precision, "LEAST_DB", least_db)
    rng = np.random.default_rng(0)
    beat = 0.2 + np.abs(np.sin(np.arange(seconds * 16000) / 5000))
    mix = (0.1 * beat * rng.standard_normal(len(beat))).astype(np.float32)
    given = (mix, mix[:80000])
    est = model.extract(*given)
    assert np.array_equal(est, model.extract(*given, precision=kind))
    assert not np.array_equal(est, model.extract(*given, precision={"bf16": "fp32", "fp32": "bf16"}[kind]))


def test_several_speeds_give_the_mean_of_their_estimates(model):
    mix, _, enrollment = (wave.numpy() for wave in signals(mix_seconds=7.3))
    slow, rate = 13440, 16000
    heard = [
        torch.from_numpy(to_rate(piece, slow, rate))[None]
        for piece in (np.pad(mix, (0, 80000 * 2 - len(mix)))[:80000], enrollment)
    ]
    with torch.no_grad():
        at_slow = to_rate(model.separate(heard[0], model.embed(heard[1]))[0].numpy(), rate, slow)
    mean = model.extract(mix, enrollment, speeds=(1.0, 0.84))
    plain = model.extract(mix, enrollment)
    assert mean.shape == plain.shape and not np.allclose(mean, plain, atol=1e-4)
    assert np.allclose(mean[:79000], (plain[:79000] + at_slow[:79000]) / 2, atol=1e-5)
    for speeds in ((), (1.0, 0.0), (3.0,)):
        with pytest.raises(ValueError, match="speeds must be"):
            model.extract(mix, enrollment, speeds=speeds)


@pytest.mark.parametrize("speed", [0.84, 0.92, 1.08, 1.18, 1.3333])
def test_other_speeds_keep_time(model, speed):
    """A model that passes its input through must give it back in place, to the end of each chunk."""
    t = np.arange(11 * 16000) / 16000
    mix = (0.3 * np.sin(2 * np.pi * (200 + 100 * t) * t)).astype(np.float32)
    passing = ConVoiFilter(model.config).eval()
    passing.separate = lambda chunk, embedding: chunk
    est = passing.extract(mix, mix[:48000], speeds=(speed,), overlap=0.5)
    assert np.abs(est - mix)[800:-800].max() < 0.01


@pytest.mark.parametrize(
    "mix, enrollment, said",
    [
        (np.ones(16000), np.zeros(0), "enrollment: empty"),
        (np.ones(16000), np.zeros(48000), "enrollment: silent"),
        (np.ones(16000), np.ones(8000), "enrollment: 0.50 s is too short"),
        (np.full(16000, np.nan), np.ones(48000), "mix: holds NaN"),
        (np.zeros(0), np.ones(48000), "mix: empty"),
        (np.ones((2, 3, 4)), np.ones(48000), "mix: expected"),
    ],
)
def test_bad_input_to_extract_is_named(model, mix, enrollment, said):
    with pytest.raises(ValueError, match=said):
        model.extract(mix, enrollment)


@pytest.mark.parametrize("peak", [0.0, 2 / 32768])
def test_a_mixture_without_sound_is_a_warning(model, peak):
    mix = peak * np.sign(np.sin(np.arange(16000) / 5)).astype(np.float32)
    enrollment = np.random.default_rng(0).standard_normal(4 * 16000).astype(np.float32) * 0.1
    with pytest.warns(UserWarning, match="mix: silent, and so is the estimate. Was the microphone on"):
        model.extract(mix, enrollment)


def test_a_short_enrollment_is_a_warning(model):
    mix, _, enrollment = signals()
    with pytest.warns(UserWarning, match="enrollment: 2.0 s is short"):
        model.extract(mix[:16000], enrollment[:32000])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*short")
        model.extract(mix[:16000], enrollment)


def test_embedding_or_enrollment_but_not_both(model):
    mix, _, enrollment = signals()
    with pytest.raises(ValueError, match="either embedding or enrollment"):
        model(mix[None])
    with pytest.raises(ValueError, match="2 rows and the embedding 1"):
        model(mix[None].repeat(2, 1), enrollment=enrollment)


def test_log_front_keeps_the_long_term_spectrum_that_the_public_front_takes_away():
    """A wave coloured by a filter, and the same wave plain: one embedding by the public front, two by the other; names
    are the same.
    """
    torch.manual_seed(0)
    sizes = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_dim=8, xvector_channels=16, xvector_pool=16)
    public, log = (
        ConVoiFilter(ConVoiFilterConfig(**sizes)).eval(),
        ConVoiFilter(ConVoiFilterConfig(**sizes, xvector_front="log")).eval(),
    )
    log.load_state_dict(public.state_dict())
    wave = torch.randn(2, 32000)
    spectrum = torch.fft.rfft(wave)
    coloured = torch.fft.irfft(spectrum * torch.linspace(2, 0.1, spectrum.shape[1]), n=32000)
    first = {
        name: [model.xvector_model.sincnet(x).mean(-1) for x in (wave, coloured)]
        for name, model in (("public", public), ("log", log))
    }
    moved = {name: (a - b).abs().mean().item() for name, (a, b) in first.items()}
    assert moved["log"] > 3 * moved["public"]
    with pytest.raises(ValueError, match="xvector_front must be"):
        ConVoiFilter(ConVoiFilterConfig(**sizes, xvector_front="mel"))


def test_forms_of_attention_agree_in_value_and_gradient(monkeypatch):
    torch.manual_seed(0)
    model = ConVoiFilter(
        ConVoiFilterConfig(
            adim=32,
            aheads=4,
            layers=2,
            linear_units=16,
            xvector_dim=8,
            xvector_channels=16,
            xvector_pool=16,
            enh_chunk_size=0.5,
        )
    ).eval()
    waves, found = torch.randn(3, 2, 8000), {}
    for form in ("plain", "fused"):
        monkeypatch.setattr(RelativeAttention, "form", form)
        model.zero_grad()
        output = model(waves[0], enrollment=waves[1], target=waves[2])
        output.loss.backward()
        found[form] = (
            output.est.detach(),
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]),
        )
    for plain, fused in zip(*found.values()):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    assert found["plain"][1].abs().sum() > 0


@pytest.mark.parametrize("frames", [6, 7, 13, 20])
def test_a_depthwise_convolution_in_pieces_is_the_whole_one_in_value_and_gradient(monkeypatch, frames):
    torch.manual_seed(0)
    layer, given, found = torch.nn.Conv1d(3, 3, 5, padding=2, groups=3), torch.randn(2, 3, frames), {}
    for longest in (math.inf, 6):
        monkeypatch.setattr(conformer, "LONGEST", longest)
        x = given.clone().requires_grad_()
        y = conformer.depthwise(layer, x)
        wanted = [x, layer.weight, layer.bias]
        found[longest] = [y, *torch.autograd.grad((y * torch.arange(y.shape[-1])).sum(), wanted)]
    for whole, cut in zip(*found.values()):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-5)


def test_only_a_depthwise_convolution_that_learns_goes_in_pieces(monkeypatch):
    monkeypatch.setattr(conformer, "LONGEST", 4)
    layer, x, called = torch.nn.Conv1d(3, 3, 5, padding=2, groups=3), torch.randn(2, 3, 9), []
    layer.register_forward_hook(lambda *_: called.append("whole"))
    conformer.depthwise(layer, x)
    assert not called
    conformer.depthwise(layer.requires_grad_(False), x)
    with torch.no_grad():
        conformer.depthwise(layer.requires_grad_(True), x)
    assert called == ["whole", "whole"]
