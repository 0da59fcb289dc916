"""How a recipe of `lib.data.recipes` sounds: its pieces put together, placed in a room, scaled and passed by a device.

Waves are float32 `(samples,)` in [-1, 1] at 16 kHz.
"""

import numpy as np

from lib import audio
from lib.data import rooms, seating
from lib.data.devices import Device, own_noise
from lib.data.recipes import FADE, MADE, SR

LOUDEST = 0.99  # the peak that a mixture may have


def assemble(pieces, library, samples, raw=False):
    """`pieces` put in their places in a segment of `samples` samples, faded at their ends; `raw`: without their
    gains.
    """
    segment = np.zeros(samples, dtype=np.float32)
    for piece in pieces:
        wave = library.wave(piece.file)[0][piece.offset : piece.offset + piece.samples] * np.float32(
            1.0 if raw else piece.gain
        )
        ramp = np.linspace(0, 1, min(FADE, len(wave) // 2), dtype=np.float32)
        wave[: len(ramp)] *= ramp
        wave[len(wave) - len(ramp) :] *= ramp[::-1]
        room = wave[: samples - piece.at]
        segment[piece.at : piece.at + len(room)] += room
    return segment


def render(recipe, library):
    """The parts of one mixture: `(parts, facts)`, float32 `(samples,)` each.

    `parts`: mix, target, heard, interferers (a list), noise, enrollment. `target` is what a model is to give back;
    `heard` is what the mix holds of it, so that mix = heard + the interferers + noise, as it is written. They differ in
    a place: there the target is the direct sound and early reflections, before the device, and all else is as the
    device passes it on (where it has a codec or clips, the mix is the device's, and the parts are what enters it).
    In a room without a place the target is what the microphone would hear of it alone, reverberation included.
    Where `absent` says that the person is silent, target and heard are zeros, and there is no SIR or SNR.
    `facts`: gains, SIR and SNR as they came out (dB), the target's level before and after (dBFS), the common scale.
    """
    samples, level, place = recipe["samples"], recipe["level_dbfs"], library.place
    target, absent, loud = assemble(recipe["target_pieces"], library, samples), recipe.get("absent"), 1.0
    if recipe.get("quiet"):
        target, loud = target * _pause(recipe["quiet"], samples), (1 - np.diff(recipe["quiet"])[0] / samples) ** 0.5
    others = [assemble(pieces, library, samples) for pieces in recipe["interferer_pieces"]]
    noise = _noise(recipe, library, samples)
    if place is not None:
        target, heard, others = seating.place_voices(place, recipe["room"], target, others)
        noise = seating.high_pass(place, noise)
    elif recipe["room"]:
        target, *others = rooms.place([target, *others], recipe["room"], SR)
    if place is None:
        heard = target
    gain = _gain_to(heard, loud * 10 ** (level / 20))
    rms = gain * _rms(heard) / loud
    gains = [_gain_to(wave, rms * ratio) for wave, ratio in zip(others, recipe["ratios"])]
    if recipe["wanted_sir_db"] is not None:
        together = _rms(sum(np.float32(g) * wave for g, wave in zip(gains, others)))
        gains = [g * rms * 10 ** (-recipe["wanted_sir_db"] / 20) / together for g in gains]
    gains = [gain, *gains, _gain_to(noise, rms * recipe["background_ratio"])]
    sources = [np.float32(g) * wave for g, wave in zip(gains, [heard, *others, noise])]
    target = np.float32(gain) * target
    if absent in ("stranger", "nobody"):  # who was drawn as the target is one of the others, or silent with them
        heard, others = sources[0], sources[1:-1]
        others = [heard, *others] if absent == "stranger" else []
        sources, target, gains = [0 * heard, *others, sources[-1]], 0 * target, [0.0, *gains[: len(others)], gains[-1]]
    device = Device() if place is None else place.device
    if device.linear:
        sources = [device(wave) if wave.any() else wave for wave in sources]
    sources[-1] = sources[-1] + own_noise(device, np.random.default_rng([recipe["index"], 11]), samples)
    peak = max(np.abs(sum(sources)).max(), np.abs(target).max())
    scale = np.float32(min(1.0, LOUDEST / float(peak)))
    target, (heard, *others, noise) = scale * target, [scale * wave for wave in sources]
    mix = sum(others, heard) + noise
    if not device.linear:
        mix, scale, (target, heard, *others, noise) = _through(device, mix, scale, [target, heard, *others, noise])
    parts = dict(
        mix=mix,
        target=target,
        heard=heard,
        interferers=others,
        noise=noise,
        enrollment=_enrollment(recipe, library),
    )
    raw = assemble(recipe["target_pieces"], library, samples, raw=True)
    return parts, _facts(parts, raw, [g * float(scale) for g in gains], float(scale))


def _through(device, mix, scale, parts):
    """`(mix, scale, parts)` with the mix as `device`, which is not linear, passes it on. A filter's overshoot can pass
    full scale where what came in did not; then all of it is fainter, from the start.
    """
    heard = device(mix)
    while (peak := np.abs(heard).max()) > 1:
        fainter = np.float32(0.99 * LOUDEST / peak)
        mix, scale, parts = fainter * mix, fainter * scale, [fainter * wave for wave in parts]
        heard = device(mix)
    return heard, scale, parts


def _pause(quiet, samples):
    """What to multiply a wave `(samples,)` with that it is silent from sample `quiet[0]` to `quiet[1]`, with ramps."""
    keep = np.ones(samples, np.float32)
    keep[quiet[0] : quiet[1]] = 0.0
    ramp = np.ones(4 * FADE, np.float32) / (4 * FADE)
    return np.minimum(keep, np.convolve(np.pad(keep, 4 * FADE, mode="edge"), ramp, mode="same")[4 * FADE : -4 * FADE])


def _noise(recipe, library, samples):
    if recipe["background"] in MADE:
        return MADE[recipe["background"]](np.random.default_rng(recipe["noise_seed"]), samples)
    return sum(
        (assemble(pieces, library, samples) for pieces in recipe["background_pieces"]),
        np.zeros(samples, dtype=np.float32),
    )


def _enrollment(recipe, library):
    pieces = recipe["enrollment_pieces"]
    return audio.set_level(assemble(pieces, library, pieces[-1].at + pieces[-1].samples), recipe["level_dbfs"])


def _facts(parts, raw, gains, scale):
    talk, there = sum(parts["interferers"]), parts["heard"].any()
    level, after = audio.rms_db, audio.rms_db(parts["target"])
    facts = dict(
        sir_db=level(parts["heard"]) - level(talk) if there else None,
        snr_db=level(parts["heard"]) - level(parts["noise"]) if there and parts["noise"].any() else None,
        scale=scale,
        target_gain=gains[0],
        interferer_gains=gains[1:-1],
        background_gain=gains[-1],
        level_before_db=level(raw) if there else None,
        level_after_db=after if there else None,
        mix_level_db=level(parts["mix"]),
        enrollment_seconds=len(parts["enrollment"]) / SR,
    )
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in facts.items()}


def _rms(wave):
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _gain_to(wave, rms):
    """The gain that brings `wave` to the given RMS (not dB); 0 for a silent wave, so that no 0/0 arises."""
    own = _rms(wave)
    return rms / own if own > 0 else 0.0
