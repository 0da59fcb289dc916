"""Where a mixture is heard: the room and its seats, the noise, the device, how many others speak and how loud.

A few places have names (`NAMED`); a folder of your own is one too:

    places/NAME/noise/*         what the place sounds like, half a minute or more
                responses/*     impulse responses, or claps, or recordings of a sweep beside `sweep.wav` itself
                device.json     fields of `lib.data.devices.Device`
                place.json      fields of `Place`

What is missing there is simulated, and said. Train, Val and Test of a place share its device and the kind of its noise,
never seats, noise stretches or people. Distances are in metres, levels in dB, waves float32 `(samples,)` at 16 kHz.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from scipy import signal

from lib.data import cache_dir, real_sounds, rooms
from lib.data.devices import SR, Device
from lib.data.responses import ResponseError, read_responses
from lib.runs import place as project_path

SPLITS = ("Train", "Val", "Test")
VERSION = 1  # raise when the same place comes to sound different
WALL = 0.3  # m between a seat and the nearest wall
APART = 0.25  # m between two seats
FEW = 6  # measured responses from which on they are used themselves: two for each split


class PlaceError(ValueError):
    """A place cannot be used; the message names the file or setting and says what to do."""


@dataclass(frozen=True)
class Place:
    """A place.

    `mixtures`: settings of `lib.data.mixtures.MixtureSettings` that it brings; those given win over them. `recording`
    among them names one of `lib.data.real_sounds.SOUNDS`, which takes the place of `noise_folder`.
    """

    name: str = "office"
    size: tuple = (6.8, 5.2, 2.9)  # of the room, m
    rt60: float = 0.5  # s; 0: no room, the voices are heard dry
    microphone: tuple = (3.2, 2.4, 0.8)
    heights: tuple = (1.1, 1.6)  # of mouths, m
    target_distance: tuple = (0.6, 1.4)  # from the microphone, m
    other_distance: tuple = (1.0, 2.5)
    seats: int = 24  # for targets and as many for others, in each split
    high_pass_hz: float = 100.0  # second order, on voices, noise and target; 0: none
    early_ms: float = 50.0  # of the target: direct sound and early reflections; 0: all of the reverberation
    device: Device = field(default_factory=Device)
    mixtures: dict = field(default_factory=dict)
    folder: str = ""  # of a user's own place
    seed: int = 0  # of the seats

    def __post_init__(self):
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, list):
                object.__setattr__(self, one.name, tuple(value))
        if isinstance(self.device, dict):
            object.__setattr__(self, "device", Device(**self.device))
        _check(self)


def _check(place):
    for name in ("heights", "target_distance", "other_distance"):
        value = getattr(place, name)
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise PlaceError(f"{name}: expected (low, high) in metres with 0 < low <= high; got {value!r}.")
    if len(place.size) != 3 or min(place.size) <= 1 or len(place.microphone) != 3:
        raise PlaceError(
            f"size and microphone: expected three numbers in metres; got {place.size}, {place.microphone}."
        )
    if any(not 0 < x < length for x, length in zip(place.microphone, place.size)):
        raise PlaceError(f"microphone: {place.microphone} is not inside the room of {place.size} m.")
    if not 0 <= place.rt60 <= 3:
        raise PlaceError(f"rt60: expected 0 (no room) to 3 s; got {place.rt60!r}.")
    if place.seats < 2:
        raise PlaceError(
            f"seats: expected 2 or more in each split, so that no two people share one; got {place.seats}."
        )


CHEAP = Device(  # a cheap conference microphone: nothing under 250 Hz, little over 4.5 kHz, and the table under it
    curve=(
        (0, -80),
        (220, -70),
        (260, -1),
        (900, 3),
        (1400, -2),
        (2300, 4),
        (3200, 0),
        (4500, -8),
        (5500, -40),
        (8000, -70),
    ),
    comb_ms=0.6,
    comb_gain=0.4,
    floor_dbfs=-50.0,
)
NAMED = {
    "studio": Place("studio", rt60=0.0, high_pass_hz=0.0),  # the mixtures that the starter was made from
    "office": Place(
        "office",
        device=CHEAP,
        mixtures=dict(interferers=(1, 2), sir_db=(0.0, 6.0), snr_db=(3.0, 12.0), background_share=1.0, fan_share=1.0),
    ),
    "meeting": Place(
        "meeting",
        size=(8.2, 5.6, 3.0),
        rt60=0.7,
        microphone=(0.6, 2.8, 1.2),
        target_distance=(1.8, 4.0),
        other_distance=(1.8, 5.0),
        device=CHEAP,
        mixtures=dict(interferers=(1, 2), sir_db=(0.0, 6.0), snr_db=(3.0, 9.0), background_share=1.0, fan_share=1.0),
    ),
    "cafe": Place(
        "cafe",
        size=(11.0, 8.0, 3.4),
        rt60=0.6,
        microphone=(5.2, 3.9, 0.9),
        target_distance=(0.4, 0.9),
        other_distance=(1.2, 3.5),
        device=Device(curve=((0, -40), (100, -20), (200, 0), (1500, 0), (2800, 6), (4000, 2), (7000, -6), (8000, -25))),
        mixtures=dict(
            interferers=(1, 2), sir_db=(0.0, 8.0), snr_db=(0.0, 8.0), background_share=1.0, recording="crowd"
        ),
    ),
    "open_plan": Place(  # the office, with the sound of a real one instead of a fan
        "open_plan",
        device=CHEAP,
        mixtures=dict(
            interferers=(1, 2), sir_db=(0.0, 6.0), snr_db=(3.0, 12.0), background_share=1.0, recording="office"
        ),
    ),
    "phone": Place(
        "phone",
        size=(4.2, 3.4, 2.6),
        rt60=0.35,
        microphone=(2.0, 1.7, 1.3),
        target_distance=(0.15, 0.5),
        other_distance=(0.8, 1.8),
        device=Device(curve=((0, -50), (200, -30), (300, 0), (3300, 0), (3600, -40), (8000, -60)), codec="mu-law"),
        mixtures=dict(
            interferers=(1, 1), sir_db=(0.0, 6.0), snr_db=(10.0, 20.0), background_share=0.5, noise_share=1.0
        ),
    ),
}


def open_place(place, **overrides):
    """A `Place` by name, from a folder, or from the dict that a dataset's settings.json holds; with fields overridden.

    Raises `PlaceError` for an unknown name or field, and for a folder that lacks noise or holds what cannot be used.
    """
    if isinstance(place, Place):
        found = place
    elif isinstance(place, dict):
        found = _made(Place, place, "place")
    elif place in NAMED:
        found = NAMED[place]
    elif project_path(place).is_dir():
        found = _from_folder(project_path(place))
    else:
        raise PlaceError(f"no place {place!r}; known are: {', '.join(NAMED)}, or a folder with noise/ and responses/.")
    return _made(replace, overrides, "place", found) if overrides else found


def _made(make, values, what, *first):
    try:
        return make(*first, **values)
    except TypeError as error:
        known = ", ".join(one.name for one in fields(Place if what == "place" else Device))
        raise PlaceError(f"{what}: {error}. Known fields are: {known}.") from error
    except ValueError as error:
        raise PlaceError(str(error)) from error


def _from_folder(folder):
    """The place of a user's own folder; prints what of it is simulated."""
    values, made = {}, []
    for name in ("place.json", "device.json"):
        if (folder / name).is_file():
            try:
                told = json.loads((folder / name).read_text(encoding="utf-8-sig"))
            except ValueError as error:
                raise PlaceError(f"{folder / name}: not valid JSON ({error}).") from error
            values |= {"device": _made(Device, told, f"{folder / name}")} if name == "device.json" else told
        elif name == "device.json":
            made.append("no device.json: the microphone passes everything alike")
    if not (folder / "noise").is_dir() or not any((folder / "noise").iterdir()):
        raise PlaceError(
            f"{folder}: no noise/ with recordings. Record the place without talk for half a minute or more."
        )
    measured = responses_of(folder)
    if measured:
        times, ratios = zip(
            *((rooms.reverberation_time(one, SR), rooms.direct_to_reverberant(one, SR)) for one in measured.values())
        )
        made.append(
            f"{len(measured)} response(s), RT60 {np.median(times):.2f} s, direct over reverberant sound"
            f" {np.median(ratios):.1f} dB (medians)"
        )
    if len(measured) < FEW:
        if measured and "rt60" not in values:
            values["rt60"] = round(float(np.median(times)), 3)
            made.append(f"fewer than {FEW} responses: their RT60 shapes a simulated room")
        else:
            made.append(f"fewer than {FEW} responses: the room is simulated")
    usual = dict(interferers=(1, 2), sir_db=(0.0, 6.0), snr_db=(3.0, 12.0), background_share=1.0, folder_share=1.0)
    values["mixtures"] = {**usual, **values.get("mixtures", {})}
    print(*(f"{folder.name}: {line}." for line in made), sep="\n", end="\n" * bool(made))
    return _made(Place, {"name": folder.name, "folder": str(folder), **values}, "place")


def responses_of(folder):
    """Name of file -> measured impulse response of a user's own place; empty where there are none."""
    folder = Path(folder) / "responses"
    try:
        return read_responses(folder) if folder.is_dir() else {}
    except ResponseError as error:
        raise PlaceError(str(error)) from error


def mixture_settings(place, **given):
    """The settings of mixtures that a place brings: its own, with every other kind of background off, its folder or
    recording, and over them those `given`.

    Raises `PlaceError` where its recording cannot be had and nothing stands for it.
    """
    told = dict(place.mixtures)
    recording = told.pop("recording", "")
    if told.get("background_share"):
        told = {**dict(babble_share=0.0, music_share=0.0, noise_share=0.0, folder_share=0.0, fan_share=0.0), **told}
    if place.folder:
        told["noise_folder"] = str(Path(place.folder) / "noise")
    if recording:
        told["folder_share"] = 1.0
        wanted = {**told, **given}
        if "noise_folder" not in given and wanted["background_share"] and wanted["folder_share"]:
            told |= _recorded(place.name, recording)
    return {**told, **given}


def _recorded(place, name):
    """The settings that bring the recording `name` to the mixtures, or what stands for it, which is said."""
    try:
        return dict(noise_folder=str(real_sounds.folder(name)))
    except real_sounds.SoundError as error:
        instead = real_sounds.SOUNDS[name].instead
        if not instead:
            raise PlaceError(f"{place}: {error} Take another place, such as office.") from error
        print(f"{place}: {instead} instead of a recording: {error}")
        return {"folder_share": 0.0, f"{instead}_share": 1.0}


# --- seats and their responses


def seats(place, split):
    """Where people sit in `split`, {"target": (seats, 3), "other": (seats, 3)} in metres; other seats in each split."""
    rng = np.random.default_rng([place.seed, SPLITS.index(split), 7])
    taken, found = [], {}
    for who, (near, far) in (("target", place.target_distance), ("other", place.other_distance)):
        found[who] = []
        for _ in range(20000):
            if len(found[who]) == place.seats:
                break
            distance, angle, height = rng.uniform(near, far), rng.uniform(0, 2 * np.pi), rng.uniform(*place.heights)
            level = max(distance**2 - (height - place.microphone[2]) ** 2, 0.0) ** 0.5
            x, y, _ = place.microphone
            seat = np.array([x + level * np.cos(angle), y + level * np.sin(angle), height])
            inside = all(WALL < x < length - WALL for x, length in zip(seat, place.size))
            inside = inside and near <= np.linalg.norm(seat - place.microphone) <= far
            if inside and all(np.linalg.norm(seat - other) > APART for other in taken):
                found[who].append(seat)
                taken.append(seat)
        if len(found[who]) < place.seats:
            raise PlaceError(
                f"{place.name}: only {len(found[who])} of {place.seats} seats {near:g} to {far:g} m from the microphone"
                f" fit into the room of {place.size} m. Make the room larger, the distances wider or `seats` fewer."
            )
    return {who: np.round(places, 3) for who, places in found.items()}


_loaded = {}  # (key, split) -> responses, so that each process reads them once


def responses(place, split):
    """`{"target 0": response, ..., "other 0": ...}`, float32 `(taps,)`, of the seats of `split`; kept in the cache.

    Measured ones where the place has six or more, else simulated (half a minute once for 144 seats of an office).
    """
    if not place.rt60:
        return {}
    told = {name: value for name, value in asdict(place).items() if name not in ("name", "device", "mixtures")}
    key = hashlib.sha256(json.dumps([VERSION, told]).encode()).hexdigest()[:12], split
    if key not in _loaded:
        _loaded[key] = _measured(place, split) or _simulated(place, split, cache_dir() / "places" / "-".join(key))
    return _loaded[key]


def _measured(place, split):
    found = responses_of(place.folder) if place.folder else {}
    if len(found) < FEW:
        return {}
    names = sorted(found)[SPLITS.index(split) :: len(SPLITS)]
    return {f"{who} {n}": found[name] for who in ("target", "other") for n, name in enumerate(names)}


def _simulated(place, split, path):
    path = path.with_suffix(".npz")
    if not path.is_file():
        where = seats(place, split)
        names = [f"{who} {n}" for who in where for n in range(len(where[who]))]
        made = rooms.simulate(list(place.size), place.rt60, place.microphone, [*where["target"], *where["other"]], SR)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as part:
            np.savez(part, **dict(zip(names, made)))
        Path(part.name).replace(path)
    with np.load(path) as stored:
        return dict(stored)


# --- what a mixture takes from its place


def draw(rng, place, split, others):
    """Who sits where, as plain values for a recipe: the seat of the target and those of `others` people."""
    if not place.rt60:
        return None
    names = list(responses(place, split))
    own, free = ([name for name in names if name.startswith(who)] for who in ("target", "other"))
    target = own[int(rng.integers(len(own)))]
    if _measured(place, split):  # one recorded seat, one person
        free = [name for name in free if name.split()[1] != target.split()[1]]
    if len(free) < others:
        raise PlaceError(
            f"{place.name}: {1 + others} people need as many seats in {split}, and there are {1 + len(free)} responses."
            " Record more of them, or set interferers=(1, 1)."
        )
    chosen = [free[k] for k in rng.choice(len(free), others, replace=False)]
    return dict(split=split, target=target, others=chosen)


def place_voices(place, where, target, others):
    """`(reference, heard, others)`: the target as a model is to give it back, and all as they reach the microphone."""
    if where:
        found = responses(place, where["split"])
        heard = rooms.through(target, found[where["target"]])
        first = rooms.early(found[where["target"]], SR, place.early_ms) if place.early_ms else found[where["target"]]
        reference = rooms.through(target, first)
        others = [rooms.through(wave, found[name]) for wave, name in zip(others, where["others"])]
    else:
        heard = reference = target
    return high_pass(place, reference), high_pass(place, heard), [high_pass(place, wave) for wave in others]


def high_pass(place, wave):
    """`wave` without what lies under the place's lowest frequency (second-order Butterworth)."""
    if not place.high_pass_hz:
        return wave
    return signal.sosfilt(signal.butter(2, place.high_pass_hz, "highpass", fs=SR, output="sos"), wave).astype(
        np.float32
    )
