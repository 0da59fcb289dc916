"""The line that a singer takes over from a score: which channel leads, and its notes one after another.

A note is `(start, end, pitch)`: seconds from the excerpt's beginning as it is played, and a MIDI number.
"""

from typing import NamedTuple

import mido
import numpy as np

from lib.music.midi_scores import BASS, DRUM_CHANNEL, merged, read

LOWEST, HIGHEST = 45, 90  # MIDI numbers between which a line counts as singable, in whatever octave
EFFECTS = range(112, 128)  # General MIDI's programs of bells, wood and noises
FEWEST = 8  # notes that make a line
SHORTEST = 0.08  # s; shorter notes are ornaments and left out
PACE = 0.17  # s from one sung note to the next, at least; what is faster is passed over
CHORD = 0.03  # s: notes that begin within this are struck together
PAUSE, BREATH = 0.35, 6.0  # s of rest that end a phrase, and its longest length


class Note(NamedTuple):
    """Start and end in s, and the pitch as a MIDI number."""

    start: float
    end: float
    pitch: float


def lead(path, start, seconds, tempo=1.0, key=0):
    """(notes of the leading line, its channel) in `seconds` of a score from `start` on, played at `tempo` and `key`.

    ([], None) where no channel has a line. start counts in the score's own time, as in `midi_scores.render`.
    """
    best, found = 0.0, ([], None)
    for channel, notes in _channels(path, start, start + seconds * tempo).items():
        line = skyline(notes)
        worth = _worth(line, notes, seconds * tempo)
        if worth > best:
            best = worth
            found = line, channel
    line, channel = found
    return singable([Note((a - start) / tempo, (b - start) / tempo, pitch + key) for a, b, pitch in line]), channel


def _channels(path, first, last):
    """dict channel -> its notes between `first` and `last` s; drums, bass and noises left out."""
    score, time, beat, programs, sounding, found = read(path), 0.0, 500000, {}, {}, {}
    for message in merged(score):
        time += mido.tick2second(message.time, score.ticks_per_beat, beat)
        if message.type == "set_tempo":
            beat = message.tempo
        elif message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            key = message.channel, message.note
            if key in sounding:
                began = sounding.pop(key)
                if time > first and began < last:
                    found.setdefault(message.channel, []).append(
                        Note(max(began, first), min(time, last), float(message.note))
                    )
            if message.type == "note_on" and message.velocity:
                sounding[key] = time
    kept = {c: n for c, n in found.items() if c != DRUM_CHANNEL and programs.get(c, 0) not in (*BASS, *EFFECTS)}
    return {channel: sorted(notes) for channel, notes in kept.items()}


def skyline(notes):
    """`notes` as one line: of notes struck together the highest, and each ends where the next begins."""
    line = []
    for note in sorted(notes, key=lambda note: (note.start, note.pitch)):
        if line and note.start - line[-1].start < CHORD:
            line[-1] = max(line[-1], note, key=lambda one: one.pitch)
        elif line and note.start < line[-1].end:
            if note.pitch < line[-1].pitch - 7:  # accompaniment below the line
                continue
            line[-1] = line[-1]._replace(end=note.start)
            line.append(note)
        else:
            line.append(note)
    return [note for note in line if note.end - note.start >= SHORTEST]


def singable(line, pace=PACE):
    """`line` without the notes that follow within `pace` s, whose time the note before them takes."""
    kept = []
    for note in line:
        if kept and note.start - kept[-1].start < pace:
            kept[-1] = kept[-1]._replace(end=max(note.end, kept[-1].end))
        else:
            kept.append(note)
    return kept


def _worth(line, notes, seconds):
    """How much a line is like a tune: how long it sounds, in a singer's range, not too fast, few chords."""
    if len(line) < FEWEST:
        return 0.0
    lengths = np.array([note.end - note.start for note in line])
    pitches = np.array([note.pitch for note in line])
    inside = np.mean((pitches >= LOWEST) & (pitches <= HIGHEST))
    pace = min(1.0, 4.0 / max(len(line) / max(lengths.sum(), 1e-3), 1e-3))
    moving = min(1.0, len(set(pitches.tolist())) / 6)
    return float(min(lengths.sum() / seconds, 0.8) * inside * pace * moving * len(line) / len(notes) ** 0.5)


def phrases(notes, pause=PAUSE, longest=BREATH):
    """`notes` in lists of what is sung in one breath."""
    found = []
    for note in notes:
        if not found or note.start - found[-1][-1].end > pause or note.end - found[-1][0].start > longest:
            found.append([])
        found[-1].append(note)
    return found
