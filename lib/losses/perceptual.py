"""How different two waves sound: a loss that follows PESQ, whose own score has no gradient.

The steps are those of ITU-T Recommendations P.862 (2001) and P.862.2 (2007, wide band): both waves at one level, power
in bands of equal width for the ear, linear filtering and slow changes of level forgiven in part, loudness, and what
differs in it, where what was added weighs more than what is missing. Bands, hearing threshold and loudness come from
formulas in place of the standard's tables, nothing is aligned in time, and all of it is smooth enough to learn from.
Source of the idea: Martín-Doñas et al., "A deep learning loss function based on the perceptual evaluation of the speech
quality", IEEE Signal Processing Letters 25 (2018). torch-pesq has the same with the standard's tables; beside a CPU
build of PyTorch its filters run sample by sample, which is too slow to train with.
"""

import functools

import torch

from lib.losses import only_counting

RATE = 16_000  # Hz
SIZE, HOP = 512, 256  # samples: frames of 32 ms, half overlapping
BANDS = 49
LEVEL_DB = 97.0  # dB SPL at which both waves are heard; 79 in the standard, whose filters add the rest
SPEECH = (325.0, 3250.0)  # Hz: the power in here is the level
EXPONENT = 0.23  # of loudness over power, Zwicker's law
THIRD = (20, 10)  # frames of a third of a second, and how far to the next


def _bark(hertz):
    """Zwicker and Terhardt's critical-band rate (JASA 68, 1980)."""
    return 13 * torch.atan(0.00076 * hertz) + 3.5 * torch.atan((hertz / 7500) ** 2)


@functools.cache
@torch.inference_mode(False)  # a table made in inference would be of no use in training
def _ear(device):
    """`(bins, bands)` which bin belongs to which band, `(bins,)` gain of the receiving end, `(bins,)` which count for
    the level, `(bands,)` hearing threshold as power, the width of a band in Bark.
    """
    hertz = torch.arange(SIZE // 2 + 1, dtype=torch.float64) * RATE / SIZE
    width = _bark(hertz[-1]) / BANDS
    band = (_bark(hertz) / width).long().clamp_max(BANDS - 1)
    bands = torch.nn.functional.one_hot(band, BANDS).double()
    bands[0] = 0  # the mean of the wave is not heard
    middle = (hertz[:, None] * bands).sum(0) / bands.sum(0)
    kilo = middle / 1000  # Terhardt (Hearing Research 1, 1979)
    threshold = 3.64 * kilo**-0.8 - 6.5 * torch.exp(-0.6 * (kilo - 3.3) ** 2) + 1e-3 * kilo**4
    gain = hertz**2 / (hertz**2 + 100.0**2)  # P.862.2 listens over headphones: little under 100 Hz
    level = (hertz >= SPEECH[0]) & (hertz <= SPEECH[1])
    made = (bands, gain, level.double(), 10 ** (threshold / 10))
    return *(values.float().to(device) for values in made), float(width)


def _loudness(power, threshold):
    """Sone a band of `power`, Zwicker's law; one sone for 1 kHz at 40 dB."""
    one = (1e4 + 1) ** EXPONENT - 1
    heard = (0.5 + 0.5 * power / threshold).clamp_min(1.0) ** EXPONENT - 1
    return (2 * threshold) ** EXPONENT * heard / (one * 0.5**EXPONENT)


def _powers(wave):
    """Power in each band of each frame, `(batch, frames, bands)`, of `wave` `(batch, samples)` heard at `LEVEL_DB`."""
    bands, gain, level, *_ = _ear(wave.device)
    window = torch.hann_window(SIZE, device=wave.device)
    spectrum = torch.stft(wave, SIZE, HOP, window=window, center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)  # (batch, frames, bins)
    power = power / ((power * level).sum(-1).mean(-1)[:, None, None] + 1e-9) * 10 ** (LEVEL_DB / 10)
    return (power * gain) @ bands


def _norm(values, width, power):
    """`values` `(batch, frames, bands)` over all bands, to the power of `power`, as P.862 adds them up."""
    total = width * BANDS
    return total * (((values * width) ** power).sum(-1) / total + 1e-12) ** (1 / power)


def _over_time(disturbance):
    """One value an item of `(batch, frames)`: the worst of each third of a second weighs most."""
    size, step = THIRD
    pieces = disturbance.unfold(1, min(size, disturbance.shape[1]), step)
    return ((pieces**6).mean(-1) + 1e-24).pow(1 / 6).square().mean(-1).sqrt()


def perceptual_distance(est, ref, lengths=None):
    """How much worse `est` sounds than `ref`, one value an item: about the points that PESQ takes off before it bends
    them to its scale from 1 to 4.6. 0 for equal waves; their level does not count.

    est, ref: `(batch, samples)` at 16 kHz, 512 or more; lengths as in `losses.negative_si_snr`. What is added weighs
    more than what is missing, so silence is better than much noise: it stands beside SI-SNR, and never alone. Raises
    ValueError for other shapes.
    """
    if est.shape != ref.shape or est.dim() != 2 or not len(est) or est.shape[-1] < SIZE:
        raise ValueError(
            f"est and ref must have one shape (batch, samples) of {SIZE} samples or more; got {tuple(est.shape)} and"
            f" {tuple(ref.shape)}"
        )
    with torch.autocast(est.device.type, enabled=False):
        *_, threshold, width = _ear(est.device)
        est, ref = (_powers(wave) for wave in only_counting(lengths, est, ref, centred=True))

        # a fixed filter is forgiven up to 20 dB, and most of a change of level from frame to frame
        audible = [torch.where(power > 100 * threshold, power, 0.0) for power in (est, ref)]
        speech = ((audible[1].sum(-1, keepdim=True)) > 1e7).float()
        mean = [(power * speech).sum(1, keepdim=True) / (speech.sum(1, keepdim=True) + 1e-6) for power in audible]
        ref = ref * ((mean[0] + 1e3) / (mean[1] + 1e3)).clamp(0.01, 100)
        heard = [torch.where(power > threshold, power, 0.0).sum(-1, keepdim=True) for power in (est, ref)]
        gain = (heard[1] + 5e3) / (heard[0] + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], 1).clamp(3e-4, 5)
        est = est * gain

        one, two = _loudness(est, threshold), _loudness(ref, threshold)
        apart = (one - two).abs() - 0.25 * torch.minimum(one, two)  # so little is not noticed
        apart = apart.clamp_min(0)
        added = ((est + 50) / (ref + 50)) ** 1.2
        added = torch.where(added < 3, 0.0, added.clamp_max(12))
        weight = ((heard[1][..., 0] + 1e5) / 1e7) ** 0.04
        symmetric = (_norm(apart, width, 2) / weight).clamp_max(45)
        asymmetric = (_norm(apart * added, width, 1) / weight).clamp_max(45)
        return 0.1 * _over_time(symmetric) + 0.0309 * _over_time(asymmetric)
