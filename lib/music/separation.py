"""A whole song, of any length and format, through a separator: read in pieces, cross-faded, written as it goes, in
bounded memory.

Waves are float32 mono `(samples,)` in [-1, 1]. Whatever the file's rate, the result has the model's (22,050 Hz): it
knows nothing above.
"""

import hashlib
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from tqdm.auto import tqdm

from lib import audio
from lib.runs import place

CHUNK, FADE = 12.0, 1.0  # s: what the model sees at a time, and what neighbours share
BLOCK = 1 << 18  # samples read at a time
SILENT = 1e-4  # a peak under -80 dBFS: nothing to separate


class SeparationError(ValueError):
    """A song cannot be separated; the message names the file and says what to do."""


class Separated(NamedTuple):
    """Where the two waves were written, the song's seconds, how long it took, and seconds of computing a second of
    audio (RTF).
    """

    target: Path
    rest: Path
    audio_seconds: float
    seconds: float
    rtf: float


def separate_file(model, path, folder, chunk=CHUNK, fade=FADE, progress=True):
    """Write `<song>_<target>.wav` and `<song>_accompaniment.wav` (for another target than vocals `_rest.wav`) into
    `folder`; a `Separated`.

    path: wav, flac, ogg, mp3 (soundfile), or m4a and the like (PyAV); any rate, channels mixed down. Memory holds one
    chunk, not the
    song. Target and rest add up to the song: above full scale both are written as 32-bit float, not 16 bits, which is
    said. Results of another song of that name stay, and these get a number. Raises `SeparationError` for a missing,
    corrupt, cut off, empty or silent file.
    """
    path, folder, sr = place(path), Path(folder), model.config.sample_rate
    names = model.config.target, "accompaniment" if model.config.target == "vocals" else "rest"
    parts, peak, highest, samples, started = [], 0.0, 0.0, 0, time.perf_counter()
    seconds = expected_seconds(path)
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"source {hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:12]}"
    places = _free(folder, path.stem, names, mark)
    bar = tqdm(total=round(seconds, 1) or None, unit="s", desc=f"separating {path.name}", disable=not progress)
    try:
        parts = [_part(place) for place in places]
        with (
            bar,
            soundfile.SoundFile(parts[0], "w", sr, 1, subtype="FLOAT", format="WAV") as first,
            soundfile.SoundFile(parts[1], "w", sr, 1, subtype="FLOAT", format="WAV") as second,
        ):
            for mix, est in stream(model, blocks(path, sr), chunk, fade):
                first.write(est)
                second.write(mix - est)
                highest = max(highest, float(np.abs(est).max()), float(np.abs(mix - est).max()))
                peak, samples = max(peak, float(np.abs(mix).max())), samples + len(mix)
                bar.update(len(mix) / sr)
        _check(path, samples / sr, seconds, peak)
        subtype = "PCM_16" if highest <= 1 else "FLOAT"
        if highest > 1:
            warnings.warn(
                f"{path}: above full scale (a peak of {highest:.2f}), so the results are written as 32-bit float.",
                stacklevel=2,
            )
        for part, target in zip(parts, places):
            _finish(part, target, subtype, mark)
    finally:
        for part in parts:
            Path(part).unlink(missing_ok=True)
    took = time.perf_counter() - started
    return Separated(*places, samples / sr, took, took / (samples / sr))


def _free(folder, stem, names, mark):
    """The two files to write: under the song's name, with a number where those are of another song."""
    for number in range(1, 1000):
        places = [folder / f"{stem}{f'_{number}' if number > 1 else ''}_{name}.wav" for name in names]
        if all(not one.exists() or _mark_of(one) == mark for one in places):
            return places
    raise SeparationError(f"{folder}: holds a thousand results of songs called {stem}. Give another folder.")


def _mark_of(path):
    try:
        with soundfile.SoundFile(str(path)) as file:
            return file.comment
    except soundfile.LibsndfileError:
        return None


def _finish(part, target, subtype, mark):
    """`part` as `target` with samples of `subtype`, marked with its song, whole or not at all."""
    last = _part(target)
    try:
        with (
            soundfile.SoundFile(part) as made,
            soundfile.SoundFile(last, "w", made.samplerate, 1, subtype=subtype, format="WAV") as out,
        ):
            out.comment = mark
            while len(wave := made.read(BLOCK, dtype="float32")):
                out.write(np.clip(wave, -1, 1 - 2**-15) if subtype == "PCM_16" else wave)
        os.replace(last, target)
    finally:
        Path(last).unlink(missing_ok=True)


def _part(place):
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=".wav", dir=place.parent)
    os.close(handle)
    os.chmod(part, 0o644)
    return part


def _check(path, seconds, expected, peak):
    if not seconds:
        raise SeparationError(f"{path}: holds no audio. Copy or export it again.")
    if peak < SILENT:
        raise SeparationError(
            f"{path}: silent (peak under -80 dBFS), so there is nothing to separate. Is it the right file?"
        )
    if expected and seconds < 0.9 * expected - 1:
        raise SeparationError(
            f"{path}: only {seconds:.1f} s of {expected:.1f} s can be decoded; it is damaged or cut off. Copy it again."
        )


def _channel(path):
    """None where the mean of the channels is taken, else the number of the loudest one, because they cancel: said."""
    powers, mean = 0.0, 0.0
    for wave, _ in _frames(path):
        powers, mean = powers + np.square(wave, dtype=np.float64).sum(0), mean + np.square(wave.mean(1)).sum()
        if wave.shape[1] == 1:
            return None
    if not np.max(powers) or not np.isfinite(powers).all() or mean > np.max(powers) * 10 ** (-audio.CANCEL_DB / 10):
        return None
    warnings.warn(
        f"{path}: its channels cancel each other: channel {int(np.argmax(powers)) + 1} alone is taken.", stacklevel=4
    )
    return int(np.argmax(powers))


def expected_seconds(path):
    """Length by the header, 0 where it does not say.

    Raises `SeparationError` where the file is missing, empty or no audio.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise SeparationError(
            f"{path}: {'the file is empty (0 bytes)' if path.is_file() else 'no such file'}. Check the path, or copy it"
            " again."
        )
    try:
        audio.check_file(path)
        info = soundfile.info(str(path))
        return info.frames / info.samplerate
    except audio.AudioError as error:
        raise SeparationError(str(error)) from error
    except soundfile.LibsndfileError:
        import av

        try:
            with av.open(str(path)) as container:
                stream = container.streams.audio[0]
                return float((stream.duration or 0) * stream.time_base)
        except (av.FFmpegError, IndexError, ValueError) as error:
            raise SeparationError(
                f"{path}: cannot be decoded as audio ({error}). Is it damaged, or not audio at all?"
            ) from error


def blocks(path, sr):
    """The song at `sr` Hz, mono, piece by piece.

    Raises `SeparationError`, naming the file, where decoding fails on the way.
    """
    resampler, rate = None, None
    for wave, rate in _decoded(Path(path)):
        if not np.isfinite(wave).all():
            raise SeparationError(f"{path}: holds NaN or infinite samples. Export it again.")
        if rate == sr:
            yield wave
            continue
        resampler = resampler or soxr.ResampleStream(rate, sr, 1, dtype="float32")
        yield resampler.resample_chunk(wave)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _decoded(path):
    """(mono piece, rate), channels mixed down, or the loudest one where they cancel."""
    channel = _channel(path)
    for wave, rate in _frames(path):
        yield (wave.mean(axis=1) if channel is None else wave[:, channel]), rate


def _frames(path):
    """(piece `(samples, channels)`, rate) through soundfile, or where it does not know the format, PyAV."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            while len(wave := file.read(BLOCK, dtype="float32", always_2d=True)):
                yield wave, file.samplerate
            return
    except soundfile.LibsndfileError as error:
        if _known(path):
            raise SeparationError(f"{path}: decoding broke off ({error}); it is damaged. Copy it again.") from error
    import av

    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(container.streams.audio[0]):
                for out in resampler.resample(frame):
                    yield out.to_ndarray().T.astype(np.float32), out.sample_rate
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise SeparationError(
            f"{path}: cannot be decoded as audio ({error}). Is it damaged, or not audio at all?"
        ) from error


def _known(path):
    try:
        soundfile.info(str(path))
        return True
    except soundfile.LibsndfileError:
        return False


def stream(model, pieces, chunk=CHUNK, fade=FADE):
    """(mixture, estimate) pairs, finished stretch by stretch, from an iterable of waves `(samples,)` of any lengths at
    the model's rate.

    The model sees `chunk` s at a time, and `fade` s of each chunk overlap the next: there the two estimates are
    cross-faded by weights
    that sum to one, so no seam is heard. A last chunk that is short is zero-padded for the model.
    """
    sr = model.config.sample_rate
    size, shared = int(chunk * sr), int(fade * sr)
    if not 0 <= shared <= size // 2:
        raise ValueError(f"fade is {fade:g} s; it must be from 0 to half of a chunk of {chunk:g} s")
    rise = (
        (np.sin(0.5 * np.pi * (np.arange(shared) + 0.5) / shared) ** 2).astype(np.float32)
        if shared
        else np.zeros(0, np.float32)
    )
    waiting, tail = (
        np.zeros(0, np.float32),
        np.zeros(0, np.float32),
    )  # what is not yet estimated; the last chunk's fading end

    def finished(mix, last):
        nonlocal tail
        est = _estimate(model, mix, size)
        est[: len(tail)] = tail * (1 - rise[: len(tail)]) + est[: len(tail)] * rise[: len(tail)]
        done = len(mix) if last else len(mix) - shared
        tail = est[done:]
        return mix[:done], est[:done]

    for piece in pieces:
        waiting = np.concatenate([waiting, np.asarray(piece, np.float32)])
        while len(waiting) > size:
            yield finished(waiting[:size], last=False)
            waiting = waiting[size - shared :]
    if len(waiting):
        yield finished(waiting, last=True)


def _estimate(model, mix, size):
    padded = np.pad(
        mix, (0, max(0, min(size, 2 * model.config.n_fft) - len(mix)))
    )  # the Fourier transform needs a few frames
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        est = model.separate(torch.from_numpy(padded)[None].to(device))[0].float().cpu().numpy()
    finally:
        model.train(was_training)
    return est[: len(mix)].copy()


def separate_wave(model, wave, sr, chunk=CHUNK, fade=FADE):
    """The target in a wave `(samples,)` at `sr` Hz, at the model's rate: (mixture, estimate), both `(samples,)`."""
    wave = audio.resample(audio.mono(wave, "the song"), sr, model.config.sample_rate)
    pairs = list(stream(model, [wave], chunk, fade))
    return tuple(np.concatenate(waves) for waves in zip(*pairs))
