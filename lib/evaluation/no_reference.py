"""Scores where nobody has the truth: for your own recordings, and for test sets of real talk.

A reference is a luxury of mixtures that were made. Without one there is left: whose voice the estimate resembles, when
it sounds against when the person spoke (where somebody wrote that down), how it would be rated, and which words a
recogniser hears. REAL-T (real meetings, 2025) is scored by words and by activity. Waves are float32 `(samples,)` at 16
kHz.
"""

import argparse
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio, metrics, runs
from lib.data.tables import TableError, read_table

SR, FRAME = 16000, 1600  # Hz; samples of a frame in which somebody speaks or not: 0.1 s
UNDER_DB, QUIET_DB = 30.0, -60.0  # a frame so far under the loud ones, or under this level (dBFS), is a pause
COLUMNS = {  # a table of pairs: REAL-T's and other names for what is needed
    "mixture": ("mixture", "mix", "mixture_utterance", "mixture_path", "mix_path"),
    "enrollment": ("enrollment", "enrolment", "enrolment_speakers_utterance", "enrolment_path", "enrollment_path"),
    "transcript": ("transcript", "text", "ground_truth_transcript"),
}
FOLDERS = {"mixture": ("", "mixtures"), "enrollment": ("", "enrolment_speakers", "enrollments")}


def rate(est, mix, enrollment, turns=None, transcript=None, recogniser=None):
    """What can be said of `est` without a reference, a dict.

    similarity, mix_similarity: of the estimate and of the mixture to the enrollment (`metrics.similarity`); the first
    should be higher. p808: DNSMOS P.808, MOS 1 to 5. level_db: over the mixture. turns: `(start, end)` in seconds in
    which the person speaks; gives precision, recall and f1 of activity. transcript, recogniser (a function wave ->
    text, `recogniser_of`): what was said; gives wer, the word error rate, and words, what was heard.
    """
    known = metrics.voice_embedding(enrollment)
    row = {
        "similarity": metrics.similarity(est, enrollment, embedded=known),
        "mix_similarity": metrics.similarity(mix, enrollment, embedded=known),
        "p808": metrics.dnsmos(est)["p808"],
        "level_db": float(audio.rms_db(est) - audio.rms_db(mix)),
    }
    if turns is not None:
        row |= activity(est, turns)
    if recogniser is not None:
        row["words"] = recogniser(est)
        if transcript is not None:
            row["wer"] = word_error_rate(transcript, row["words"])
    return row


def activity(est, turns):
    """Precision, recall and F1 of where `est` sounds against `turns`, in frames of 0.1 s: a dict. NaN without turns."""
    frames = -(-len(est) // FRAME)
    power = np.pad(np.asarray(est, dtype=np.float64), (0, frames * FRAME - len(est))).reshape(frames, FRAME)
    levels = audio.rms_db(power)
    sounds = levels > max(QUIET_DB, np.percentile(levels, 95) - UNDER_DB)
    speaks, middles = np.zeros(frames, dtype=bool), (np.arange(frames) + 0.5) * FRAME / SR
    for start, end in turns:
        speaks |= (middles >= start) & (middles < end)
    if not speaks.any():
        return dict(precision=np.nan, recall=np.nan, f1=np.nan)
    both = (sounds & speaks).sum()
    precision, recall = both / max(1, sounds.sum()), both / speaks.sum()
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return dict(precision=float(precision), recall=float(recall), f1=float(f1))


def plain_words(text):
    """`text` in small letters without punctuation, each Chinese, Japanese or Korean sign a word of its own."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"[^\w\s']|_", " ", text)
    return " ".join(re.sub(r"([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])", r" \1 ", text).split())


def word_error_rate(said, heard):
    """Errors a word, from 0; over 1 where more is heard than was said. NaN where nothing was said."""
    import jiwer

    said, heard = plain_words(said), plain_words(heard)
    return float(jiwer.wer(said, heard)) if said else float("nan")


def recogniser_of(name):
    """A function wave -> text: any automatic speech recognition model of transformers, by folder or hub id."""
    from transformers import pipeline

    try:
        found = pipeline("automatic-speech-recognition", model=str(name))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name}: is no speech recogniser that transformers can load ({str(error).splitlines()[0]}). Give a folder"
            " or a hub id of one."
        ) from error
    return lambda wave: found({"raw": np.asarray(wave, np.float32), "sampling_rate": SR})["text"]


def read_pairs(path, folder=None):
    """A table of pairs, mixture and enrollment, as a DataFrame of paths; with `transcript` where the table tells it.

    path: a CSV with a row a question; REAL-T's columns are known (mixture_utterance, enrolment_speakers_utterance,
    ground_truth_transcript). Files lie in `folder` (default: the table's own, or the one above it), or in its
    `mixtures` and `enrolment_speakers`, with or without `.wav` at the end. Raises `TableError`.
    """
    table, path = read_table(path), Path(path)
    roots = [Path(folder)] if folder else [path.parent, path.parent.parent]
    rows, found = {}, {}
    for wanted, names in COLUMNS.items():
        found[wanted] = next((name for name in names if name in table), None)
    if lacking := [name for name in FOLDERS if not found[name]]:
        raise TableError(
            f"{path}: no column names the {' and the '.join(lacking)} (found: {', '.join(table.columns[:8])}). Call the"
            " columns mixture and enrollment."
        )
    for wanted, places in FOLDERS.items():
        rows[wanted] = [_file(cell, roots, places, path, line) for line, cell in table[found[wanted]].items()]
    if found["transcript"]:
        rows["transcript"] = list(table[found["transcript"]])
    return pd.DataFrame(rows)


def _file(cell, roots, places, table, line):
    tried = [root / place / f"{cell}{ending}" for root in roots for place in places for ending in ("", ".wav", ".flac")]
    for one in tried:
        if one.is_file():
            return one
    raise TableError(f"{table}, line {line}: {cell} is not there; looked for {tried[0]} and {len(tried) - 1} others.")


def score(model, pairs, recogniser=None, progress=True):
    """`rate` of what `model` makes of each of `pairs` (`read_pairs`): a DataFrame, a row a pair."""
    rows = []
    for row in tqdm(pairs.to_dict("records"), disable=not progress, desc="pairs"):
        mix, known = audio.read(row["mixture"]), audio.read(row["enrollment"])
        est = model.extract(mix, known)
        told = rate(est, mix, known, transcript=row.get("transcript"), recogniser=recogniser)
        rows.append({"mixture": row["mixture"].name, "enrollment": row["enrollment"].name, **told})
    return pd.DataFrame(rows)


def main(given=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Score a model on real mixtures that have no reference.")
    parser.add_argument("pairs", help="CSV with the columns mixture and enrollment, or REAL-T's own table")
    parser.add_argument("--folder", help="where its files lie (default: beside it)")
    parser.add_argument("--model", default="pretrained/starter", help="a folder or a hub id (default: %(default)s)")
    parser.add_argument("--recogniser", help="a folder or hub id of a speech recogniser; gives the word error rate")
    parser.add_argument("-o", "--out", help="a CSV for the row of each pair")
    asked = parser.parse_args(given)
    from lib.evaluation.extract import load

    try:
        pairs = read_pairs(asked.pairs, asked.folder)
        table = score(load(asked.model), pairs, recogniser_of(asked.recogniser) if asked.recogniser else None)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if asked.out:
        runs.write_text(Path(asked.out), table.to_csv(index=False))
    print(f"{len(table)} pairs; means:")
    print(table.mean(numeric_only=True).round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
