"""Read, write, resample and level audio. Waves are float32, mono, `(samples,)`, in [-1, 1]; `sr` is in Hz."""

import os
import tempfile
from pathlib import Path

import numpy as np
import soundfile

SILENCE_DB = -120.0  # what the level of a silent wave reads as, instead of minus infinity


class AudioError(ValueError):
    """A file or a wave cannot be used; the message names it and says what to do."""


def read(path, sr=16000):
    """Read any audio file as mono float32 `(samples,)` at `sr` Hz.

    soundfile reads wav, flac, ogg and mp3; PyAV (ffmpeg's libraries) reads the rest: m4a, aac, g722, gsm, video files.
    Raises `AudioError`, naming the file, when it is missing, empty, corrupt, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file. Check the path and its spelling.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes). Copy or record it again.")
    try:
        wave, rate = _read_soundfile(path)
    except soundfile.LibsndfileError:
        wave, rate = _read_av(path)
    if wave.shape[0] == 0:
        raise AudioError(f"{path}: the file holds no audio samples. Copy or record it again.")
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: the audio holds NaN or infinite samples. Export it again.")
    return resample(wave.mean(axis=1), rate, sr)


def _read_soundfile(path):
    wave, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return wave, rate


def _read_av(path):
    """Decode `path` with PyAV into `(samples, channels)` float32."""
    import av

    raw = {".g722": "g722", ".gsm": "gsm"}.get(path.suffix.lower())
    try:
        with av.open(str(path), format=raw) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
            frames += [out.to_ndarray() for out in resampler.resample(None)]
            rate = stream.codec_context.sample_rate
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise AudioError(
            f"{path}: cannot be decoded as audio ({error}). Is it damaged, or not audio at all?"
        ) from error
    if not frames:
        raise AudioError(f"{path}: the file holds no audio samples. Copy or record it again.")
    return np.concatenate(frames, axis=1).T.astype(np.float32), rate


def write(path, wave, sr=16000):
    """Write `wave` `(samples,)` as 16-bit PCM wav or flac (by suffix), whole or not at all.

    The file appears under its name only when it is complete, so a full disk or a kill leaves what was there before.
    Raises `AudioError` when the wave would clip (a peak over 1) or is not finite.
    """
    path, wave = Path(path), np.asarray(wave, dtype=np.float32)
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: refused to write NaN or infinite samples.")
    if wave.size and np.abs(wave).max() > 1.0:
        raise AudioError(
            f"{path}: refused to write a clipped wave (peak {np.abs(wave).max():.2f}); scale it below 1 first."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        soundfile.write(part, _to_int16(wave), sr, subtype="PCM_16")
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _to_int16(wave):
    """Rounded to the grid that `read` divides by (libsndfile would scale by 32767 and come out a trace fainter)."""
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)


def resample(wave, sr_from, sr_to):
    """Resample `wave` along its last axis from `sr_from` to `sr_to` Hz (soxr, high quality); float32."""
    wave = np.asarray(wave, dtype=np.float32)
    if sr_from == sr_to:
        return wave
    import soxr

    moved = np.moveaxis(wave, -1, 0)
    return np.ascontiguousarray(np.moveaxis(soxr.resample(moved, sr_from, sr_to), 0, -1), dtype=np.float32)


def rms_db(wave):
    """Root mean square level of `wave` over its last axis in dBFS (a full-scale square wave is 0);

    silence reads -120.
    """
    power = np.mean(np.square(np.asarray(wave, dtype=np.float64)), axis=-1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


def set_level(wave, dbfs=-20.0, peak=0.99):
    """Scale `wave` `(samples,)` to an RMS level of `dbfs`;

    where that would clip, only as far as `peak`. Silence stays.
    """
    wave = np.asarray(wave, dtype=np.float32)
    if not wave.size or rms_db(wave) <= SILENCE_DB:
        return wave
    gain = 10 ** ((dbfs - rms_db(wave)) / 20)
    return (wave * min(gain, peak / np.abs(wave).max())).astype(np.float32)
