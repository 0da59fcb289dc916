"""What must not give a person away: clips brought to one level, one band and one noise floor, and the silence to check
that by.

Each person of a free collection was recorded with one microphone, in one room, through one codec, which a classifier
would learn instead of the voice. Clips are float32 `(clips, samples)` at 16 kHz in [-1, 1].
"""

import numpy as np

from lib import audio

SR = 16000
FRAME = 320  # samples; levels are taken every 20 ms
BAND = (100.0, 7000.0)  # Hz; above this some sources carry nothing
LEVEL = -20.0  # dBFS
NOISE_DB = 15.0  # how far under the speech the common noise floor lies
GATE_DB = (
    20.0,
    25.0,
)  # under a clip's loud frames: the gate begins to close, and is closed. The noise lies at about 20
CLOSED_DB = 40.0  # what a closed gate takes away
SILENT_DB = 25.0  # a frame this far under the loud ones may be silence,
SHORTEST_PAUSE = 5  # frames; where so many come one after the other (a plosive's closure is shorter),
MARGIN = 1  # and but for so many at each end, where speech dies away


def equalise(waves, seed=0, band=BAND, noise_db=NOISE_DB):
    """`(clips, samples)` with one level, one band and one noise floor, so that the recording itself tells less.

    Cut to `band` in Hz (20 dB and more down 150 Hz outside), pauses gated, pink noise added `noise_db` dB below the
    rest, brought to
    -20 dBFS. A pause then holds the common noise alone; what the gate takes away lies under that noise, so speech loses
    little.
    Silent clips (zeros) become the common noise alone, the same as under any other clips with this seed.
    """
    rng, shape = np.random.default_rng(seed), _band_shape(waves.shape[-1], band)
    out = np.empty_like(waves)
    for place, wave in enumerate(waves):
        speech = gate(np.fft.irfft(np.fft.rfft(wave) * shape, len(wave)))
        noise = np.fft.irfft(_pink_spectrum(rng, len(wave)) * shape, len(wave))
        speech, noise = speech / _rms(speech), noise / _rms(noise) * 10 ** (-noise_db / 20)
        out[place] = audio.set_level((speech + noise).astype(np.float32), LEVEL)
    return out


def gate(wave):
    """`wave` `(samples,)` with its quiet frames taken down by up to `CLOSED_DB`; the gain moves evenly in dB from frame
    to frame.
    """
    fully, begins = -GATE_DB[1], -GATE_DB[0]
    openness = np.clip((levels(wave) - fully) / (begins - fully), 0, 1)
    middles = np.arange(len(openness)) * FRAME + FRAME / 2
    return wave * 10 ** (np.interp(np.arange(len(wave)), middles, CLOSED_DB * (openness - 1)) / 20)


def levels(wave):
    """The level of each frame of 20 ms in dB, `(frames,)`, relative to the loud ones: the 95th percentile is 0."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    decibels = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    return decibels - np.percentile(decibels, 95)


def _band_shape(samples, band):
    """Gain a bin of a real FFT: 1 inside the band, falling by a half cosine over 150 Hz outside."""
    hz = np.fft.rfftfreq(samples, 1 / SR)
    outside = np.clip(np.maximum(band[0] - hz, hz - band[1]) / 150, 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * outside)


def _pink_spectrum(rng, samples):
    bins = samples // 2 + 1
    return (rng.standard_normal(bins) + 1j * rng.standard_normal(bins)) / np.sqrt(np.maximum(np.arange(bins), 1))


def _rms(wave):
    return max(float(np.sqrt(np.mean(np.square(wave)))), 1e-9)


# --- the check


def pauses(wave):
    """Which frames of 20 ms are silent beyond doubt, `(frames,)` bool: long runs of quiet ones, without their ends.

    The ends are left out because a speaker's last sound, breath and room ring on in them: that is the person, not the
    recording.
    """
    quiet = np.concatenate([[False], levels(wave) < -SILENT_DB, [False]])
    silent = np.zeros(len(quiet) - 2, dtype=bool)
    for start, stop in np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2):
        if stop - start >= SHORTEST_PAUSE:
            silent[start + MARGIN : stop - MARGIN] = True
    return silent


def silence_only(waves, like=None, seconds=0.25, most=4):
    """Pieces of silence out of each clip, all of one length and level, so that the amount of it tells nothing.

    like: the clips in which to look for `pauses` (default: `waves` themselves), for equalised copies the clips before
    that. Returns
    (pieces `(n, seconds * SR)`, the clips they came from `(n,)`); at most `most` a clip, none from one with under
    `seconds` of it.
    """
    size, kept, places = int(seconds * SR), [], []
    for place, (wave, clean) in enumerate(zip(waves, waves if like is None else like)):
        rest = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)[pauses(clean)].reshape(-1)
        for start in range(0, min(len(rest) // size, most) * size, size):
            kept.append(audio.set_level(rest[start : start + size], LEVEL))
            places.append(place)
    return np.stack(kept) if kept else np.zeros((0, size), np.float32), np.array(places, dtype=int)
