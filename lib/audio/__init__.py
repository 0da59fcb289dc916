"""Read, write, resample and level audio. Waves are float32, mono, `(samples,)`, in [-1, 1]; `sr` is in Hz."""

import functools
import io
import os
import struct
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np

from lib.audio import headers

try:
    import soundfile
except ModuleNotFoundError:  # a bare GPU machine: what needs no file works, and reading one says what is missing

    class soundfile:
        """Stands where the package would; whatever is asked of it says what to install."""

        class LibsndfileError(Exception):
            """What reading raises; never, here."""

        @staticmethod
        def read(*arguments, **named):
            raise ModuleNotFoundError(
                "Audio files are read and written with the package soundfile, which is not installed: pip install"
                " soundfile soxr av",
                name="soundfile",
            )

        info = write = read


SILENCE_DB = -120.0  # what the level of a silent wave reads as, instead of minus infinity
SUFFIXES = (  # what `read` takes; a walk through a folder of recordings passes over the rest
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm", ".aif", ".aiff", ".au", ".caf"),
    *(".w64", ".rf64", ".mp4", ".mka", ".mkv", ".mov", ".3gp", ".amr", ".wma", ".ac3", ".g722", ".gsm"),
)
CANCEL_DB = 12.0  # a mean so far below the loudest channel: the channels cancel (a silent second one costs 6 dB)
LOUD, TOO_LOUD = 4.0, 100.0  # peaks from which a wave is said to be loud, and is refused: integers not divided
FASTEST = 6_000_000  # Hz; beyond it a header is damaged


class AudioError(ValueError):
    """A file or a wave cannot be used; the message names it and says what to do."""

    def __init__(self, message):
        super().__init__(printable(message))


def printable(text):
    """`text` with bytes of a file's name that are no UTF-8 (of Shift-JIS, of an old Mac) as `\\x83`: else no terminal
    and no table takes it.
    """
    return os.fsencode(str(text)).decode("utf-8", "backslashreplace")


def read(path, sr=16000):
    """Read any audio file as mono float32 `(samples,)` at `sr` Hz.

    soundfile reads wav, flac, ogg and mp3; PyAV (ffmpeg's libraries) reads the rest: m4a, aac, g722, gsm, video files.
    Raises `AudioError`, naming the file, when it is missing, empty, corrupt, cut off, or holds NaN. Channels are mixed
    down by `mono`.
    """
    wave, rate = read_channels(path)
    return resample(mixdown(wave, path), rate, sr)


def read_channels(path):
    """All channels of a file: float32 `(samples, channels)`, and the rate in Hz. Errors as in `read`."""
    path = Path(path).expanduser()
    source = _opened(path)
    try:
        wave, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        wave, rate = _read_av(path, source)
    except (MemoryError, ValueError) as error:  # room for all samples that the header announces is made beforehand
        raise AudioError(f"{path}: its header announces more samples than memory holds. Export it again.") from error
    _check_header(path, len(wave), rate)
    return wave, rate


def is_sound(name):
    """Whether a file's name is that of a recording: a known suffix, and not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def check_file(path):
    """Raise `AudioError` where `path` is missing, empty, or shorter than its own header says. Decodes nothing."""
    path = Path(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise AudioError(f"{path}: a link to {os.readlink(path)}, which is not there. Copy the file itself.")
    if os.path.isdir(path):
        raise AudioError(f"{path}: a folder, not a file. Give one of the recordings in it.")
    if not os.path.isfile(path):
        raise AudioError(f"{path}: no such file. Check the path and its spelling.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes). Copy or record it again.")
    try:
        pointer, lacking = headers.is_lfs_pointer(path), headers.cut_off(path)
    except PermissionError as error:
        raise AudioError(
            f"{path}: may not be read. Change its permissions, or copy it to a folder of yours."
        ) from error
    except (struct.error, OSError, ValueError):  # a header that ends within itself, or points at no place of a file
        return  # the decoder says what is wrong with it
    if pointer:
        raise AudioError(f"{path}: only the pointer to a recording that git-lfs keeps. Fetch it: git lfs pull.")
    if lacking:
        raise AudioError(f"{path}: {lacking}: the copy or download broke off. Copy it again.")


def facts(path):
    """(rate in Hz, channels, samples) of a file, decoded only where its header does not tell. Errors as in `read`."""
    path = Path(path).expanduser()
    source = _opened(path)
    try:
        info = soundfile.info(source)
        found = info.samplerate, info.channels, info.frames
    except soundfile.LibsndfileError:
        wave, rate = _read_av(path, source)
        found = rate, wave.shape[1], len(wave)
    _check_header(path, found[2], found[0])
    return found


def _check_header(path, samples, rate):
    if not samples or rate > FASTEST:
        wrong = f"its header tells {rate} Hz" if samples else "the file holds no audio samples"
        raise AudioError(f"{path}: {wrong}. Copy or record it again.")


def _opened(path):
    """What the decoders take: the path as text, checked; of a file in a tar (`0.tar/1.mix.wav`) its bytes."""
    if path.parent.suffix == ".tar" and path.parent.is_file():
        at = members(str(path.parent), path.parent.stat().st_mtime_ns).get(path.name)
        if at is None:
            raise AudioError(f"{path}: no such file in the shard. Pack the split again: python -m lib.data.shards.")
        with open(path.parent, "rb") as file:
            file.seek(at[0])
            return io.BytesIO(file.read(at[1]))
    check_file(path)
    return str(path) if printable(path) == str(path) else io.BytesIO(path.read_bytes())


@functools.lru_cache(64)
def members(tar, changed):
    """name -> (offset, bytes) of the files in a tar, which was last `changed` at that time."""
    with tarfile.open(tar) as file:
        return {member.name: (member.offset_data, member.size) for member in file if member.isfile()}


def _read_av(path, source=None):
    """Decode `path` (or the bytes `source` of it) with PyAV into `(samples, channels)` float32."""
    import av

    raw, source = {".g722": "g722", ".gsm": "gsm"}.get(path.suffix.lower()), source or str(path)
    if not isinstance(source, str):
        source.seek(0)
    try:
        with av.open(source, format=raw) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: holds no track of sound. Give a recording, or a film with sound.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
            frames += [out.to_ndarray() for out in resampler.resample(None)]
            rate = stream.codec_context.sample_rate
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path}: cannot be decoded as audio. Is it damaged, or not audio at all?") from error
    if not frames:
        raise AudioError(f"{path}: the file holds no audio samples. Copy or record it again.")
    return np.concatenate(frames, axis=1).T.astype(np.float32), rate


# --- samples


def mono(wave, name="the wave"):
    """float32 `(samples,)` of numpy or torch `(samples,)`, `(channels, samples)` or `(samples, channels)`, checked.

    Integers are scaled by the range of their type. Raises `AudioError`, naming `name`, for what is no wave, no samples,
    NaN, or a peak that only undivided integers have. `lib.models.chunks.mono` is the same, for a machine without lib.
    """
    wave = as_floats(wave, name)
    if wave.ndim == 2:
        wave = wave.T if wave.shape[0] <= wave.shape[1] else wave
    if wave.ndim not in (1, 2):
        raise AudioError(f"{name}: expected (samples,) or (channels, samples), got shape {wave.shape}.")
    if not wave.size:
        raise AudioError(f"{name}: empty. Give at least one second of audio.")
    return mixdown(wave if wave.ndim == 2 else wave[:, None], name)


def as_floats(wave, name="the wave"):
    """`wave` as float32 of the same shape, integers scaled by their range (unsigned ones around its middle)."""
    wave = wave.detach().cpu() if hasattr(wave, "detach") else wave
    wave = np.asarray(wave.float() if "bfloat16" in str(getattr(wave, "dtype", "")) else wave)
    if wave.dtype.kind in "OUS":
        raise AudioError(f"{name}: expected samples, got {str(wave)[:40]}. Read the file first (lib.audio.read).")
    if wave.dtype.kind == "f":
        return wave.astype(np.float32, copy=False)
    if wave.dtype.kind not in "iu" or wave.dtype.itemsize > 4:
        raise AudioError(
            f"{name}: samples of the type {wave.dtype} have no known range. Give floats in [-1, 1], such as the samples"
            " divided by 32768 where they have 16 bits."
        )
    half = 2.0 ** (8 * wave.dtype.itemsize - 1)
    return ((wave.astype(np.float64) - half * (wave.dtype.kind == "u")) / half).astype(np.float32)


def mixdown(wave, name="the wave"):
    """The mean over channels of float `(samples, channels)`; where they cancel the loudest one, which is said.

    Raises `AudioError` for NaN and for a peak over 100; a peak over 4 is said.
    """
    if not np.isfinite(wave).all():
        raise AudioError(f"{name}: holds NaN or infinite samples. Read or export the file again.")
    if (peak := float(np.abs(wave).max(initial=0))) > TOO_LOUD:
        raise AudioError(
            f"{name}: a peak of {peak:.0f}, where full scale is 1. Divide by the range of the samples (32768 for 16"
            " bits)."
        )
    if peak > LOUD:
        warnings.warn(f"{name}: a peak of {peak:.1f}, far above full scale, which is 1: turn it down.", stacklevel=3)
    mean = wave.mean(axis=1)
    if wave.shape[1] == 1:
        return mean
    levels = [float(rms_db(wave[:, channel])) for channel in range(wave.shape[1])]
    loudest = int(np.argmax(levels))
    if levels[loudest] <= SILENCE_DB + CANCEL_DB or rms_db(mean) > levels[loudest] - CANCEL_DB:
        return mean
    warnings.warn(
        f"{name}: its channels cancel each other (their mean lies {levels[loudest] - rms_db(mean):.0f} dB below the"
        f" loudest): channel {loudest + 1} alone is taken.",
        stacklevel=3,
    )
    return np.ascontiguousarray(wave[:, loudest])


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
    """Root mean square level of `wave` over its last axis in dBFS (a full-scale square is 0); silence reads -120."""
    power = np.mean(np.square(np.asarray(wave, dtype=np.float64)), axis=-1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


def set_level(wave, dbfs=-20.0, peak=0.99):
    """Scale `wave` `(samples,)` to an RMS level of `dbfs`; where that would clip, only as far as `peak`. Silence
    stays.
    """
    wave = np.asarray(wave, dtype=np.float32)
    if not wave.size or rms_db(wave) <= SILENCE_DB:
        return wave
    gain = 10 ** ((dbfs - rms_db(wave)) / 20)
    return (wave * min(gain, peak / np.abs(wave).max())).astype(np.float32)
