"""Training losses. They take `(est, ref)` in this order; waves are float32 `(batch, samples)`."""

import torch

ABSENT = 0.3  # weight of the level of an answer that should be silence, beside SI-SNR; both in dB
SILENT_DB = -20.0  # an estimate so far under the mixture is silence
SILENT = 1e-10  # mean power, -100 dBFS: a target fainter than this is nobody
WINDOWS = (256, 512, 1024)  # samples at 16 kHz: 16, 32 and 64 ms


def only_counting(lengths, *waves, centred=False):
    """float32 `waves` `(batch, samples)` with zeros past `lengths` `(batch,)` samples; None: all of them count.
    centred: without the mean of what counts.
    """
    if lengths is None:
        return [wave.float() - wave.float().mean(-1, keepdim=True) * centred for wave in waves]
    lengths = torch.as_tensor(lengths, device=waves[0].device)[:, None]
    counts = torch.arange(waves[0].shape[-1], device=lengths.device)[None] < lengths
    waves = [wave.float() * counts for wave in waves]
    fewest = lengths.clamp_min(1)
    return [(wave - wave.sum(-1, keepdim=True) / fewest) * counts for wave in waves] if centred else waves


def spectral_distance(est, ref, lengths=None, windows=WINDOWS, power=0.3):
    """How far compressed magnitudes lie apart, one value an item: mean over several windows, 0 for equal waves.

    est, ref: `(batch, samples)`; lengths as in `negative_si_snr`. Each wave is first brought to an RMS of 1, so that
    level does not count; magnitudes to the power of 0.3 weigh faint parts as the ear does. Source: Yamamoto et al.,
    Parallel WaveGAN (arXiv 1910.11480), for several resolutions; Braun and Tashev (arXiv 2009.12286), for the
    compression.
    """
    est, ref = only_counting(lengths, est, ref)
    scale = ref.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-5)
    est = est / est.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-5)
    distances = []
    for size in windows:
        window = torch.hann_window(size, device=est.device)
        one, two = (
            (
                torch.view_as_real(torch.stft(wave, size, size // 4, window=window, return_complex=True))
                .square()
                .sum(-1)
                + 1e-7
            )
            ** (power / 2)
            for wave in (est, ref / scale)
        )
        distances.append((one - two).abs().mean((1, 2)))
    return torch.stack(distances).mean(0)


def negative_si_snr(est, ref, lengths=None, eps=1e-8):
    """Negative scale-invariant signal-to-noise ratio in dB, one value an item: lower is better.

    est, ref: `(batch, samples)`; lengths: samples that count in each item, `(batch,)`, the rest is ignored.
    Both waves are made zero-mean first. A silent reference gives a large positive value, not NaN.
    Raises ValueError when the shapes differ. Source: Luo and Mesgarani, TasNet (arXiv 1711.00541); Le Roux et al.,
    arXiv 1811.02508.
    """
    if est.shape != ref.shape:
        raise ValueError(f"est and ref must have one shape; got {tuple(est.shape)} and {tuple(ref.shape)}")
    est, ref = only_counting(lengths, est, ref, centred=True)
    scaled = (est * ref).sum(-1, keepdim=True) / (ref.square().sum(-1, keepdim=True) + eps) * ref
    noise = est - scaled
    return -10 * torch.log10((scaled.square().sum(-1) + eps) / (noise.square().sum(-1) + eps))


def residual_level(est, mix, lengths=None, floor_db=30.0):
    """Level of `est` over that of `mix` in dB, one value an item: the loss where the asked person is silent.

    est, mix: `(batch, samples)`; lengths as in `negative_si_snr`. Under `floor_db` below the mixture there is next to
    nothing left to gain, so that silence is not bought at the price of everything else.
    """
    est, mix = only_counting(lengths, est, mix)
    power, floor = mix.square().mean(-1), 10 ** (-floor_db / 10)
    return 10 * torch.log10((est.square().mean(-1) + floor * power + 1e-10) / (power + 1e-10))


def level_deviation(est, ref, lengths=None, most=30.0):
    """By how many dB `est` is louder or fainter than `ref`, one value an item, from 0 to `most`; lengths as above.

    SI-SNR does not see the level. A model that is also taught silence would hedge with it: whisper where it doubts.
    """
    one, two = (wave.square().mean(-1) + 1e-10 for wave in only_counting(lengths, est, ref))
    return (10 * torch.log10(one / two)).abs().clamp_max(most)


def speaks(ref):
    """Whether anybody is heard in each target `(batch, samples)`: bool `(batch,)`. Where not, silence is the answer."""
    return ref.float().square().mean(-1) > SILENT


def extraction_loss(est, ref, mix, lengths=None):
    """What extraction is trained by, one value an item: `negative_si_snr`, and where the target is silent `ABSENT`
    times `residual_level`. Shapes as there.
    """
    loss = negative_si_snr(est, ref, lengths)
    return torch.where(speaks(ref), loss, ABSENT * residual_level(est, mix, lengths))
