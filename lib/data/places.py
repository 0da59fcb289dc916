"""Where a mixture is heard: the room, the noise, the device, how many others speak and how loud. `seating.py` says who
sits where in it.

A few places have names (`NAMED`); a folder of your own is one too:

    places/NAME/noise/*         what the place sounds like, half a minute or more
                responses/*     impulse responses, or claps, or recordings of a sweep beside `sweep.wav` itself
                device.json     fields of `lib.data.devices.Device`
                place.json      fields of `Place`

What is missing there is simulated, and said. Train, Val and Test of a place share its device and the kind of its noise,
never seats, noise stretches or people. Distances are in metres, levels in dB, waves float32 `(samples,)` at 16 kHz.
"""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from lib.data import real_sounds, rooms
from lib.data.devices import SR, Device
from lib.data.responses import ResponseError, read_responses
from lib.runs import place as project_path

FEW = 6  # measured responses from which on they are used themselves: two for each split


class PlaceError(ValueError):
    """A place cannot be used; the message names the file or setting and says what to do."""


@dataclass(frozen=True)
class Place:
    """A place.

    `mixtures`: settings of `lib.data.mixture_settings.MixtureSettings` that it brings; those given win over them.
    `recording` among them names one of `lib.data.real_sounds.SOUNDS`, which takes the place of `noise_folder`.
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
