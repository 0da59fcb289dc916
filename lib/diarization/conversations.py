"""Conversations simulated from single voices, with exact labels: who speaks when is drawn (`styles.py`), then the
voices are laid there.

Waves are float32 `(samples,)` at 16 kHz; times in seconds. The recordings of a person follow each other inside a turn,
with short breaths between; a turn is one line of the RTTM.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lib import audio
from lib.data import noises, rooms, voice_making
from lib.data.devices import Device
from lib.diarization import protocols
from lib.diarization.rttm import write_rttm, write_uem
from lib.diarization.styles import MEETING, ConversationError, overlap, plan
from lib.runs import read_json, write_json, write_text

SR = 16000
SETS = {"train": "Train", "dev": "Val", "test": "Test"}  # set -> split of the voices: nobody is in two
LEAST_SECONDS = 25.0  # s of recordings a person needs to take part
EDGE_DB = (
    35.0  # a recording's ends fainter than this below its loudest part are cut off, so that a turn begins with speech
)
FADE = int(0.01 * SR)
SOUND, FILTER_DELAY = 343.0, 40  # m/s; samples by which pyroomacoustics delays every response


@dataclass
class Conversation:
    """wave `(samples,)`; turns: list of `Turn`; voices: speaker -> that person's part of the wave, `(samples,)`; facts:
    what was drawn.
    """

    wave: np.ndarray
    turns: list
    voices: dict
    facts: dict


# --- the sound


class Voices:
    """The recordings of each person of a split, read when needed and kept."""

    def __init__(self, table, least=LEAST_SECONDS):
        if missing := [name for name in ("speaker", "path", "seconds") if name not in table]:
            raise ConversationError(f"the table of voices lacks {', '.join(missing)}; lib.data.voices.load gives it.")
        seconds = table.groupby("speaker")["seconds"].sum()
        self.people = sorted(seconds[seconds >= least].index)
        self.paths = {name: sorted(rows["path"]) for name, rows in table.groupby("speaker") if name in set(self.people)}
        self.waves = {}

    def read(self, path):
        if path not in self.waves:
            self.waves[path] = audio.set_level(_trim(audio.read(path, SR)), -26.0)
        return self.waves[path]


def _trim(wave, frame=160):
    """Without the faint ends; a recording of nothing else is left as it is."""
    count = len(wave) // frame
    if not count:
        return wave
    levels = audio.rms_db(wave[: count * frame].reshape(count, frame))
    loud = np.flatnonzero(levels > levels.max() - EDGE_DB)
    return wave[loud[0] * frame : (loud[-1] + 1) * frame]


def simulate(style, voices, seed=0, music=()):
    """One conversation by `style` out of `voices` (`Voices` of one split); the same seed gives the same samples.

    music: pieces `(samples,)` that may be the background beside coloured noise. Raises `ConversationError` with too few
    people.
    """
    rng = np.random.default_rng(seed)
    turns, parts = speak(rng, style, voices)
    facts = {"seed": seed, "people": list(parts), "overlap": round(overlap(turns), 4), "room": None, "snr_db": None}
    if rng.random() < style.room_share:
        facts["room"] = rooms.draw(rng, len(parts))
        parts = dict(zip(parts, _in_room(list(parts.values()), facts["room"])))
    phone = bool(style.phone_share) and rng.random() < style.phone_share
    if phone:
        parts = {name: _on_the_line(rng, part) for name, part in parts.items()}
    samples = round(style.seconds * SR)
    wave = np.sum(list(parts.values()), axis=0) if parts else np.zeros(samples, np.float32)
    if style.snr_db and parts:
        facts["snr_db"] = round(float(rng.uniform(*style.snr_db)), 2)
        background = _background(rng, wave, facts["snr_db"], music, style.burst_share)
        wave = wave + (_on_the_line(rng, background) if phone else background)
    gain = min(1.0, 0.9 / max(float(np.abs(wave).max(initial=0.0)), 1e-9))
    return Conversation(
        (wave * gain).astype(np.float32),
        turns,
        {name: (part * gain).astype(np.float32) for name, part in parts.items()},
        facts,
    )


def speak(rng, style, voices):
    """Who says what when, before any room: `(turns, parts)`, speaker -> that person's wave `(samples,)`.

    Raises `ConversationError` with too few people.
    """
    if len(voices.people) < style.people[1]:
        raise ConversationError(
            f"a conversation of up to {style.people[1]} people needs as many voices with {LEAST_SECONDS:g} s or more;"
            f" found {len(voices.people)} ({', '.join(voices.people)}). Add recordings, or lower people."
        )
    people = [
        str(name)
        for name in rng.choice(voices.people, rng.integers(style.people[0], style.people[1] + 1), replace=False)
    ]
    turns = plan(rng, style, people)
    samples, parts = round(style.seconds * SR), {}
    for name in dict.fromkeys(turn.speaker for turn in turns):
        speed = rng.uniform(*style.speed) if style.speed != (1.0, 1.0) else 1.0
        tract = rng.uniform(*style.tract) if style.tract != (1.0, 1.0) else 1.0
        part, stock = np.zeros(samples, np.float32), _stock(rng, voices, name, speed, tract)
        for turn in (turn for turn in turns if turn.speaker == name):
            first, last = round(turn.start * SR), round(turn.end * SR)
            part[first:last] = _utter(rng, stock, last - first)
        parts[name] = part * 10 ** (rng.uniform(*style.level_db) / 20)
    return turns, parts


def _stock(rng, voices, name, speed=1.0, tract=1.0):
    """A person's recordings without end, in a random order that begins anew when all are used."""
    while True:
        for place in rng.permutation(len(voices.paths[name])):
            wave = audio.resample(voices.read(voices.paths[name][place]), round(SR * speed), SR)
            wave = voice_making.stretch_envelope(wave, tract)
            if len(wave) > 2 * FADE:
                yield wave


def _utter(rng, stock, samples):
    """Recordings one after the other with breaths of 50 to 150 ms, cut to exactly `samples`, ends faded."""
    out, at = np.zeros(samples, np.float32), 0
    while at < samples:
        wave = next(stock)[: samples - at]
        end = at + len(wave)
        if samples - end < 0.2 * SR:  # no room for a breath and another word
            if at:  # this one ends the turn
                out[samples - len(wave) :] = wave
            else:  # it begins the turn too; a bit of the next fills the rest
                out[:end] = wave
                rest = next(stock)[: samples - end]
                out[samples - len(rest) :] = rest
            break
        out[at:end] = wave
        at = end + int(rng.uniform(0.05, 0.15) * SR)
    ramp = np.linspace(0, 1, min(FADE, samples // 2), dtype=np.float32)
    out[: len(ramp)] *= ramp
    out[samples - len(ramp) :] *= ramp[::-1]
    return out


def _in_room(parts, room):
    """What the microphone hears of each, moved back by the way of the sound so that the labels stay exact."""
    heard = rooms.place(parts, room, SR)
    for number, (dry, wet, source) in enumerate(zip(parts, heard, room["sources"])):
        delay = round(np.linalg.norm(np.subtract(source, room["microphone"])) / SOUND * SR) + FILTER_DELAY
        wet = np.concatenate([wet[delay:], np.zeros(delay, np.float32)])
        heard[number] = wet * (np.sqrt(np.mean(dry**2)) / max(np.sqrt(np.mean(wet**2)), 1e-9))
    return heard


def _on_the_line(rng, wave):
    """`wave` through a telephone: a band of its own between some 300 and 3400 Hz, a tilt, 8 bits at 8 kHz."""
    low, high, tilt = rng.uniform(180, 420), rng.uniform(3000, 3700), rng.uniform(-6, 6)
    curve = ((0, -50), (0.6 * low, -35), (low, -tilt / 2), (high, tilt / 2), (high + 300, -40), (8000, -60))
    return Device(curve=curve, codec="mu-law")(wave)


def _background(rng, wave, snr_db, music, burst_share=0.0):
    level = audio.rms_db(wave) - snr_db
    if len(music) and rng.random() < 0.3:
        piece = music[int(rng.integers(len(music)))]
        return audio.set_level(np.resize(np.roll(piece, -int(rng.integers(len(piece)))), len(wave)), level)
    if burst_share and rng.random() < 0.3:
        return audio.set_level(noises.fan(rng, len(wave)), level)
    noise = noises.coloured(rng, len(wave))
    if burst_share and rng.random() < burst_share:
        noise = noise * _bursts(rng, len(wave)) + 0.1 * noises.coloured(rng, len(wave))
    return audio.set_level(noise, level)


def _bursts(rng, samples):
    """A level over time `(samples,)` that rises steeply every few seconds and falls again within 50 ms to a second."""
    out, at = np.zeros(samples, np.float32), 0
    while (at := at + int(rng.exponential(3.0) * SR)) < samples:
        fall = np.exp(-np.arange(SR) / (rng.uniform(0.05, 0.4) * SR)).astype(np.float32)[: samples - at]
        out[at : at + len(fall)] += 10 ** (rng.uniform(-15, 0) / 20) * fall
    return out


# --- on disk


def build(table, root, style=MEETING, counts=None, seed=0, overwrite=False, progress=True, draw=None, place=""):
    """Write conversations into `root` in pyannote.database's form (see `lib.diarization.protocols`); returns the facts
    of each, by set.

    table: voices with `split`; train, dev and test are drawn from Train, Val and Test people. counts: set ->
    conversations. draw: `(style, voices, seed, split) -> Conversation` in place of `simulate`, and place its name. What
    is there already by the same style, counts, seed, voices and place is kept; other conversations are an error, unless
    `overwrite`, and foreign data always.
    """
    from tqdm.auto import tqdm

    root, counts = Path(root), counts or {"train": 16, "dev": 6, "test": 10}
    asked = {"style": asdict(style), "counts": counts, "seed": seed, "voices": _fingerprint(table)}
    asked |= {"place": place} if place else {}
    record = root / "conversations.json"
    if record.is_file():
        there = read_json(record)
        if there["facts"] and there["asked"] == json.loads(json.dumps(asked)):
            return there["facts"]
        if there["facts"] and not overwrite:
            raise ConversationError(
                f"{root}: other conversations are there already. Pass overwrite=True to replace them, or choose another"
                " folder."
            )
    elif root.exists() and any(root.iterdir()):
        raise ConversationError(
            f"{root}: holds data that was not made here, and is left alone. Choose another folder, or use it as it is."
        )
    write_json(record, {"asked": asked, "facts": None})  # so that an interrupted making is known for what it is
    facts = {}
    with tqdm(total=sum(counts.values()), desc=f"{style.name} conversations", disable=not progress) as bar:
        for part, count in counts.items():
            voices, facts[part] = Voices(table[table["split"] == SETS[part]]), {}
            for k in range(count):
                uri = f"{style.name}_{part}_{k:03d}"
                drawn = style, voices, conversation_seed(seed, part, k)
                facts[part][uri] = write(root, part, uri, draw(*drawn, SETS[part]) if draw else simulate(*drawn))
                bar.update()
            write_text(root / f"{part}.txt", "".join(f"{uri}\n" for uri in facts[part]))
    protocols.write_database(root)
    write_json(record, {"asked": asked, "facts": facts})
    return facts


def conversation_seed(seed, part, k):
    """The seed of the `k`-th conversation of a set, for `simulate`."""
    return [seed, list(SETS).index(part), k]


def write(root, part, uri, conversation):
    """Write one conversation's wave, RTTM and UEM into its set; returns its facts."""
    audio.write(root / part / "wav" / f"{uri}.wav", conversation.wave)
    write_rttm(root / part / "rttm" / f"{uri}.rttm", uri, conversation.turns)
    write_uem(root / part / "uem" / f"{uri}.uem", uri, [(0.0, len(conversation.wave) / SR)])
    return conversation.facts


def _fingerprint(table):
    names = sorted(
        f"{speaker} {Path(path).name} {split}"
        for speaker, path, split in zip(table["speaker"], table["path"], table["split"])
    )
    return hashlib.sha1("\n".join(names).encode()).hexdigest()[:12]
