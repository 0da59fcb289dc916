"""Clips of people for recognising them: who, and which recordings teach and which test.

A clip is float32 `(samples,)` at 16 kHz, made of whole recordings of one person put one after the other. A recording
teaches (`Train`), chooses (`Val`) or tests (`Test`), never two of these; where the source allows, so does its session,
and always its words.
"""

import warnings
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile

from lib import audio
from lib.data.walk import sounds
from lib.runs import place

SR = 16000
SHORTEST = 1.0  # seconds of speech that a clip must have
GAP = 0.35  # a person's test share: no less of the sessions than this, where they can be parted at all
LEVEL = -20.0  # dBFS


class SpeakersError(ValueError):
    """These voices or clips cannot be used to learn people; the message says which and what to do."""


class Clips(NamedTuple):
    """waves `(clips, samples)`, and a table with a row a clip: speaker, part, language, package, session, words."""

    waves: np.ndarray
    table: pd.DataFrame

    def only(self, mask):
        """The clips where `mask` is true."""
        mask = np.asarray(mask, dtype=bool)
        return Clips(self.waves[mask], self.table[mask].reset_index(drop=True))

    def part(self, name):
        """The clips of one part: Train, Val or Test."""
        return self.only(self.table["part"] == name)


# --- who, and which recordings


def choose(voices, seconds=40.0):
    """The rows of those with at least `seconds` of speech in 4 or more recordings.

    Raises `SpeakersError` for fewer than 2 people.
    """
    facts = voices.groupby("speaker")["seconds"].agg(["sum", "size"])
    enough = facts.index[(facts["sum"] >= seconds) & (facts["size"] >= 4)]
    if len(enough) < 2:
        single = [str(name) for name in facts.index[facts["size"] == 1]]
        raise SpeakersError(
            f"telling people apart takes at least 2 people with {seconds:g} s of speech in 4 recordings or more; here"
            f" are {len(enough)} of {len(facts)}"
            + (f" (with a single recording: {', '.join(single[:5])})" if single else "")
            + ". Add people or recordings, or lower `seconds`."
        )
    return voices[voices["speaker"].isin(enough)].reset_index(drop=True)


def part_recordings(voices, seed=0, share=GAP):
    """`voices` with the columns session, word, part (Train or Test) and differs: how a person's two parts differ.

    session: the folder a recording came from (a game's level, a book's chapter, a group of prompts). Whole sessions go
    to Test until
    it has `share` of the seconds; a person with one session, or with one too large, is parted by words: the last ones
    of the
    alphabet test. A word that stands on both sides leaves Train. Raises `SpeakersError`, naming the person, for a
    single recording.
    """
    voices = voices.assign(**_session_and_word(voices))
    parts = []
    for number, (name, rows) in enumerate(voices.groupby("speaker", sort=True)):
        if len(rows) < 2:
            raise SpeakersError(
                f"{name}: has a single recording, and the same recording cannot teach and test. Record a second one, or"
                " leave this person out."
            )
        parts.append(_part_one(rows, np.random.default_rng([seed, number]), share))
    return pd.concat(parts, ignore_index=True)


def _session_and_word(voices):
    origin = [
        PurePosixPath(Path(path).as_posix()) for path in (voices["origin"] if "origin" in voices else voices["path"])
    ]
    names = pd.Series([path.stem.lower() for path in origin], index=voices.index)
    words = names.str.replace(
        r"_desc(_\w+)?$|(?<=[a-z])[0-9]+$", "", regex=True
    )  # a language's suffix, or the number of a take
    speakers = voices["speaker"]
    numbered = words.groupby(speakers).transform("nunique") < 0.5 * words.groupby(speakers).transform(
        "size"
    )  # rec1, rec2: not takes
    words = words.where(~numbered, names)
    words = [
        word if len(word) > 2 and not word.isdigit() else f"{path.parent.name}/{word}"
        for word, path in zip(words, origin)
    ]
    return {"session": [path.parent.as_posix() for path in origin], "word": words}


def _part_one(rows, rng, share):
    total, by_session = rows["seconds"].sum(), rows.groupby("session")["seconds"].sum()
    test, taken = set(), 0.0
    for session in rng.permutation(by_session.index.to_numpy(dtype=object)):
        if taken < share * total and taken + by_session[session] <= 0.6 * total:
            test.add(session)
            taken += by_session[session]
    if taken >= 0.2 * total:
        in_test, differs = rows["session"].isin(test).to_numpy(), "session and words"
    else:
        order = rows["word"].rank(method="dense").to_numpy()  # a word's takes stay together
        seconds = rows["seconds"].groupby(order).sum().cumsum()
        last = seconds.index[seconds > (1 - share) * total]
        in_test, differs = np.isin(order, last), "words"
    rows = rows.assign(part=np.where(in_test, "Test", "Train"), differs=differs)
    both = set(rows.loc[in_test, "word"]) & set(rows.loc[~in_test, "word"])
    return rows[~((rows["part"] == "Train") & rows["word"].isin(both))]


# --- clips

COUNTS = {"Train": 8, "Val": 2, "Test": 5}
FEWEST = {"Train": 3, "Val": 1, "Test": 2}


def make_clips(recordings, seconds=4.0, counts=None, seed=0, by="recording"):
    """`Clips` of at most `counts` (default `COUNTS`) a person, each of `seconds` s; no recording is in two clips.

    recordings: as `part_recordings` gives it. Val clips are taken from recordings of the part Train. by: "recording",
    or "crop": random
    crops out of all of a person's recordings, which is how a test must not be made (a crop may repeat what it was
    taught on).
    """
    counts, waves, rows = counts or COUNTS, [], []
    for number, (name, own) in enumerate(recordings.groupby("speaker", sort=True)):
        rng = np.random.default_rng([seed, number])
        facts = {column: own[column].iloc[0] for column in ("language", "sex", "differs") if column in own}
        facts["package"] = _package(own)
        cut = _crops(own, counts, seconds, rng) if by == "crop" else _in_turn(own, counts, seconds, rng)
        for part, wave, used in cut:
            waves.append(wave)
            rows.append(
                {
                    "speaker": name,
                    "part": part,
                    **facts,
                    "sessions": frozenset(used["session"]),
                    "words": frozenset(used["word"]),
                }
            )
    return _with_enough(Clips(np.stack(waves), pd.DataFrame(rows)), counts) if waves else _none()


def _with_enough(clips, counts):
    """Without the people who have too few clips of a part to say anything; they are named."""
    found = clips.table.groupby("speaker")["part"].value_counts().unstack(fill_value=0)
    few = [
        name
        for name, row in found.iterrows()
        if any(row.get(part, 0) < min(FEWEST[part], count) for part, count in counts.items())
    ]
    if few:
        print(f"Left out, {len(few)} people with too few clips of one part: {', '.join(few)}.")
    kept = clips.only(~clips.table["speaker"].isin(few))
    return kept if len(kept.table) else _none()


def _none():
    raise SpeakersError(
        f"no person has {FEWEST['Train']} clips that teach and {FEWEST['Test']} that test. Give longer recordings or"
        " shorter clips."
    )


def _in_turn(own, counts, seconds, rng):
    """(part, clip, its recordings), one clip after the other out of a person's recordings in random order."""
    for group in (("Train", "Val"), ("Test",)):
        rows = own[own["part"] == group[0]]
        rows = rows.iloc[rng.permutation(len(rows))]
        enough, start, found = seconds * SR, 0, []
        while start < len(rows) and len(found) < sum(counts.get(part, 0) for part in group):
            ends = rows["seconds"].iloc[start:].cumsum()
            stop = start + int(np.searchsorted(ends.to_numpy() * SR, enough)) + 1
            if stop > len(rows):
                break
            used = rows.iloc[start:stop]
            wave = np.concatenate([read_speech(path) for path in used["path"]])
            if len(wave) >= enough:
                found.append((wave[: int(enough)], used))
            start = stop
        kept = min(counts.get("Val", 0), max(len(found) // 6, 1)) if len(group) == 2 and len(found) > 2 else 0
        for number, (wave, used) in enumerate(found):
            yield group[1] if number < kept else group[0], wave, used


def _crops(own, counts, seconds, rng):
    rows = own.iloc[rng.permutation(len(own))]
    used = rows[rows["seconds"].cumsum() <= seconds * sum(counts.values()) + rows["seconds"].iloc[0]]
    wave = np.concatenate([read_speech(path) for path in used["path"]])
    for part, count in counts.items():
        for start in rng.integers(0, max(len(wave) - int(seconds * SR), 0) + 1, size=count):
            yield part, np.resize(wave[start : start + int(seconds * SR)], int(seconds * SR)), used


def read_speech(path):
    """One recording at a common level of -20 dBFS."""
    return audio.set_level(audio.read(path, SR), LEVEL)


def _package(own):
    """Which collection a person's recordings come from, by the first part of the speaker's name here."""
    return str(own["speaker"].iloc[0]).split("-")[0] if "origin" in own else Path(own["path"].iloc[0]).parents[1].name


# --- a person's own files


def read_clips(paths, seconds=4.0):
    """Clips `(clips, samples)` of `seconds` s from audio files of any format; a shorter one is repeated up to the
    length.

    Another rate or stereo is converted, and said once. Raises `SpeakersError`, naming the file, under 1 s of speech,
    and
    `AudioError` where a file is silent, damaged or missing.
    """
    if not paths:
        raise SpeakersError("no clip is given. Give at least two recordings of your voice, a second or longer each.")
    waves = {str(path): audio.read(path, SR) for path in paths}
    odd = [(path, rate) for path in waves if (rate := _rate(path)) not in (None, SR)]
    if odd:
        warnings.warn(
            f"{len(odd)} of {len(waves)} files are not at {SR} Hz, such as {Path(odd[0][0]).name} ({odd[0][1]} Hz):"
            " converted.",
            stacklevel=2,
        )
    return clips_of_waves(waves, seconds)


def clips_in(folder):
    """The recordings in one's own `folder` and below it, in any format. Raises `SpeakersError` where there is none."""
    folder = place(folder)
    found = sounds(folder, error=SpeakersError).files
    if not found:
        raise SpeakersError(
            f"{folder}: holds no recording ({', '.join(audio.SUFFIXES[:8])}). Put two clips of your voice in it."
        )
    return found


def clips_of_waves(waves, seconds=4.0):
    """The same from a dict name -> wave `(samples,)` at 16 kHz: each is cut into pieces of `seconds` s; a rest over
    half of that counts.
    """
    clips, size = [], int(seconds * SR)
    if not waves:
        raise SpeakersError("no clip is given. Give at least two recordings of your voice, a second or longer each.")
    for name, wave in waves.items():
        if audio.rms_db(wave) < -70:
            raise audio.AudioError(
                f"{Path(name).name}: silent ({audio.rms_db(wave):.0f} dBFS). Check the microphone and record again."
            )
        if len(wave) < SHORTEST * SR:
            raise SpeakersError(
                f"{Path(name).name}: {len(wave) / SR:.2f} s is too short; a clip needs at least {SHORTEST:g} s of"
                " speech. Record a longer one, or join short ones."
            )
        wave = audio.set_level(wave, LEVEL)
        count = max(1, (len(wave) + size // 2) // size)
        clips += [
            np.resize(part, size)
            for part in (wave[k * size : (k + 1) * size] for k in range(count))
            if len(part) >= SHORTEST * SR
        ]
    return np.stack(clips).astype(np.float32)


def _rate(path):
    try:
        return soundfile.info(path).samplerate
    except soundfile.LibsndfileError:  # m4a and the like: PyAV reads them, and resamples where it must
        return None


# --- two who say the same


def same_words(voices):
    """Two people of one language saying the same words: the longest such pair of recordings, as two rows of `voices`.

    Raises `SpeakersError` where no two people share a word.
    """
    voices = voices.assign(**_session_and_word(voices))
    if "origin" in voices:  # the words of a collection's other folders are other words
        voices["word"] = [
            f"{PurePosixPath(origin).parent.name}/{PurePosixPath(origin).stem}" for origin in voices["origin"]
        ]
    voices = voices[voices["seconds"].between(1.0, 6.0)]
    pairs = voices.groupby(["language", "word"]).filter(lambda rows: rows["speaker"].nunique() > 1)
    best, score = None, 0.0
    for _, rows in pairs.groupby(["language", "word"]):
        rows = rows.drop_duplicates("speaker").nlargest(2, "seconds")
        likeness = rows["seconds"].min() / rows["seconds"].max()
        if likeness > 0.8 and rows["seconds"].min() > score:
            best, score = rows, rows["seconds"].min()
    if best is None:
        raise SpeakersError(
            "no two people of one language say the same words in these voices; choose two recordings by hand."
        )
    return best
