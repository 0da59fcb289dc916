"""Splits by speaker, and the check that nobody and nothing stands in two of them.

A model that has heard a Test speaker in training is graded on memory, not on new voices. Three ways to let one in by
mistake are checked: the same label in two splits, the same recording under two labels, the same voice under two labels.
Waves are float32 `(samples,)` in [-1, 1] at 16 kHz.
"""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from lib import audio
from lib.data import cache_dir
from lib.data.debian import content_hash

SPLITS = ("Train", "Val", "Test")
THRESHOLD = 0.87  # cosine of two voices by Resemblyzer above which they count as one person (measured: data/README.md)
SECONDS = 20.0  # speech of each speaker that an embedding is made of
SR = 16000


class SplitError(ValueError):
    """The speakers cannot be split as asked; the message says why and what to do."""


class LeakError(ValueError):
    """A speaker, a recording or a voice stands in two splits; the message names the rows."""


def split_by_speaker(voices, seed=0, shares=(0.8, 0.1, 0.1)):
    """`voices` with a column `split` (Train, Val, Test), each speaker in one of them; drawn by `seed` in `shares` of
    the speakers.

    A `split` that is there already (the source `debian` has one) is kept. Val and Test get at least two speakers each,
    of fewer than six at least one: mixtures need two in a split. Raises `SplitError` for fewer than three speakers, or
    for shares that are not three positive numbers.
    """
    speakers = sorted(voices["speaker"].unique())
    if len(speakers) < 3:
        raise SplitError(
            f"three speakers are needed, one a split; found {len(speakers)} ({', '.join(map(str, speakers))}). Add"
            " recordings of other people, each in a folder of their own."
        )
    if "split" in voices:
        if unknown := sorted(set(map(str, voices["split"])) - set(SPLITS)):
            raise SplitError(
                f"the column split holds {', '.join(unknown)}; expected {', '.join(SPLITS)} in each row, or no such"
                " column."
            )
        return voices.copy()
    if len(shares) != 3 or min(shares) <= 0:
        raise SplitError(f"shares should be three positive numbers (train, val, test); found {shares}.")
    least = 2 if len(speakers) >= 6 else 1  # a mixture takes two people of one split
    val, test = (max(least, round(len(speakers) * share / sum(shares))) for share in shares[1:])
    val, test = min(val, len(speakers) - 2), min(test, len(speakers) - 2)
    if len(speakers) - val - test < 1:
        raise SplitError(
            f"shares {shares} leave no speaker for Train out of {len(speakers)}; give Train a larger share."
        )
    order = np.random.default_rng(seed).permutation(speakers)
    names = ["Val"] * val + ["Test"] * test + ["Train"] * (len(speakers) - val - test)
    return voices.assign(split=voices["speaker"].map(dict(zip(order, names))))


# --- leaks


def check_leaks(voices, encoder=None, threshold=THRESHOLD):
    """Raise `LeakError` when a speaker, a recording or (with `encoder`) a voice stands in two splits of `voices`.

    Recordings are compared by content, so another file name hides nothing (all are decoded for that where the source
    gives no column `content`). encoder: a function wave -> embedding, such as `resemblyzer_encoder()`; two voices in
    different splits whose embeddings have a cosine over `threshold` are a leak. Returns the closest pairs of voices
    across splits, closest first: speaker, split, other, other_split, similarity (empty without an encoder).
    """
    if missing := [name for name in ("speaker", "path", "split") if name not in voices]:
        raise SplitError(f"the table of voices lacks {', '.join(missing)}; split_by_speaker(voices) adds split.")
    _check_speakers(voices)
    _check_recordings(voices)
    if encoder is None:
        return pd.DataFrame(columns=["speaker", "split", "other", "other_split", "similarity"])
    pairs = closest_pairs(voices, encoder)
    if len(alike := pairs[pairs["similarity"] > threshold]):
        named = [
            f"{row.speaker} ({row.split}) and {row.other} ({row.other_split}): {row.similarity:.2f}"
            for row in alike.itertuples()
        ]
        raise LeakError(
            f"voices too alike (cosine over {threshold:g}) stand in two splits: {'; '.join(named)}. Listen to them: if"
            " they are one person, give both the same split."
        )
    return pairs


def _check_speakers(voices):
    splits = voices.groupby("speaker")["split"].unique()
    if twice := [f"{speaker} in {' and '.join(sorted(found))}" for speaker, found in splits.items() if len(found) > 1]:
        raise LeakError(
            f"a speaker stands in two splits: {'; '.join(twice)}. Give all rows of a speaker the same split."
        )


def _check_recordings(voices):
    """By content: the column `content` where the source gives it, else a hash of the decoded samples."""
    voices = voices.assign(content=voices["content"] if "content" in voices else content_hashes(voices["path"]))
    crossing = voices[voices.groupby("content")["split"].transform("nunique") > 1].sort_values("content")
    if len(crossing):
        named = [f"row {row.Index} {row.path} ({row.speaker}, {row.split})" for row in crossing.head(10).itertuples()]
        raise LeakError(
            f"the same recording stands in two splits: {'; '.join(named)}{' ...' * (len(crossing) > 10)}. Remove the"
            " copies."
        )


def content_hashes(paths):
    """A hash of the decoded samples of each file, so that a copy under another name or in another lossless format is
    found.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: content_hash(audio.read(path, SR)), paths))


# --- voices by a speaker encoder


def closest_pairs(voices, encoder):
    """Pairs of speakers in different splits, most alike first: speaker, split, other, other_split, similarity."""
    similarity = speaker_similarity(voices, encoder)
    split = voices.groupby("speaker")["split"].first().loc[similarity.index].to_numpy()
    first, second = np.triu_indices(len(similarity), 1)
    across = split[first] != split[second]
    first, second = first[across], second[across]
    names = similarity.index.to_numpy()
    pairs = pd.DataFrame(
        dict(
            speaker=names[first],
            split=split[first],
            other=names[second],
            other_split=split[second],
            similarity=similarity.to_numpy()[first, second],
        )
    )
    return pairs.sort_values("similarity", ascending=False, ignore_index=True)


def speaker_similarity(voices, encoder):
    """Cosine similarity of every two speakers of `voices` by their embeddings: a square table, speakers by speakers."""
    embeddings = speaker_embeddings(voices, encoder)
    matrix = np.stack(list(embeddings.values()))
    return pd.DataFrame(matrix @ matrix.T, index=list(embeddings), columns=list(embeddings))


def speaker_embeddings(voices, encoder, seconds=SECONDS):
    """speaker -> embedding of unit length, of about `seconds` of their speech.

    Kept in the cache where the encoder has a `cache_name` (a name for its weights), so that a second call takes no
    time.
    """
    known = _read_cache(encoder)
    keys = {speaker: _cache_key(rows, seconds) for speaker, rows in voices.groupby("speaker")}
    fresh = {}
    for speaker, rows in voices.groupby("speaker"):
        if keys[speaker] not in known:
            vector = np.asarray(encoder(speech_of(rows, seconds)), dtype=np.float32)
            fresh[keys[speaker]] = vector / max(np.linalg.norm(vector), 1e-9)
    known.update(fresh)
    if fresh:
        _write_cache(encoder, known)
    return {speaker: known[key] for speaker, key in keys.items()}


def speech_of(rows, seconds=SECONDS, skip=0.0):
    """About `seconds` of one speaker's speech `(samples,)` at 16 kHz, each recording at -30 dBFS, those after the first
    `skip` s.
    """
    order = rows["path"].sort_values().sample(frac=1, random_state=0)  # not one theme or letter after the other
    pieces, length = [], 0
    for path in order:
        pieces.append(audio.set_level(audio.read(path, SR), -30.0))
        length += len(pieces[-1])
        if length >= (skip + seconds) * SR:
            break
    return np.concatenate(pieces)[min(int(skip * SR), length // 2) :][: int(seconds * SR)]


def resemblyzer_encoder():
    """A function wave -> 256-dimensional embedding by Resemblyzer's VoiceEncoder (Wan et al.

    2018), whose wheel carries its weights.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webrtcvad's use of pkg_resources
        from resemblyzer import VoiceEncoder
    model = VoiceEncoder("cpu", verbose=False)

    def encode(wave):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a small LSTM: more threads only wait for each other, for long on a busy machine
        try:
            return model.embed_utterance(np.asarray(wave, dtype=np.float32))
        finally:
            torch.set_num_threads(threads)

    encode.cache_name = "resemblyzer"
    return encode


def _cache_key(rows, seconds):
    """A name for the recordings an embedding is made of; by content where it is known, else by file and its date."""
    if "content" in rows:
        names = sorted(rows["content"])
    else:
        names = [f"{path}:{os.path.getmtime(path)}" for path in sorted(rows["path"])]
    return hashlib.sha1("\n".join([str(seconds), *names]).encode()).hexdigest()[:16]


def _cache_file(encoder):
    return cache_dir() / f"embeddings-{encoder.cache_name}.npz" if hasattr(encoder, "cache_name") else None


def _read_cache(encoder):
    path = _cache_file(encoder)
    if path is None or not path.is_file():
        return {}
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def _write_cache(encoder, known):
    path = _cache_file(encoder)
    if path is not None:
        part = path.with_name(f".part-{os.getpid()}-{path.name}")
        np.savez(part, **known)  # numpy adds .npz only where the name lacks it
        part.replace(path)
