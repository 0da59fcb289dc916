"""The loss that follows PESQ, against PESQ itself on noisy, muffled and clipped voices."""

import numpy as np
import pytest
import torch
from made_voices import SR, syllables
from pesq import pesq
from scipy.signal import butter, sosfilt
from scipy.stats import spearmanr

from lib.losses.perceptual import perceptual_distance


def pair(seed, kind, amount):
    """A made voice of 3 s, and the same with `amount` of damage of this `kind`."""
    rng = np.random.default_rng(seed)
    wave = syllables(rng, rng.uniform(90, 250), 3.0)
    noise = rng.standard_normal(len(wave)) * np.sqrt(np.mean(wave**2))
    if kind == "noise":
        heard = wave + noise * amount
    elif kind == "clipped":
        heard = wave.clip(*np.quantile(wave, (amount, 1 - amount)))
    else:
        heard = sosfilt(butter(4, 4000 * (1 - amount), fs=SR, output="sos"), wave) + 0.1 * noise
    return torch.from_numpy(wave), torch.from_numpy(heard.astype(np.float32))


def points(ref, est):
    """What PESQ takes off 4.5 before it bends the result to its scale (ITU-T P.862.2)."""
    mos = pesq(SR, ref.numpy(), est.numpy(), "wb")
    return 4.5 - (3.8224 - np.log(4 / (mos - 0.999) - 1)) / 1.3669


def test_it_ranks_as_pesq_does():
    pairs = [
        pair(seed, kind, amount)
        for seed in range(3)
        for kind in ("noise", "clipped", "muffled")
        for amount in (0.01, 0.05, 0.2, 0.4)
    ]
    ours = [perceptual_distance(est[None], ref[None]).item() for ref, est in pairs]
    theirs = [points(ref, est) for ref, est in pairs]
    assert spearmanr(ours, theirs).statistic > 0.9
    assert 0.7 < np.polyfit(theirs, ours, 1)[0] < 1.3  # about its points, too


def test_a_wave_that_follows_its_gradient_gets_a_better_pesq():
    ref, est = pair(0, "noise", 0.3)
    spectrum = torch.stft(est, 512, 256, window=torch.hann_window(512), return_complex=True)
    mask = torch.zeros(spectrum.shape, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=0.1)

    def masked():
        return torch.istft(spectrum * torch.sigmoid(2 + mask), 512, 256, window=torch.hann_window(512), length=len(est))

    for _ in range(30):
        optimizer.zero_grad()
        perceptual_distance(masked()[None], ref[None]).sum().backward()
        optimizer.step()
    better, before = points(ref, masked().detach()), points(ref, est)
    assert better < before - 0.3


def test_equal_waves_are_not_apart_and_the_level_does_not_count():
    ref, est = pair(1, "noise", 0.2)
    assert perceptual_distance(3 * ref[None], ref[None]).item() == pytest.approx(0, abs=1e-4)
    assert perceptual_distance(ref[None] + 0.1, ref[None]).item() == pytest.approx(0, abs=1e-3)  # nor a constant
    once, twice = (perceptual_distance(scale * est[None], ref[None]).item() for scale in (1, 2))
    assert once == pytest.approx(twice, rel=1e-4) and once > 0.5


def test_what_lies_past_the_length_does_not_count():
    ref, est = (torch.stack([wave, wave]) for wave in pair(2, "noise", 0.2))
    ref[1, 32000:] = 0
    clean = est.clone()
    clean[1, 32000:] = 0
    loud = est.clone()
    loud[1, 32000:] = 5.0
    lengths = torch.tensor([48000, 32000])
    expected = perceptual_distance(clean, ref, lengths)
    torch.testing.assert_close(perceptual_distance(loud, ref, lengths), expected)
    assert perceptual_distance(loud, ref)[1] != pytest.approx(expected[1].item(), rel=0.05)


@pytest.mark.parametrize("silent", ["est", "ref", "both"])
def test_silence_and_short_pieces_give_numbers(silent):
    with torch.inference_mode():
        perceptual_distance(torch.randn(1, 600), torch.randn(1, 600))  # what it keeps must serve training too
    est, ref = torch.randn(2, 600), torch.randn(2, 600)
    est, ref = est * (silent == "ref"), ref * (silent == "est")
    est.requires_grad_()
    loss = perceptual_distance(est, ref)
    loss.sum().backward()
    assert loss.isfinite().all() and est.grad.isfinite().all()


@pytest.mark.parametrize("shapes", [((2, 600), (1, 600)), ((600,), (600,)), ((2, 400), (2, 400)), ((0, 600), (0, 600))])
def test_other_shapes_are_one_sentence(shapes):
    with pytest.raises(ValueError, match="one shape .batch, samples. of 512 samples or more"):
        perceptual_distance(*(torch.zeros(shape) for shape in shapes))


def test_bfloat16_does_not_blunt_it():
    ref, est = (wave[None] for wave in pair(3, "noise", 0.1))
    plain = perceptual_distance(est, ref).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert perceptual_distance(est, ref).item() == pytest.approx(plain, rel=1e-5)
        loss = perceptual_distance(est.bfloat16(), ref)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(plain, rel=0.05)
