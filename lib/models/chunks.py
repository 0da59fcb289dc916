"""Run an extractor over waves of any length and rate: chunks, cross-fades, checks of the input."""

import warnings

import numpy as np
import torch

from lib.models.enrollment import SILENT, checked
from lib.models.precision import Runs, choose
from lib.models.resampling import to_rate

CANCEL_DB = 12.0  # as in lib.audio: a mean so far below the loudest channel
FAINT = 1e-4  # a mixture whose peak lies below this (-80 dBFS, three steps of 16 bits) holds no voice
LOUD, TOO_LOUD = 4.0, 100.0  # as in lib.audio: peaks that are said, and refused
SPEEDS = (
    0.84,
    0.92,
    1.0,
    1.08,
    1.18,
)  # the same words at these speeds are as many voices to the model, and its errors differ


def mono(wave, name):
    """numpy float32 `(samples,)` of a wave `(samples,)` or `(channels, samples)`; ValueError names what is wrong with
    `name`.

    The twin of `lib.audio.mono`: integers by their range, channels that cancel, a peak far over 1.
    """
    wave = _floats(wave, name)
    if not wave.size:
        raise ValueError(f"{name}: empty. Give at least one second of audio.")
    if wave.ndim == 2:
        wave = _mixdown(wave if wave.shape[0] <= wave.shape[1] else wave.T, name)
    if wave.ndim != 1:
        raise ValueError(f"{name}: expected (samples,) or (channels, samples), got shape {wave.shape}.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{name}: holds NaN or infinite samples. Read or export the file again.")
    if (peak := float(np.abs(wave).max())) > TOO_LOUD:
        raise ValueError(
            f"{name}: a peak of {peak:.0f}, where full scale is 1. Divide by the range of the samples (32768 for 16"
            " bits)."
        )
    if peak > LOUD:
        warnings.warn(f"{name}: a peak of {peak:.1f}, far above full scale, which is 1: turn it down.", stacklevel=4)
    return wave


def _floats(wave, name):
    """float32; integers scaled by the range of their type, unsigned ones around its middle."""
    wave = wave.detach().cpu() if isinstance(wave, torch.Tensor) else wave
    wave = np.asarray(wave.float() if getattr(wave, "dtype", None) == torch.bfloat16 else wave)
    if wave.dtype.kind == "f":
        return wave.astype(np.float32, copy=False)
    if wave.dtype.kind in "OUS":
        raise ValueError(f"{name}: expected samples, got {str(wave)[:40]}. Read the file first (lib.audio.read).")
    if wave.dtype.kind not in "iu" or wave.dtype.itemsize > 4:
        raise ValueError(
            f"{name}: samples of the type {wave.dtype} have no known range. Give floats in [-1, 1], such as the samples"
            " divided by 32768 where they have 16 bits."
        )
    half = 2.0 ** (8 * wave.dtype.itemsize - 1)
    return ((wave.astype(np.float64) - half * (wave.dtype.kind == "u")) / half).astype(np.float32)


def _mixdown(channels, name):
    """The mean of `(channels, samples)`, or the loudest channel where the mean lies `CANCEL_DB` below it."""
    mean = channels.mean(0)
    if len(channels) < 2 or not np.isfinite(channels).all():
        return mean
    powers = [float(np.mean(np.square(one, dtype=np.float64))) for one in channels]
    loudest, floor = int(np.argmax(powers)), 10 ** (-CANCEL_DB / 10)
    if powers[loudest] < SILENT**2 or np.mean(np.square(mean, dtype=np.float64)) > floor * powers[loudest]:
        return mean
    warnings.warn(
        f"{name}: its channels cancel each other (their mean lies over {CANCEL_DB:g} dB below the loudest): channel"
        f" {loudest + 1} alone is taken.",
        stacklevel=5,
    )
    return channels[loudest]


def fade(chunk, shared):
    """Weights `(chunk,)` that rise and fall as squared sines over `shared` samples, so that neighbours sum to one."""
    weights = torch.ones(chunk)
    if shared:
        rise = torch.sin(0.5 * np.pi * (torch.arange(shared) + 0.5) / shared) ** 2
        weights[:shared], weights[chunk - shared :] = rise, rise.flip(0)
    return weights


def rows_to_rate(waves, sr_from, sr_to):
    """`to_rate` for torch `(batch, samples)`."""
    return (
        waves
        if sr_from == sr_to
        else torch.stack([torch.from_numpy(to_rate(wave.numpy(), sr_from, sr_to)) for wave in waves])
    )


@torch.no_grad()
def extract(model, mix, enrollment, sr, overlap, batch, progress, precision="auto", speeds=(1.0,)):
    """See `ConVoiFilter.extract`. Memory holds the waves and `batch` chunks, so an hour fits into two gigabytes."""
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"overlap must be from 0 to 0.5 of a chunk, got {overlap}")
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {precision!r}")
    if not len(speeds) or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ValueError(f"speeds must be one or more from 0.5 to 2, got {speeds}")
    mix, enrollment = mono(mix, "mix"), checked(mono(enrollment, "enrollment"), sr)
    if np.ptp(mix) < 2 * FAINT:
        warnings.warn("mix: silent, and so is the estimate. Was the microphone on?", stacklevel=3)
    rate, chunk, device = model.config.sample_rate, model.chunk, next(model.parameters()).device
    wave, was_training = torch.from_numpy(to_rate(mix, sr, rate)), model.training
    model.eval()
    try:
        enrollment = torch.from_numpy(to_rate(enrollment, sr, rate))[None]
        enrolled = {told: rows_to_rate(enrollment, told, rate) for told in [round(rate * speed) for speed in speeds]}
        starts = _starts(len(wave), chunk, int(overlap * chunk))
        if precision == "auto":
            loudest = sorted(starts, key=lambda start: -float(wave[start : start + chunk].square().sum()))
            runs = choose(model, len(starts), batch, lambda runs, count: _tried(runs, wave, enrolled, loudest[:count]))
        else:
            runs = Runs(model, precision)
        embeddings = {told: runs("embed", wave.to(device)) for told, wave in enrolled.items()}
        groups = [starts[i : i + batch] for i in range(0, len(starts), batch)]
        est = _overlap_add(runs, wave, embeddings, int(overlap * chunk), progress(groups) if progress else groups)
    finally:
        model.train(was_training)
    est = to_rate(est.numpy(), rate, sr)[: len(mix)]
    return np.pad(est, (0, len(mix) - len(est))).astype(np.float32)


def _starts(samples, chunk, shared):
    """Where chunks begin that share `shared` samples with their neighbours and cover `samples`."""
    return list(range(0, max(samples - shared, 1), chunk - shared))


def _tried(runs, wave, enrolled, starts):
    """The estimate of the chunks that begin at `starts`, told the first of the rates."""
    model = runs.model
    told, voice = next(iter(enrolled.items()))
    pieces = torch.stack([_piece(wave, start, model.chunk, model.config.fill) for start in starts])
    return _mean_estimate(runs, pieces, {told: runs("embed", voice.to(runs.device))})


def _overlap_add(runs, wave, embeddings, shared, groups):
    model = runs.model
    chunk, samples = model.chunk, len(wave)
    length = _starts(samples, chunk, shared)[-1] + chunk
    weights, est, total = fade(chunk, shared), torch.zeros(length), torch.zeros(length)
    for group in groups:
        pieces = torch.stack([_piece(wave, start, chunk, model.config.fill) for start in group])
        for start, piece in zip(group, _mean_estimate(runs, pieces, embeddings)):
            est[start : start + chunk] += piece * weights
            total[start : start + chunk] += weights
    return (est / total)[:samples]


def _mean_estimate(runs, pieces, embeddings):
    """The mean of what a model (`precision.Runs`) says of `pieces` `(batch, samples)` when told that their rate is this
    or that: `embeddings` `{rate: (1, 512)}`.
    """
    rate, samples, total = runs.model.config.sample_rate, pieces.shape[1], 0
    for told, embedding in embeddings.items():
        heard = rows_to_rate(pieces, told, rate).to(embedding.device)
        est = runs("separate", heard, embedding.expand(len(pieces), -1)).float().cpu()
        est = rows_to_rate(est, rate, told)[:, :samples]
        total = total + torch.nn.functional.pad(est, (0, samples - est.shape[1]))
    return total / len(embeddings)


def _piece(wave, start, chunk, fill):
    """`chunk` samples from `start` on; behind the end of the wave what `ConVoiFilter.cut` puts there."""
    if start + chunk <= len(wave):
        return wave[start : start + chunk]
    if fill == "repeat":
        return wave[torch.arange(start, start + chunk) % len(wave)]
    return torch.nn.functional.pad(wave[start:], (0, start + chunk - len(wave)))
