"""What a conversation is like, and who speaks when in it. Times in seconds.

Four styles are ready: `STUDIO`, tidy talk; `MEETING`, rooms with background, which chapter 4 tests on; and talk as it
is, `TALK` in a room and `PHONE` on the line. Distributions: log-normal turn lengths, exponential pauses and overlaps,
as dialogue corpora roughly show. Of talk as it is the settings follow what was published: two in five changes of
speaker overlap (Heldner and Edlund, "Pauses, gaps and overlaps in conversations", J. Phonetics 38, 2010), a gap lasts
some 200 ms (Levinson and Torreira, Frontiers in Psychology 6:731, 2015), and one contribution in five is a short "hm"
(Knudsen et al., Frontiers in Psychology 11:593671, 2020). What comes of it is overlap in a tenth of the speech.
"""

from dataclasses import dataclass, replace

import numpy as np

from lib.diarization.rttm import Turn


class ConversationError(ValueError):
    """Conversations cannot be made of these voices or settings; the message says why and what to do."""


@dataclass(frozen=True)
class Style:
    """What a conversation is drawn from. Pairs are the ends of uniform distributions."""

    name: str = "studio"
    seconds: float = 60.0  # s, length of a conversation
    people: tuple = (2, 4)  # how many take part
    turn_seconds: float = 2.2  # s, median turn, log-normal
    turn_spread: float = 0.6  # its standard deviation in log
    pause_seconds: float = 0.5  # s, mean pause between turns, exponential
    overlap_chance: float = 0.3  # that the next person begins before the last has ended
    overlap_seconds: float = 0.4  # s, mean of such an overlap, exponential, at most half of the shorter turn
    again_chance: float = 0.15  # that the same person goes on after the pause
    aside_chance: float = 0.1  # that a listener says something short inside a turn
    level_db: tuple = (-3.0, 3.0)  # dB, each person's level
    snr_db: tuple | None = None  # dB, speech over background; None: no background
    room_share: float = 0.0  # of the conversations, in a simulated room
    speed: tuple = (
        1.0,
        1.0,
    )  # each person played faster or slower by this factor, pitch and all: makes new voices out of few
    tract: tuple = (1.0, 1.0)  # and with a vocal tract scaled by this factor: newer ones still
    short_chance: float = 0.0  # that a turn is a "hm" or a laugh of 0.3 to 0.9 s
    phone_share: float = 0.0  # of the conversations, on a telephone line: each person's own band, 8 bits at 8 kHz
    burst_share: float = 0.0  # of the backgrounds that come and go: a door, a cough of the air conditioning, a chair

    def __post_init__(self):
        low, high = self.people
        if not 1 <= low <= high:
            raise ConversationError(f"people is {self.people}; give the least and the most, for example (2, 4).")
        shares = ("overlap_chance", "again_chance", "aside_chance", "short_chance")
        for name in (*shares, "room_share", "phone_share", "burst_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConversationError(f"{name} is {getattr(self, name)!r}; give a share from 0 to 1.")
        for name in ("seconds", "turn_seconds", "pause_seconds"):
            if not getattr(self, name) > 0:
                raise ConversationError(f"{name} is {getattr(self, name)!r}; give a number of seconds over 0.")


STUDIO = Style()


MEETING = Style(
    "meeting",
    turn_seconds=1.8,
    turn_spread=0.8,
    pause_seconds=0.35,
    overlap_chance=0.4,
    overlap_seconds=0.7,
    aside_chance=0.15,
    level_db=(-6.0, 6.0),
    snr_db=(6.0, 18.0),
    room_share=1.0,
)


TALK = Style(
    "talk",
    people=(2, 4),
    turn_seconds=1.7,
    turn_spread=0.9,
    pause_seconds=0.3,
    overlap_chance=0.4,
    overlap_seconds=0.9,
    again_chance=0.25,
    aside_chance=0.3,
    short_chance=0.2,
    level_db=(-8.0, 8.0),
    snr_db=(3.0, 25.0),
    room_share=0.7,
    burst_share=0.4,
)


PHONE = replace(
    TALK,
    name="phone",
    people=(2, 2),
    level_db=(-6.0, 6.0),
    snr_db=(12.0, 35.0),
    room_share=0.2,
    phone_share=1.0,
    burst_share=0.3,
)


def overlap(turns):
    """The share of the time with speech in which two or more speak."""
    edges = sorted([(turn.start, 1) for turn in turns] + [(turn.end, -1) for turn in turns])
    speech = twice = 0.0
    count, last = 0, 0.0
    for at, change in edges:
        speech += (at - last) * (count > 0)
        twice += (at - last) * (count > 1)
        count, last = count + change, at
    return twice / speech if speech else 0.0


def plan(rng, style, people):
    """Turns of a conversation of `people` (a list of names) by `style`, in whole milliseconds; nobody overlaps
    themselves.
    """
    ends, turns = dict.fromkeys(people, -1.0), []
    at, speaker = rng.uniform(0.1, 1.0), people[int(rng.integers(len(people)))]
    while True:
        length = float(np.clip(style.turn_seconds * np.exp(style.turn_spread * rng.standard_normal()), 0.4, 12.0))
        if style.short_chance and rng.random() < style.short_chance:
            length = rng.uniform(0.3, 0.9)
        turn = Turn(speaker, round(at, 3), round(at + length, 3))
        if turn.end > style.seconds - 0.1:
            return sorted(turns, key=lambda turn: turn.start)
        turns.append(turn)
        ends[speaker] = turn.end
        others = [name for name in people if name != speaker]
        if others and length > 1.5 and rng.random() < style.aside_chance:
            _aside(rng, turn, others, ends, turns)
        if others and rng.random() >= style.again_chance:
            speaker = others[int(rng.integers(len(others)))]
        at = turn.end + rng.exponential(style.pause_seconds)
        if speaker != turn.speaker and rng.random() < style.overlap_chance:
            at = turn.end - min(rng.exponential(style.overlap_seconds), length / 2)
        at = max(at, ends[speaker] + 0.1)


def _aside(rng, turn, others, ends, turns):
    """A short remark of one of `others` inside `turn`, where they are free to speak."""
    name, length = others[int(rng.integers(len(others)))], rng.uniform(0.4, 0.9)
    start = round(rng.uniform(turn.start + 0.2, turn.end - length), 3)
    if start > ends[name] + 0.1:
        turns.append(Turn(name, start, round(start + length, 3)))
        ends[name] = turns[-1].end
