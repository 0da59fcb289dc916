"""The stem `vocals` of a rendered song: people of one split who sing the score's leading line and speak between.

Each phrase of the line is sung or spoken, by one person, at times by several at once, and goes through the effects of
a mix. Waves are float32, stereo `(samples, 2)`, at 22,050 Hz.
"""

import numpy as np

from lib import audio
from lib.music import effects, melody, singing, vocoder

SR = 22050
SUNG = 0.8  # share of the phrases that are sung; the rest of them, and half of long gaps, are spoken
GAP = 4.0  # s without a note that may be filled with speech
CHOIR = 0.3  # share of the songs in which some phrases are sung by several people at once
DOUBLED = 0.5  # share of the songs in which the voice is recorded twice
QUIET_DB = -40.0  # dB under the loud frames of the dry voice: a pause
VOICE_SR = 16000  # Hz, of the recordings
TAKE = 12.0  # s of a recording that are used, at most
ENOUGH, TAKES = 80, 8  # syllables of a person in one song, and recordings at a time that are looked through for them


class Person:
    """The recordings of one person in an order by `rng`. formants: a factor; 1: as they are."""

    def __init__(self, recordings, rng, formants=1.0):
        self.paths, self.rng, self.formants, self.queue = recordings["path"].tolist(), rng, formants, []
        self.voice, self.known, self.at = None, [], 0

    def take(self):
        """(wave, its `Voice`) of the next recording."""
        self.queue = self.queue or list(self.rng.permutation(self.paths))
        wave = audio.set_level(audio.read(self.queue.pop(), VOICE_SR)[: int(TAKE * VOICE_SR)], -20.0)
        return wave, vocoder.analyse(wave, VOICE_SR)

    def words(self, wanted):
        """(a `Voice`, the syllables of it from the next one on).

        Recordings are taken apart until there are `ENOUGH` syllables or `TAKES` of them; then they come again.
        """
        for _ in range(TAKES):
            if len(self.known) >= min(ENOUGH, self.at + wanted):
                break
            self.voice = vocoder.joined(self.voice, self.take()[1])
            self.known = singing.syllables(self.voice)
        first = self.at % max(len(self.known), 1)
        self.at += wanted
        return self.voice, self.known[first:] + self.known[:first]


def perform(notes, people, seconds, rng, varied=False):
    """(wave `(samples, 2)`, where the dry voice sounds `(samples,)`, facts) of a song's vocals.

    notes: the leading line; without one everything is spoken. people: list of tables of recordings, the singer first
    and those of the choir after. varied: formants moved, as if by other people of the same words.
    """

    def formants():
        return float(rng.uniform(0.9, 1.12)) if varied else 1.0

    singer, samples = Person(people[0], rng, formants()), int(seconds * SR)
    choir = [Person(one, rng, formants()) for one in people[1:]] if rng.random() < CHOIR else []
    sung, spoken = _parts(notes, seconds, rng)
    dry, double = np.zeros(samples, np.float32), np.zeros(samples, np.float32)
    doubled = rng.random() < DOUBLED
    for number, phrase in enumerate(sung):
        together = choir if choir and number % 2 else []
        for person in [singer, *together]:
            wave, again = _sing(person, phrase, rng, doubled and person is singer)
            _add(dry, wave if person is singer else 0.6 * wave, phrase[0].start - 0.2)
            _add(double, again, phrase[0].start - 0.2)
    for start, end in spoken:
        _add(dry, _speak(singer, end - start, rng), start)
    heard = _heard(dry)
    wave = effects.produced(dry, SR, rng, double if doubled else None)
    facts = dict(
        sung=round(sum(p[-1].end - p[0].start for p in sung), 1), spoken=round(sum(b - a for a, b in spoken), 1)
    )
    return wave, heard, {**facts, "choir": len(choir), "doubled": doubled}


def _parts(notes, seconds, rng):
    """(phrases to be sung, stretches `(start, end)` to be spoken)."""
    sung, spoken, at = [], [], 0.0
    for phrase in melody.phrases([note for note in notes if note.start > 0.25]):
        start, end = phrase[0].start, phrase[-1].end
        if start - at > GAP and rng.random() < 0.5:
            spoken.append((at + 0.5, start - 0.5))
        if rng.random() < SUNG:
            sung.append(phrase)
        elif rng.random() < 0.7:
            spoken.append((start, end))
        at = end
    if seconds - at > GAP:
        spoken.append((at + 0.5, seconds))
    return sung, spoken


def _sing(person, phrase, rng, twice):
    """One phrase (0.2 s of room before its first note), and the same once more where `twice`."""
    voice, words = person.words(len(phrase))
    if not words:
        return np.zeros(1, np.float32), np.zeros(1, np.float32)
    begin, length = phrase[0].start - 0.2, phrase[-1].end - phrase[0].start + 0.4
    moved = [note._replace(start=note.start - begin, end=note.end - begin) for note in phrase]
    state = rng.bit_generator.state
    waves = []
    for turn in range(1 + twice):  # the same words, another vibrato and another unsteadiness
        own = np.random.default_rng([state["state"]["state"] % 2**32, turn]) if turn else rng
        waves.append(singing.sing(voice, moved, length, own, SR, words, formants=person.formants))
    wave = audio.set_level(waves[0], -20.0)
    return wave, audio.set_level(waves[1], -20.0) if twice else np.zeros(1, np.float32)


def _speak(person, seconds, rng):
    """At most `seconds` of speech, cut between recordings where it can be."""
    pieces, left = [], seconds
    while left > 0.5:
        wave, voice = person.take()
        piece = singing.speak(wave, VOICE_SR, voice, SR, int(rng.integers(2**31)))[: int(left * SR)]
        fade = min(len(piece), SR // 50)
        piece[len(piece) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        pieces.append(piece)
        left -= len(piece) / SR + 0.15
        pieces.append(np.zeros(int(0.15 * SR), np.float32))
    return np.concatenate(pieces) if pieces else np.zeros(1, np.float32)


def _add(whole, part, start):
    """Add `part` to `whole` from `start` s on, in place; what lies outside is cut."""
    at = round(start * SR)
    part = part[max(0, -at) :]
    at = max(at, 0)
    part = part[: max(len(whole) - at, 0)]
    whole[at : at + len(part)] += part


def _heard(dry):
    """Where the voice sounds, `(samples,)` of bool, by frames of 50 ms."""
    size = SR // 20
    levels = audio.rms_db(np.pad(dry, (0, -len(dry) % size)).reshape(-1, size))
    return np.repeat(levels > np.percentile(levels, 95) + QUIET_DB, size)[: len(dry)]
