"""A conversation in one of chapter 1's places, everybody in it extracted, and what a wrong diarization costs there.

Waves are float32 `(samples,)` at 16 kHz. A person's target is what chapters 1 to 3 ask for: the direct sound and the
reflections of the first 50 ms, before the device.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lib import audio, metrics
from lib.data import noises, places, rooms, seating
from lib.data.devices import own_noise
from lib.data.manifest import read_manifest
from lib.data.thread import thread
from lib.diarization import conversations, protocols, styles, use
from lib.diarization.pipeline import DiarizationError
from lib.diarization.rttm import Turn
from lib.diarization.scores import DiarizationErrorRate

SR = 16000
STYLE = replace(styles.TALK, name="in place", seconds=30.0, people=(2, 3), level_db=(-2.0, 2.0))
SNR_DB = 9.0
SECONDS = 8.0  # of each person alone, taken as the enrollment


@dataclass
class PlacedTalk:
    """wave `(samples,)`; annotation: who truly speaks when; targets: person -> `(samples,)`, silent between turns."""

    wave: np.ndarray
    annotation: object
    targets: dict


def talk(place, voices, seed=0, split="Test", style=STYLE, snr_db=SNR_DB):
    """A conversation by `style` in `place` (a name, a folder or a `Place`), each person in a seat of `split`, with the
    place's noise and through its device.
    """
    place, rng = places.open_place(place), np.random.default_rng(seed)
    turns, dry = conversations.speak(rng, style, voices)
    responses = seating.responses(place, split)
    if responses and len(responses) < len(dry):
        raise places.PlaceError(f"{place.name}: {len(dry)} people need as many seats, and there are {len(responses)}.")
    seats = [list(responses)[k] for k in rng.permutation(len(responses))[: len(dry)]] or [None] * len(dry)
    heard, targets = {}, {}
    for (name, wave), seat in zip(dry.items(), seats):
        wet = early = wave
        if seat:
            wet = rooms.through(wave, responses[seat])
            first = rooms.early(responses[seat], SR, place.early_ms) if place.early_ms else responses[seat]
            early = rooms.through(wave, first)
        gain = np.sqrt(np.mean(wave**2) / max(np.mean(wet**2), 1e-12))
        heard[name], targets[name] = (gain * seating.high_pass(place, one) for one in (wet, early))
    speech = np.sum(list(heard.values()), axis=0)
    fan = noises.fan if place.mixtures.get("fan_share") else noises.coloured
    noise = audio.set_level(seating.high_pass(place, fan(rng, len(speech))), audio.rms_db(speech) - snr_db)
    mix = place.device(speech + noise) + own_noise(place.device, rng, len(speech))
    scale = min(1.0, 0.9 / float(np.abs(mix).max()))
    return PlacedTalk(
        (scale * mix).astype(np.float32),
        protocols.annotation(place.name, turns),
        {name: (scale * wave).astype(np.float32) for name, wave in targets.items()},
    )


def build(place, table, root, style=styles.MEETING, counts=None, seed=0, overwrite=False):
    """`conversations.build` with all conversations held in `place` (a name, a folder or a `Place`), each set in the
    seats of its split. The style's own rooms and backgrounds are not used.
    """
    place = places.open_place(place)

    def draw(style, voices, seed, split):
        spoken = talk(place, voices, seed, split, style, snr_db=SNR_DB)
        turns = [Turn(name, s.start, s.end) for s, _, name in spoken.annotation.itertracks(yield_label=True)]
        return conversations.Conversation(spoken.wave, turns, spoken.targets, {"seed": seed, "place": place.name})

    return conversations.build(table, root, style, counts, seed, overwrite, draw=draw, place=place.name)


def extracted(spoken, annotation, model, seconds=SECONDS):
    """Everybody of `annotation`, with what is cleanest of them in it as the enrollment: person -> (estimate
    `(samples,)`, s of enrollment).

    A person is whom a name of the annotation fits best; who was not found, or is never alone for a second, is left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = DiarizationErrorRate().optimal_mapping(spoken.annotation, annotation) if annotation else {}
    out = {}
    for name, person in same.items():
        try:
            enrolled, _ = use.enrollment(spoken.wave, annotation, name, seconds)
        except DiarizationError:
            continue
        with warnings.catch_warnings():  # how short an enrollment is stands in the table
            warnings.filterwarnings("ignore", message="enrollment: .* is short")
            out[person] = model.extract(spoken.wave, enrolled), len(enrolled) / SR
    return out


def scores(spoken, found):
    """A row a person: how long they speak, s of enrollment, SI-SDR in the mixture and SI-SDRi in dB, both over the
    person's own turns. Who was left out has an SI-SDRi of 0: all there is of them is the mixture.
    """
    rows = []
    for person, target in spoken.targets.items():
        spans = spoken.annotation.label_timeline(person).support()
        own = np.concatenate([np.arange(round(s.start * SR), min(round(s.end * SR), len(target))) for s in spans])
        estimate, seconds = found.get(person, (spoken.wave, 0.0))
        before = metrics.si_sdr(spoken.wave[own], target[own])
        rows.append(
            {
                "person": person,
                "speaks (s)": len(own) / SR,
                "enrollment (s)": seconds,
                "SI-SDR of the mixture (dB)": float(before),
                "SI-SDRi (dB)": float(metrics.si_sdr(estimate[own], target[own]) - before),
            }
        )
    return pd.DataFrame(rows)


def cost(spoken, annotations, model, seconds=SECONDS):
    """`scores` with the enrollments of each of `annotations` (name -> annotation) under each other, and the estimates,
    name -> person -> (estimate, seconds).
    """
    found = {name: extracted(spoken, annotation, model, seconds) for name, annotation in annotations.items()}
    tables = [scores(spoken, estimates).assign(turns=name) for name, estimates in found.items()]
    return pd.concat(tables, ignore_index=True), found


def thread_talk(folder, table, seconds=6.0):
    """What chapter 3 left, as a talk: the mixture of `lib.data.thread` in the Dataset `folder`, after `seconds` of each
    of the others alone and the enrollment; `(wave, turns)`, turns by name up to where the mixture begins.

    table: the voices the folder was made of. Raises `DatasetError` where the folder holds nothing, `KeyError` where
    nothing says who the others are.
    """
    item = thread(folder)
    row = read_manifest(folder, "Test").set_index("index").loc[item["index"]]
    parts = [(row["speaker"], item["enrollment"].numpy())]
    for name in row["interferers"]:
        paths = table.loc[table["speaker"] == name, "path"]
        waves = [audio.read(path) for path in paths.iloc[-12:]]
        parts.insert(0, (name, np.concatenate(waves)[: round(seconds * SR)]))
    turns, at, waves = [], 0.0, []
    for name, wave in parts:
        turns.append(Turn(name, at, at + len(wave) / SR))
        waves += [audio.set_level(wave, -24.0), np.zeros(SR // 2, np.float32)]
        at = turns[-1].end + 0.5
    mix = audio.set_level(item["mix"].numpy(), -22.0)
    return np.concatenate([*waves, mix]).astype(np.float32), turns
