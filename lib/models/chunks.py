"""Run an extractor over waves of any length and rate: chunks, cross-fades, checks of the input."""

import contextlib
import warnings

import numpy as np
import torch

from lib.models.resampling import to_rate

SILENT = 1e-5  # a peak below this (-100 dBFS) is taken as silence
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
    """
    wave = wave.detach().cpu().float().numpy() if isinstance(wave, torch.Tensor) else np.asarray(wave, dtype=np.float32)
    if wave.ndim == 2:
        wave = wave.mean(0 if wave.shape[0] <= wave.shape[1] else 1)
    if wave.ndim != 1:
        raise ValueError(f"{name}: expected (samples,) or (channels, samples), got shape {wave.shape}")
    if not wave.size:
        raise ValueError(f"{name}: empty. Give at least one second of audio.")
    if not np.isfinite(wave).all():
        raise ValueError(f"{name}: holds NaN or infinite samples. Read or export the file again.")
    return wave


def check_enrollment(wave, sr):
    """ValueError when the enrollment is silent or under 1 s, a warning under 3 s."""
    seconds = len(wave) / sr
    if np.abs(wave).max() < SILENT:
        raise ValueError("enrollment: silent. Give a few seconds in which the wanted person speaks.")
    if seconds < 1:
        raise ValueError(
            f"enrollment: {seconds:.2f} s is too short. Give at least 1 s, better 3 s or more, of the wanted person."
        )
    if seconds < 3:
        warnings.warn(f"enrollment: {seconds:.1f} s is short; from 3 s on the voice is known better", stacklevel=4)


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
def extract(model, mix, enrollment, sr, overlap, batch, progress, precision="fp32", speeds=(1.0,)):
    """See `ConVoiFilter.extract`. Memory holds the waves and `batch` chunks, so an hour fits into two gigabytes."""
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"overlap must be from 0 to 0.5 of a chunk, got {overlap}")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be fp32 or bf16, got {precision!r}")
    if not len(speeds) or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ValueError(f"speeds must be one or more from 0.5 to 2, got {speeds}")
    mix, enrollment = mono(mix, "mix"), mono(enrollment, "enrollment")
    check_enrollment(enrollment, sr)
    rate, chunk, device = model.config.sample_rate, model.chunk, next(model.parameters()).device
    wave, was_training = torch.from_numpy(to_rate(mix, sr, rate)), model.training
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            enrollment = torch.from_numpy(to_rate(enrollment, sr, rate))[None]
            embeddings = {
                told: model.embed(rows_to_rate(enrollment, told, rate).to(device))
                for told in [round(rate * speed) for speed in speeds]
            }
            est = _overlap_add(
                model, wave, embeddings, chunk, int(overlap * chunk), batch, progress or (lambda starts: starts)
            )
    finally:
        model.train(was_training)
    est = to_rate(est.numpy(), rate, sr)[: len(mix)]
    return np.pad(est, (0, len(mix) - len(est))).astype(np.float32)


def _overlap_add(model, wave, embeddings, chunk, shared, batch, progress):
    samples, hop = len(wave), chunk - shared
    starts = list(range(0, max(samples - shared, 1), hop))
    weights = fade(chunk, shared)
    est, total = torch.zeros(starts[-1] + chunk), torch.zeros(starts[-1] + chunk)
    for group in progress([starts[i : i + batch] for i in range(0, len(starts), batch)]):
        pieces = torch.stack([_piece(wave, s, chunk, model.config.fill) for s in group])
        for start, piece in zip(group, _mean_estimate(model, pieces, embeddings)):
            est[start : start + chunk] += piece * weights
            total[start : start + chunk] += weights
    return (est / total)[:samples]


def _mean_estimate(model, pieces, embeddings):
    """The mean of what `model` says of `pieces` `(batch, samples)` when told that their rate is this or that:
    `embeddings` `{rate: (1, 512)}`.
    """
    rate, samples, total = model.config.sample_rate, pieces.shape[1], 0
    for told, embedding in embeddings.items():
        heard = rows_to_rate(pieces, told, rate).to(embedding.device)
        est = rows_to_rate(model.separate(heard, embedding.expand(len(pieces), -1)).float().cpu(), rate, told)[
            :, :samples
        ]
        total = total + torch.nn.functional.pad(est, (0, samples - est.shape[1]))
    return total / len(embeddings)


def _piece(wave, start, chunk, fill):
    """`chunk` samples from `start` on; behind the end of the wave what `ConVoiFilter.cut` puts there."""
    if start + chunk <= len(wave):
        return wave[start : start + chunk]
    if fill == "repeat":
        return wave[torch.arange(start, start + chunk) % len(wave)]
    return torch.nn.functional.pad(wave[start:], (0, start + chunk - len(wave)))
