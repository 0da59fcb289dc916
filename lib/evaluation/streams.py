"""Sound of any length and format, read in blocks and written as it comes: hours need no more memory than minutes.

Blocks are float32 `(samples,)`, mono, in [-1, 1]. `lib.audio.read` reads a whole file at once and is the simpler choice
for anything short.
"""

import contextlib
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from lib import audio
from lib.audio import AudioError

RAW = {".g722": "g722", ".gsm": "gsm"}  # formats without a header, which PyAV must be told
SUFFIXES = (".wav", ".flac")
SEEKS_BADLY = ("MP3", "MPEG")  # soundfile seeks between blocks, which in these is not exact and is heard
AUDIBLE = 1e-3  # a peak over this (-60 dBFS) says something about the channels of a file
LONGEST_WAV = 2**32 - 2**16  # bytes; a longer one needs the larger header of RF64


def blocks(path, sr=16000, seconds=10.0):
    """The sound of the file `path` at `sr` Hz, in blocks of about `seconds`, each `(samples,)`; video files too.

    Raises `AudioError`, naming the file, when it is missing, empty, no audio, damaged, or holds NaN.
    """
    import soxr

    path, resampler, told = Path(path).expanduser(), None, None
    mixdown = _Mixdown(path)
    for block, rate in _native(_existing(path), seconds):
        block = mixdown(block)
        if rate == sr:
            yield block
            continue
        if told is None:
            resampler, told = soxr.ResampleStream(rate, sr, 1, dtype="float32"), rate
        if rate != told:
            raise AudioError(f"{path}: its sample rate changes from {told} to {rate} Hz on the way. Export it again.")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def seconds_of(path):
    """How long the file `path` says that it is, in seconds; None where it does not say."""
    path = _existing(Path(path).expanduser())
    with contextlib.suppress(soundfile.LibsndfileError):
        return soundfile.info(str(path)).duration
    import av

    if path.suffix.lower() in RAW:
        return None
    with contextlib.suppress(av.FFmpegError, IndexError), av.open(str(path)) as container:
        stream = container.streams.audio[0]
        if stream.duration:
            return float(stream.duration * stream.time_base)
        return container.duration / av.time_base if container.duration else None
    return None


def _existing(path):
    audio.check_file(path)
    return path


class _Mixdown:
    """Channels `(samples, channels)` to one: the mean, or for the whole file the loudest where the first second with
    sound says that they cancel.
    """

    def __init__(self, path):
        self.path, self.channel = path, None

    def __call__(self, block):
        if not np.isfinite(block).all():
            raise AudioError(f"{self.path}: the audio holds NaN or infinite samples. Export it again.")
        mean = block.mean(axis=1)
        if self.channel is None and block.shape[1] > 1 and np.abs(block).max(initial=0) > AUDIBLE:
            levels = audio.rms_db(block.T)
            cancel = audio.rms_db(mean) < levels.max() - audio.CANCEL_DB
            self.channel = int(levels.argmax()) if cancel else -1
        return mean if self.channel in (None, -1) else np.ascontiguousarray(block[:, self.channel])


def _native(path, seconds):
    """`(block, rate)` as the file has them, `(samples, channels)`."""
    try:
        file = soundfile.SoundFile(str(path))
    except soundfile.LibsndfileError:
        file = None
    if file is None or file.format in SEEKS_BADLY:
        yield from _with_av(path, seconds)
        return
    with file:
        try:
            for block in file.blocks(max(1, int(seconds * file.samplerate)), dtype="float32", always_2d=True):
                yield block, file.samplerate
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: damaged after {file.tell() / file.samplerate:.0f} s ({error}).") from error


def _with_av(path, seconds):
    import av

    waiting, rate = [], None
    try:
        with av.open(str(path), format=RAW.get(path.suffix.lower())) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: holds no track of sound. Give a recording, or a film with sound.")
            stream, resampler = container.streams.audio[0], av.AudioResampler(format="fltp")
            for frame in itertools.chain(container.decode(stream), [None]):
                for out in resampler.resample(frame):
                    rate = out.sample_rate
                    waiting.append(out.to_ndarray().T.astype(np.float32))
                if rate and sum(map(len, waiting)) >= seconds * rate:
                    yield np.concatenate(waiting), rate
                    waiting = []
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path}: cannot be decoded as audio. Is it damaged, or not audio at all?") from error
    if waiting:
        yield np.concatenate(waiting), rate


class Writer:
    """Write a wav or flac (16 bit) block by block; it gets its name only when all is there: `with Writer(path) as out`.

    Until then it grows beside its place as a `.part` file, which an error or Ctrl-C removes. `clipped` counts samples
    over full scale, which are cut off. Raises `AudioError` where it cannot be written.
    """

    def __init__(self, path, sr=16000, seconds=None):
        self.path, self.sr, self.clipped, self.samples = Path(path), sr, 0, 0
        if self.path.suffix.lower() not in SUFFIXES:
            raise AudioError(f"{path}: the name must end in .wav or .flac.")
        long = self.path.suffix.lower() == ".wav" and (seconds or 0) * sr * 2 > LONGEST_WAV
        self.format = "RF64" if long else self.path.suffix[1:].upper()

    def __enter__(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self.part = tempfile.mkstemp(prefix=f".{self.path.stem}-", suffix=".part", dir=self.path.parent)
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be written ({error.strerror}).") from error
        os.close(handle)
        self.file = soundfile.SoundFile(self.part, "w", self.sr, 1, subtype="PCM_16", format=self.format)
        return self

    def write(self, block):
        """Append `block` `(samples,)`."""
        block = np.rint(np.asarray(block, dtype=np.float32) * 32768.0)
        self.clipped += int(((block > 32767) | (block < -32768)).sum())
        self.samples += len(block)
        try:
            self.file.write(np.clip(block, -32768, 32767).astype(np.int16))
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.path}: cannot be written ({error}). Is the disk full?") from error

    def __exit__(self, kind, error, trace):
        try:
            self.file.close()
            if kind is None:
                os.chmod(self.part, 0o644)
                os.replace(self.part, self.path)
        finally:
            Path(self.part).unlink(missing_ok=True)
