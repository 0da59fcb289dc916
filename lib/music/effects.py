"""What a studio does to a track: equaliser, compressor, distortion, doubling, reverberation. numpy and scipy alone.

Waves are float32 `(samples,)` or `(samples, 2)` at `sr` Hz. What is drawn comes from a generator `rng`.
"""

import numpy as np
from scipy import fft, signal


def equalise(wave, sr, rng, most_db=6.0, points=5, treble_db=0.0):
    """A smooth gain over frequency, up to `most_db` up or down, drawn at `points` places an octave or two apart, and
    up to `treble_db` more from 1 kHz to the top.
    """
    places = np.geomspace(80, 0.45 * sr, points)
    gains = rng.uniform(-most_db, most_db, points) + np.interp(np.log(places), np.log([1000, 10000]), [0, treble_db])
    size = fft.next_fast_len(len(wave), real=True)
    spectrum = fft.rfft(np.asarray(wave, np.float32), size, axis=0)
    coarse = np.geomspace(20, sr / 2, 64)
    gain = 10 ** (np.interp(np.log(coarse), np.log(places), gains) / 20)
    gain = np.interp(np.arange(len(spectrum)) * sr / size, coarse, gain).astype(np.float32)
    shaped = spectrum * (gain if wave.ndim == 1 else gain[:, None])
    return fft.irfft(shaped, size, axis=0)[: len(wave)]


def highpass(wave, sr, hertz):
    """Nothing below `hertz`, 12 dB an octave."""
    return signal.sosfilt(signal.butter(2, hertz, "highpass", fs=sr, output="sos"), wave, axis=0).astype(np.float32)


def compress(wave, sr, threshold_db=-18.0, ratio=3.0, seconds=0.06):
    """Levels over `threshold_db` (re the loud parts) reduced by `ratio`, the level followed within `seconds`."""
    step = 64  # samples: the level moves slowly, so it is followed in steps
    mono = wave if wave.ndim == 1 else wave.mean(1)
    power = np.square(np.pad(mono, (0, -len(mono) % step)).reshape(-1, step)).mean(1).astype(np.float64)
    decay = np.exp(-step / (seconds * sr))
    level = 10 * np.log10(signal.lfilter([1 - decay], [1, -decay], power) + 1e-10)
    over = np.maximum(level - (np.percentile(level, 95) + threshold_db), 0)
    gain = 10 ** (-over * (1 - 1 / ratio) / 20)
    gain = np.interp(np.arange(len(wave)), step * (np.arange(len(gain)) + 0.5), gain).astype(np.float32)
    return wave * (gain if wave.ndim == 1 else gain[:, None])


def distort(wave, drive_db):
    """A soft clipper, as an overdriven amplifier, with the level kept. drive_db: how far over the clipping point."""
    level = np.sqrt(np.mean(np.square(wave, dtype=np.float64))) + 1e-9
    bent = np.tanh(wave * (10 ** (drive_db / 20) / (3 * level)))
    return (bent * (level / (np.sqrt(np.mean(np.square(bent, dtype=np.float64))) + 1e-9))).astype(np.float32)


def reverberate(wave, sr, rng, seconds, wet_db):
    """`(samples, 2)`: the wave and a decaying noise of `seconds` (RT60) folded with it, `wet_db` re the dry sound."""
    length = int(min(seconds, 2.5) * sr)
    delay = int(rng.uniform(0.005, 0.03) * sr)
    tail = rng.standard_normal((length, 2)) * 10 ** (-3 * np.arange(length) / (seconds * sr))[:, None]
    sos = signal.butter(1, [200, rng.uniform(3000, 7000)], "bandpass", fs=sr, output="sos")
    tail = signal.sosfilt(sos, tail, axis=0)
    tail *= 10 ** (wet_db / 20) / np.sqrt(np.sum(tail**2, axis=0, keepdims=True))
    both = np.stack([wave, wave], axis=1) if wave.ndim == 1 else wave
    wet = signal.fftconvolve(both, tail, axes=0)[: len(wave)]
    return (both + np.pad(wet, ((delay, 0), (0, 0)))[: len(wave)]).astype(np.float32)


def later(wave, samples):
    """The wave `samples` later, of the same length."""
    return np.pad(wave, (samples, 0))[: len(wave)]


def produced(wave, sr, rng, second=None):
    """`(samples, 2)`: a voice as it stands in a mix. second: the same sung once more, for doubling."""

    def track(one):
        one = highpass(one, sr, rng.uniform(70, 140))
        one = equalise(one, sr, rng, 4.0, treble_db=rng.uniform(0, 12))
        one = compress(one, sr, rng.uniform(-22, -10), rng.uniform(1.5, 6))
        return distort(one, rng.uniform(-6, 8)) if rng.random() < 0.25 else one

    lead = track(wave)
    wave = np.stack([lead, lead], axis=1)
    if second is not None:
        double, level = track(second), 10 ** (rng.uniform(-12, -3) / 20)
        left, right = (later(double, int(rng.uniform(0.008, 0.03) * sr)) for _ in range(2))
        wave = wave + level * np.stack([left, right], axis=1)
    if rng.random() < 0.3:  # an echo
        delay = int(rng.uniform(0.15, 0.45) * sr)
        wave = wave + 10 ** (rng.uniform(-18, -9) / 20) * np.pad(wave, ((delay, 0), (0, 0)))[: len(wave)]
    return reverberate(wave, sr, rng, rng.uniform(0.4, 2.2), rng.uniform(-24, -8))
