"""Spoken words as singing: a person's recording gets the notes of a melody, by the vocoder of `lib.music.vocoder`.

Consonants keep their length and stand before the note, the vowel fills it. The pitch glides from note to note, waves
(vibrato) on long ones and is never quite steady. Waves are float32 `(samples,)`; notes are those of `lib.music.melody`.
Nothing here was ever sung: the words and the timbre are a person's, the melody is the score's.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import signal

from lib import audio
from lib.music import vocoder
from lib.music.vocoder import STEP

LONGEST_CONSONANT = 24  # frames before a vowel that belong to it
DIP_DB = 3.0  # by which the level falls between two syllables of one voiced stretch
SHORT = 0.13  # s: a shorter note is sung on the syllable before it
EDGE = 10  # frames at both ends of a vowel that are not stretched
LIFT = 1.35  # how much higher than they speak people sing
PITCHES = (80.0, 900.0)  # Hz


class Syllable(NamedTuple):
    """Frames of a `Voice`: where the consonant begins, where the vowel begins, and where it ends."""

    start: int
    vowel: int
    end: int


def syllables(voice):
    """The syllables of a recording, in order: voiced stretches, cut where the level dips, with the consonant before."""
    found = []
    for start, end in vocoder.runs(voice.pitch > 0):
        edges = [start, *_dips(voice.level[start:end], start), end]
        for number, (vowel, until) in enumerate(itertools.pairwise(edges)):
            before = found[-1].end if found else 0
            own = max(before, vowel - LONGEST_CONSONANT) if number == 0 else vowel
            while own < vowel and voice.level[own] < vocoder.QUIET_DB:
                own += 1
            if until - vowel >= 8:
                found.append(Syllable(own, vowel, until))
    return found


def _dips(level, offset, least=16):
    """Frames where one voiced stretch falls apart: minima `DIP_DB` below what stands on both sides, `least` apart."""
    smooth = np.convolve(np.pad(level, 2, mode="edge"), np.ones(5) / 5, "valid")
    places, _ = signal.find_peaks(-smooth, prominence=DIP_DB, distance=least)
    return [int(place) + offset for place in places if least // 2 < place < len(level) - least // 2]


def sing(voice, notes, seconds, rng, sr, words=None, octave=None, formants=1.0):
    """`seconds` of a wave at `sr` Hz in which `notes` are sung on the syllables of `voice`; silent elsewhere.

    words: `syllables(voice)`, in the order they are to be sung. octave: semitones added to the notes, default the
    octave that suits the voice. Returns silence where the recording has no syllable.
    """
    words = syllables(voice) if words is None else words
    frames = int(seconds / STEP)
    if not words or not notes:
        return np.zeros(int(seconds * sr), np.float32)
    octave = register(voice, notes) if octave is None else octave
    places, wanted = np.full(frames, -1.0), np.zeros(frames)
    _write_words(places, wanted, words, notes, rng)
    pitch = np.where(wanted > 0, _curve(wanted, notes, octave, rng), 0.0)
    wave = vocoder.synthesise(voice, places, pitch, sr, formants, rng.uniform(-4, 4), int(rng.integers(2**31)))
    return wave[: int(seconds * sr)]


def register(voice, notes):
    """Whole octaves, in semitones, that bring `notes` nearest to where this person would sing."""
    own = np.median(voice.pitch[voice.pitch > 0]) * LIFT
    middle = np.median([note.pitch for note in notes])
    return 12 * round((_number(own) - middle) / 12)


def _number(hertz):
    return 69 + 12 * np.log2(hertz / 440.0)


def _write_words(places, wanted, words, notes, rng):
    """Fill `places` (frames of the voice) and `wanted` (MIDI number where a vowel is held, else 0), in place."""
    at, word = 0, None
    starts = [round(note.start / STEP) for note in notes] + [len(places)]
    for number, note in enumerate(notes):
        begin, end = starts[number], min(round(note.end / STEP), starts[number + 1], len(places))
        joined = number and begin - round(notes[number - 1].end / STEP) < 4
        new = word is None or not joined or (note.end - note.start > SHORT and rng.random() < 0.85)
        if new:
            word, at = words[at % len(words)], at + 1
            consonant = min(word.vowel - word.start, begin)
            places[begin - consonant : begin] = np.arange(word.vowel - consonant, word.vowel)
            wanted[begin - consonant : begin] = 0
        if end <= begin:
            continue
        held = starts[number + 1] - begin if number + 1 < len(notes) and not new else end - begin
        places[begin:end] = _held(word, held)[: end - begin] if new else word.vowel + (word.end - word.vowel) // 2
        wanted[begin:end] = note.pitch


def _held(word, frames):
    """Frames of the voice for a vowel of `frames`: its ends as they were, its middle stretched or cut."""
    own = word.end - word.vowel
    if frames <= own:
        return word.vowel + np.linspace(0, min(own, 1.5 * frames) - 1, frames)
    edge = min(EDGE, own // 3)
    known = [0, edge, frames - edge, frames - 1]
    return word.vowel + np.interp(np.arange(frames), known, [0, edge, own - edge, own - 1])


def _curve(wanted, notes, octave, rng):
    """Pitch in Hz at each frame: the notes, with glide, vibrato and unsteadiness."""
    held = np.maximum.accumulate(np.where(wanted > 0, np.arange(len(wanted)), 0))
    steps = np.where(wanted > 0, wanted, wanted[held])
    steps = np.where(steps > 0, steps, notes[0].pitch) + octave + rng.normal(0, 0.06)
    scoop = np.zeros(len(wanted))
    for start, _ in vocoder.runs(wanted > 0):
        if rng.random() < 0.4:  # from below into the note
            scoop[start : start + 30] -= rng.uniform(0.5, 2) * np.exp(-np.arange(30) / 8)[: len(scoop) - start]
    glide = _glide(steps + scoop, rng.uniform(0.025, 0.06))
    shake = signal.lfilter([0.05], [1, -0.95], rng.normal(0, 0.35, len(wanted)))
    number = glide + _vibrato(wanted, rng) + shake
    return np.clip(440 * 2 ** ((number - 69) / 12), *PITCHES)


def _glide(steps, seconds):
    """`steps` through a low-pass of second order that overshoots a little, as a larynx does."""
    sos = signal.butter(2, 1 / (2 * np.pi * seconds), fs=1 / STEP, output="sos")
    return signal.sosfilt(sos, steps, zi=signal.sosfilt_zi(sos) * steps[0])[0]


def _vibrato(wanted, rng):
    """Semitones: 4.8 to 6.5 Hz and 15 to 70 cents, growing after the first 0.2 s of a note."""
    rate, depth, wave = rng.uniform(4.8, 6.5), rng.uniform(0.15, 0.7), np.zeros(len(wanted))
    edges = np.flatnonzero(np.diff(wanted, prepend=0, append=0))
    for start, end in itertools.pairwise(edges):
        age = np.arange(end - start) * STEP
        if wanted[start] > 0 and age[-1] > 0.3:
            phase = 2 * np.pi * rate * age * rng.uniform(0.95, 1.05)
            wave[start:end] = depth * np.clip((age - 0.2) / 0.4, 0, 1) * np.sin(phase)
    return wave


def speak(wave, sr_from, voice, sr, seed=0):
    """A recording as it is, at `sr` Hz; above its band the vocoder gives it the treble that a studio would have had."""
    plain = audio.resample(wave, sr_from, sr)
    if sr <= voice.sr:
        return plain
    frequencies = np.arange(voice.envelope.shape[1]) * voice.sr / 2 / (voice.envelope.shape[1] - 1)
    edge = vocoder.NARROW * vocoder.band(voice, frequencies)
    copy = vocoder.synthesise(voice, np.arange(len(voice), dtype=float), voice.pitch, sr, seed=seed)
    sos = signal.butter(6, min(edge, 0.49 * sr), "highpass", fs=sr, output="sos")
    samples = min(len(copy), len(plain))
    return plain[:samples] + signal.sosfilt(sos, copy[:samples]).astype(np.float32)
