"""Simulated rooms (pyroomacoustics, image-source method): one microphone, each speaker at a place of their own.

Waves are float32 `(samples,)`, responses too; distances in metres, times in seconds, the speed of sound 343 m/s.
"""

import numpy as np
from scipy import signal

MARGIN = 0.5  # m from the walls
HIGHEST_ORDER = 60  # reflections followed at most; a small hard room needs many before its sound has died away
LOWEST_HZ = 80.0  # image sources add up in phase below the first modes, where a real room does not: taken out
TRIES = 4  # simulations of one seat until the reverberation time is the one asked for
CLOSE = 0.05  # relative difference that ends them


def draw(rng, sources):
    """A random room as plain values: size (m), reverberation time (s), places of microphone and speakers (m)."""
    size = [round(float(rng.uniform(*span)), 2) for span in ((4.0, 8.0), (3.5, 6.0), (2.5, 3.2))]
    places = rng.uniform(MARGIN, np.array(size) - MARGIN, (1 + sources, 3))
    places[:, 2] = rng.uniform(1.1, 1.8, 1 + sources)  # the height of a sitting or standing head
    places = [[round(float(x), 2) for x in place] for place in places]
    return dict(size=size, rt60=round(float(rng.uniform(0.15, 0.45)), 3), microphone=places[0], sources=places[1:])


def place(waves, room, sr):
    """What the microphone of `room` hears of each of `waves` alone, reverberation included, at their own lengths."""
    responses = simulate(room["size"], room["rt60"], room["microphone"], room["sources"], sr)
    return [through(wave, response) for wave, response in zip(waves, responses)]


def through(wave, response):
    """`wave` as it is heard through `response`, cut to its own length."""
    return signal.oaconvolve(wave, response)[: len(wave)].astype(np.float32)


def simulate(size, rt60, microphone, sources, sr):
    """Impulse responses from `sources` (each x, y, z) to the microphone, a list of float32 `(taps,)` at `sr`.

    Sabine's formula alone misses the reverberation time by a third; so the absorption of the walls is corrected until
    the first response decays as asked, and the order of reflections follows from it. Raises `ModuleNotFoundError` where
    pyroomacoustics is missing, ValueError for a reverberation time that no such room has.
    """
    try:
        import pyroomacoustics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a simulated room needs pyroomacoustics: pip install pyroomacoustics, or set room_share=0."
        ) from error
    try:
        absorption, order = pyroomacoustics.inverse_sabine(rt60, size)
    except ValueError as error:
        raise ValueError(f"a room of {size} m cannot have a reverberation time of {rt60:g} s ({error}).") from error

    def responses(where, absorption):
        box = pyroomacoustics.ShoeBox(
            size,
            fs=sr,
            materials=pyroomacoustics.Material(float(absorption)),
            max_order=int(min(HIGHEST_ORDER, max(order, 1))),
        )
        for source in where:
            box.add_source(list(source))
        box.add_microphone(list(microphone))
        box.compute_rir()
        return box.rir[0]

    for _ in range(TRIES):
        ratio = reverberation_time(responses(sources[:1], absorption)[0], sr) / rt60
        if abs(ratio - 1) < CLOSE:
            break
        absorption = float(np.clip(absorption * ratio, 0.01, 0.99))
    high_pass = signal.butter(2, LOWEST_HZ, "highpass", fs=sr, output="sos")
    return [signal.sosfilt(high_pass, response).astype(np.float32) for response in responses(sources, absorption)]


def reverberation_time(response, sr):
    """RT60 in s: three times the time in which the energy still to come falls from -5 to -25 dB (Schroeder, 1965)."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decay = 10 * np.log10(energy / energy[0] + 1e-15)
    first, last = np.argmax(decay < -5), np.argmax(decay < -25)
    slope = np.polyfit(np.arange(first, last + 1) / sr, decay[first : last + 1], 1)[0] if last > first + 1 else -np.inf
    return float(-60 / slope)


def direct_to_reverberant(response, sr, direct_ms=2.5):
    """Energy of the direct sound, up to 2.5 ms after its peak, over all that comes later, in dB."""
    end = int(np.argmax(np.abs(response))) + round(direct_ms * sr / 1000)
    return float(10 * np.log10(np.sum(response[:end] ** 2) / (np.sum(response[end:] ** 2) + 1e-15)))


def early(response, sr, milliseconds=50.0, fade=10.0):
    """The direct sound and the reflections of the first `milliseconds` after it, faded out over the last `fade` ms."""
    end = min(int(np.argmax(np.abs(response))) + round(milliseconds * sr / 1000), len(response))
    ramp = min(round(fade * sr / 1000), end)
    kept = response[:end].copy()
    kept[end - ramp :] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, ramp, dtype=np.float32))
    return kept
