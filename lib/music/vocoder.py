"""A voice taken apart into pitch, spectral envelope and noise, and put together at another pitch and pace.

The parts are those of WORLD (Morise, Yokomori and Ozawa 2016, doi:10.1587/transinf.2015EDP7457), written here in numpy:
a pitch by normalised autocorrelation, the envelope by CheapTrick (Morise 2015, doi:10.1016/j.specom.2014.09.003), and
a synthesis out of minimum-phase responses, a pulse for each period and noise beside it. Waves are float32 `(samples,)`;
frames lie 5 ms apart; envelopes are power spectra `(frames, bins)`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

STEP = 0.005  # s from frame to frame
FLOOR, CEILING = 70.0, 500.0  # Hz: the pitches looked for
NO_PITCH = 500.0  # Hz: what an unvoiced frame's window is as long as it would be for
VOICED = 0.55  # normalised autocorrelation from which a frame counts as voiced
QUIET_DB = -45.0  # dB under the loudest frame: silence
Q1 = -0.15  # CheapTrick's compensation of the smoothing
NARROW = 0.97  # share of the band up to which an envelope is trusted
SLOPE_DB = 9.0  # dB an octave by which an envelope falls above the band of the recording
BATCH = 2000  # frames or pulses at a time, so that memory stays small


@dataclass(frozen=True)
class Voice:
    """A recording taken apart: pitch `(frames,)` in Hz, 0 where unvoiced; envelope `(frames, bins)`; level `(frames,)`
    in dB re the loudest frame; rate of the recording in Hz.
    """

    pitch: np.ndarray
    envelope: np.ndarray
    level: np.ndarray
    sr: int

    def __len__(self):
        return len(self.pitch)


def analyse(wave, sr):
    """`Voice` of a wave `(samples,)` at `sr` Hz."""
    pitch, level = _pitch(wave, sr)
    return Voice(pitch, _envelope(wave, sr, pitch), level, sr)


def joined(first, second):
    """Two `Voice`s of one rate, one after the other; the second where the first is None."""
    if first is None:
        return second
    parts = (np.concatenate([getattr(one, name) for one in (first, second)]) for name in ("pitch", "envelope", "level"))
    return Voice(*parts, second.sr)


# --- pitch


def _framed(wave, sr, size):
    """Stretches of `size` samples around each frame, `(frames, size)`."""
    hop, half = round(STEP * sr), size // 2
    padded = np.pad(np.asarray(wave, np.float32), (half, half + size))
    count = len(wave) // hop + 1
    return np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop][:count]


def _pitch(wave, sr):
    """Pitch in Hz, 0 where unvoiced, and level in dB of each frame."""
    size = 1 << int(np.ceil(np.log2(2.5 * sr / FLOOR)))
    window, power = np.hanning(size).astype(np.float32), []
    lags = np.arange(int(sr / CEILING), int(sr / FLOOR) + 1)
    own = (fft.irfft(np.abs(fft.rfft(window, 2 * size)) ** 2)[lags] / np.sum(window**2)).astype(np.float32)
    frames, scores = _framed(wave, sr, size), []
    for start in range(0, len(frames), BATCH):
        part = frames[start : start + BATCH]
        part = (part - part.mean(1, keepdims=True)) * window
        across = fft.irfft(np.abs(fft.rfft(part, 2 * size)) ** 2)
        power.append(across[:, 0])
        scores.append(across[:, lags] / (across[:, :1] + 1e-9) / own)
    power, scores = np.concatenate(power), np.concatenate(scores)
    level = 10 * np.log10(power / max(power.max(), 1e-12) + 1e-12)
    path = _best_path(scores - 0.05 * np.log2(lags / lags[0]), lags)
    voiced = (scores[np.arange(len(path)), path] > VOICED) & (level > QUIET_DB)
    return np.where(_lasting(voiced, 6), sr / lags[path], 0.0), level


def _best_path(scores, lags, most=12, jump=0.6):
    """The lag's number in each frame, `(frames,)`: high scores, and few jumps from frame to frame (Viterbi over the
    best `most`).
    """
    count = len(scores)
    picks = np.argpartition(-scores, most, axis=1)[:, :most]
    worth, octave = np.take_along_axis(scores, picks, 1), np.log2(lags)[picks]
    best, back = worth[0], np.zeros((count, most), int)
    for frame in range(1, count):
        ways = best[None] - jump * np.minimum(np.abs(octave[frame][:, None] - octave[frame - 1][None]), 1)
        back[frame] = ways.argmax(1)
        best = ways.max(1) + worth[frame]
    path = np.zeros(count, int)
    at = int(best.argmax())
    for frame in range(count - 1, -1, -1):
        path[frame] = picks[frame, at]
        at = back[frame, at]
    return path


def _lasting(mask, least):
    """`mask` without runs shorter than `least` frames."""
    kept = mask.copy()
    for start, end in runs(mask):
        kept[start:end] = end - start >= least
    return kept


def runs(mask):
    """(start, end) of each run of True in `mask`."""
    edges = np.diff(np.concatenate([[0], np.asarray(mask, int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()))


# --- envelope


def _envelope(wave, sr, pitch):
    """CheapTrick: power spectra of windows of three periods, smoothed over the harmonics, `(frames, bins)`."""
    size = 1 << int(np.ceil(np.log2(3 * sr / FLOOR)))
    frames, pitch = _framed(wave, sr, size), np.where(pitch > 0, pitch, NO_PITCH).astype(np.float32)
    place = np.arange(size, dtype=np.float32) - size // 2
    quefrency = (np.minimum(np.arange(size), size - np.arange(size)) / sr).astype(np.float32)
    found = []
    for start in range(0, len(frames), BATCH):
        f0 = pitch[start : start + BATCH, None]
        window = 0.5 + 0.5 * np.cos(2 * np.pi * np.clip(place / (3 * sr / f0), -0.5, 0.5))
        window /= np.sqrt(np.sum(window**2, axis=1, keepdims=True))
        power = np.abs(fft.rfft(frames[start : start + BATCH] * window)) ** 2
        power = (_smooth(power, f0 * size / sr / 3) + 1e-12).astype(np.float32)
        cepstrum = fft.irfft(np.log(power))
        lifter = np.sinc(f0 * quefrency) * (1 - 2 * Q1 + 2 * Q1 * np.cos(2 * np.pi * f0 * quefrency))
        found.append(np.exp(fft.rfft(cepstrum * lifter).real).astype(np.float32))
    return np.concatenate(found)


def _smooth(power, half):
    """Mean of `power` `(frames, bins)` over `half` `(frames, 1)` bins on both sides."""
    margin = int(np.ceil(half.max())) + 2
    wide = np.pad(power, ((0, 0), (margin, margin)), mode="reflect")
    summed = np.pad(np.cumsum(wide, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    middle = np.arange(power.shape[1]) + margin + 0.5

    def until(place):
        low = np.floor(place).astype(int)
        below, above = (np.take_along_axis(summed, low + k, axis=1) for k in (0, 1))
        return below + (place - low) * (above - below)

    return (until(middle + half) - until(middle - half)) / (2 * half)


# --- together again


def synthesise(voice, places, pitch, sr, formants=1.0, breath=0.0, seed=0):
    """A wave `(samples,)` at `sr` Hz.

    places: `(frames,)` frame of `voice` heard at each 5 ms, fractions allowed, -1 for silence. pitch: `(frames,)` in
    Hz, 0 where unvoiced. formants: a factor on the envelope's frequencies. breath: dB more noise in voiced frames.
    Above the band of the recording the envelope goes on falling, so that a voice recorded at 16 kHz has treble, too.
    """
    samples, hop = int(len(places) * STEP * sr), STEP * sr
    size = 1 << int(np.ceil(np.log2(0.03 * sr)))
    rng, wave = np.random.default_rng(seed), np.zeros(samples + 2 * size, np.float64)
    widen = _Widened(voice, sr, size, formants)
    at = _pulses(pitch, sr, samples)
    frames = np.minimum((at / hop).astype(int), len(places) - 1)
    frames_ok = places[frames] >= 0
    at, frames = at[frames_ok], frames[frames_ok]
    noisy = _noise_share(sr, size, breath)
    for start in range(0, len(at), BATCH):
        part = slice(start, start + BATCH)
        power = widen(places[frames[part]]) * (sr / np.maximum(pitch[frames[part]], FLOOR))[:, None].astype(np.float32)
        _add(wave, _responses(power * (1 - noisy)), at[part])
    grid = np.flatnonzero(places >= 0)
    for start in range(0, len(grid), BATCH):
        own = grid[start : start + BATCH]
        share = np.where((pitch[own] > 0)[:, None], noisy, 1.0)
        length = int(np.ceil(hop))
        spectra = fft.rfft(rng.standard_normal((len(own), length), np.float32), size)
        pieces = fft.irfft(spectra * fft.rfft(_responses(widen(places[own]) * share), size))
        _add(wave, pieces, own * hop)
    return wave[:samples].astype(np.float32)


class _Widened:
    """Envelopes at places between frames, at another rate and number of bins, with treble above the band that was
    recorded.
    """

    def __init__(self, voice, sr, size, formants):
        self.voice = voice
        old = np.arange(voice.envelope.shape[1]) * voice.sr / 2 / (voice.envelope.shape[1] - 1)
        wanted = np.arange(size // 2 + 1) * sr / size / formants
        edge = NARROW * band(voice, old)
        self.place = np.interp(np.minimum(wanted, edge), old, np.arange(len(old)))
        self.fall = -SLOPE_DB * np.log2(np.maximum(wanted / edge, 1)) / 10 * np.log(10)
        self.low = self.place.astype(int)
        self.part, self.fall = (self.place - self.low).astype(np.float32), self.fall.astype(np.float32)
        self.logs = np.log(voice.envelope)

    def __call__(self, places):
        low = np.clip(places.astype(int), 0, len(self.voice) - 1)
        high, part = np.minimum(low + 1, len(self.voice) - 1), (places - low)[:, None].astype(np.float32)
        logs = (1 - part) * self.logs[low] + part * self.logs[high]
        top = np.minimum(self.low + 1, logs.shape[1] - 1)
        return np.exp((1 - self.part) * logs[:, self.low] + self.part * logs[:, top] + self.fall).astype(np.float32)


def band(voice, frequencies, below_db=50.0):
    """Hz up to which the recording holds sound: the last frequency within `below_db` of its mean spectrum's peak."""
    mean = 10 * np.log10(voice.envelope[voice.level > QUIET_DB].mean(0) + 1e-15)
    return float(frequencies[np.flatnonzero(mean > mean.max() - below_db)[-1]])


def _noise_share(sr, size, breath):
    """Share of noise in a voiced frame's power by frequency: -30 dB below 1 kHz, up to -4 dB at 8 kHz."""
    frequency = np.arange(size // 2 + 1) * sr / size
    return np.minimum(10 ** ((np.interp(frequency, [1000, 4000, 8000], [-30, -14, -4]) + breath) / 10), 0.9).astype(
        np.float32
    )


def _pulses(pitch, sr, samples):
    """Samples at which a period begins, `(pulses,)`, whole numbers: the phase of `pitch` passes a turn."""
    each = np.interp(np.arange(samples) / (STEP * sr), np.arange(len(pitch)), np.where(pitch > 0, pitch, FLOOR))
    turns = np.floor(np.cumsum(each / sr))
    at = np.flatnonzero(np.diff(turns, prepend=0) > 0)
    frames = np.minimum((at / (STEP * sr)).astype(int), len(pitch) - 1)
    return at[pitch[frames] > 0]


def _responses(power):
    """Minimum-phase impulse responses `(n, size)` whose power spectra are `power` `(n, bins)`."""
    size = 2 * (power.shape[1] - 1)
    cepstrum = fft.irfft(0.5 * np.log(np.maximum(power, 1e-14)))
    cepstrum[:, 1 : size // 2] *= 2
    cepstrum[:, size // 2 + 1 :] = 0
    return fft.irfft(np.exp(fft.rfft(cepstrum)))


def _add(wave, pieces, at):
    """Add each of `pieces` `(n, size)` to `wave` from sample `at` `(n,)` on, in place."""
    for piece, start in zip(pieces, np.asarray(at).astype(int)):
        wave[start : start + len(piece)] += piece
