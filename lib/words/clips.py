"""The competition's own folder, any size: clips and their label rows checked, features computed once in batches, a
submission written.

    python -m lib.words.clips 100000      seconds, processor time and memory of so many clips; leaves nothing behind

Layout (DACON 235616): `train/*.wav`, `train_answer.csv` (an id, then a column a word; each row sums to 1),
`test/*.wav`. Clips are one second at 16 kHz; others are padded or cut, which is said once.
"""

import hashlib
import os
import re
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import audio, runs
from lib.data import cache_dir, tables
from lib.data.walk import sounds
from lib.words.mixtures import SAMPLES, SR, fit_second
from lib.words.vocabularies import WordsError

ROW_TOLERANCE = 1e-2  # the competition's own rows are rounded


@dataclass
class Competition:
    """`ids` and `paths` of clips, `shares` `(clips, words)` (None for the test clips), `words`, and the CSV's name of
    its id column.
    """

    ids: list
    paths: list
    words: list
    shares: np.ndarray | None = None
    id_column: str = "id"

    def __len__(self):
        return len(self.paths)

    def part(self, places):
        """The clips at `places`."""
        shares = None if self.shares is None else self.shares[places]
        return Competition(
            [self.ids[k] for k in places], [self.paths[k] for k in places], self.words, shares, self.id_column
        )


def open_competition(root):
    """`(train, test)` of the folder `root` as two `Competition`s.

    Raises `WordsError`, naming the file or row and the remedy.
    """
    root = runs.place(root)
    table, column, words = read_answers(root / "train_answer.csv")
    clips = _clips(root / "train")
    ids = [str(one) for one in table[column]]
    named, there = {_key(one): one for one in ids}, {_key(path.stem): path for path in clips}
    if len(named) < len(ids):
        raise WordsError(
            f"{root / 'train_answer.csv'}: an id stands twice: {table[column][table[column].duplicated()].iloc[0]}."
            " Remove one of the rows."
        )
    if missing := [named[key] for key in named if key not in there]:
        raise WordsError(
            f"{root / 'train_answer.csv'}: {len(missing)} rows have no clip in {root / 'train'}:"
            f" {', '.join(missing[:5])}. Copy the wav files, or remove the rows."
        )
    if extra := [there[key].name for key in there if key not in named]:
        raise WordsError(
            f"{root / 'train'}: {len(extra)} clips have no row in train_answer.csv: {', '.join(extra[:5])}. Add the"
            " rows, or remove the clips."
        )
    train = Competition(ids, [there[_key(one)] for one in ids], words, table[words].to_numpy(np.float32), column)
    test, plain = (
        _clips(root / "test"),
        all(one.isdigit() and not one.startswith("0") for one in ids),
    )  # as the answer file writes its ids
    return train, Competition(
        [str(_key(path.stem)) if plain else path.stem for path in test], test, words, None, column
    )


def read_answers(path):
    """`(table, id column, words)` of a label CSV whose rows are checked: numbers from 0 on that sum to 1, no word that
    never occurs.
    """
    if not path.is_file():
        raise WordsError(f"{path}: no such file. Expected a CSV with an id and a column a word.")
    table = tables.read_table(path, WordsError, plain_header=False)
    column, words, lines = table.columns[0], list(table.columns[1:]), list(table.index)
    table = table.reset_index(drop=True)
    if len(words) < 2 or table.empty:
        raise WordsError(
            f"{path}: expected an id and then a column of numbers a word, a row a clip; got {len(table)} rows of the"
            f" columns {', '.join(map(str, table.columns[:5]))}."
        )
    for word in words:
        where = [f"{path}, line {line}, {word}" for line in lines]
        table[word] = [tables.number(*told, WordsError) for told in zip(table[word], where)]
    shares = table[words].to_numpy(float)
    wrong = np.flatnonzero(
        ~np.isfinite(shares).all(1) | (shares < 0).any(1) | (np.abs(shares.sum(1) - 1) > ROW_TOLERANCE)
    )
    if len(wrong):
        row = wrong[0]
        raise WordsError(
            f"{path}: the row of id {table[column][row]} (line {lines[row]}) sums to {shares[row].sum():.4g} and not to"
            f" 1, or holds what is no share ({len(wrong)} such rows). Correct or remove it."
        )
    if empty := [word for word, share in zip(words, shares.sum(0)) if not share]:
        raise WordsError(
            f"{path}: no clip holds {', '.join(empty[:5])}. A class without an example cannot be learned: remove the"
            " column, or add clips."
        )
    table[words] = shares / shares.sum(1, keepdims=True)
    return table, column, words


def _clips(folder):
    found = sounds(folder, below=False, error=WordsError).files
    if not found:
        raise WordsError(
            f"{folder}: no wav files. Expected the competition's layout: train/*.wav, train_answer.csv, test/*.wav."
        )
    return found


def _key(name):
    """Ids are numbers in the CSV and zero-padded in the file names."""
    name = str(name).strip().removesuffix(".wav")
    return int(float(name)) if re.fullmatch(r"[0-9]+(\.0+)?", name) else unicodedata.normalize("NFC", name)


def read_clips(paths, say=print):
    """Clips `(len(paths), 16000)` float32; what was resampled, padded or cut is said once, with how many and an
    example.
    """
    out, done = np.zeros((len(paths), SAMPLES), np.float32), {}
    for clip, path in zip(out, paths):
        info = _rate(path)
        clip[:], what = fit_second(audio.read(path, info), info)
        for one in what:
            done.setdefault(one, []).append(Path(path).name)
    for one, names in done.items():
        say(f"{len(names)} of {len(paths)} clips were not one second at 16 kHz: {one} (e.g. {names[0]}).")
    return out


def _rate(path):
    import soundfile

    try:
        return soundfile.info(str(path)).samplerate
    except soundfile.LibsndfileError:
        return SR  # audio.read says what is wrong with it


def cached_features(net, competition, batch=256, progress=True, say=print):
    """Features of all clips by `net.features`, as a read-only half-precision array on disk: computed once, a batch at a
    time.

    Memory stays bounded whatever the number of clips (`python -m lib.words.clips 100000` measures it); the file lies in
    the cache under a name made of the clips' paths, sizes and dates and the network's input. An interrupted computation
    starts anew.
    """
    probe = net.features(torch.zeros(1, SAMPLES))
    path = cache_dir() / "features" / f"words-{type(net).__name__}-{_fingerprint(net, competition.paths)}.npy"
    if not path.is_file():
        from tqdm.auto import tqdm

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{os.getpid()}-{path.name}")
        header, notes = dict(descr="<f2", fortran_order=False, shape=(len(competition), *probe.shape[1:])), {}
        try:
            with open(part, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for first in tqdm(
                    range(0, len(competition), batch), unit="batch", desc="features", disable=not progress
                ):
                    clips = read_clips(
                        competition.paths[first : first + batch],
                        say=lambda line: notes.setdefault(line.split(": ", 1)[1].split(" (")[0], line),
                    )
                    with torch.inference_mode():
                        file.write(net.features(torch.from_numpy(clips)).numpy().astype("<f2").tobytes())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        for what, line in notes.items():
            say(f"clips were not all one second at 16 kHz; some were {what} (in the first such batch: {line})")
    return np.load(path, mmap_mode="r")


def _fingerprint(net, paths):
    facts = [f"{Path(path).resolve()}:{(stat := os.stat(path)).st_size}:{stat.st_mtime_ns}" for path in paths]
    facts += [
        f"{name}:{tuple(value.shape)}:{float(value.double().sum()):.6g}"
        for name, value in net.named_buffers()
        if "mel" in name
    ]
    return hashlib.sha1("\n".join(facts).encode()).hexdigest()[:16]


def split_by_clip(competition, share=0.2, seed=0):
    """`(train, val)`: a `share` of the clips at random for validation, as the earlier solution did; speakers are not
    known here.
    """
    order = np.random.default_rng(seed).permutation(len(competition))
    held = max(1, round(share * len(competition)))
    return competition.part(np.sort(order[held:])), competition.part(np.sort(order[:held]))


@torch.inference_mode()
def submission(model, test, path, batch=128, progress=True):
    """Write the probabilities of all test clips as the competition's CSV (the label file's columns); returns the
    table.
    """
    from tqdm.auto import tqdm

    model.eval()
    rows = []
    for first in tqdm(range(0, len(test), batch), unit="batch", desc="answers", disable=not progress):
        clips = read_clips(test.paths[first : first + batch], say=lambda line: None)
        rows.append(model(clip=torch.from_numpy(clips)).log_shares.exp().double().numpy())
    table = pd.DataFrame(np.concatenate(rows), columns=test.words)
    table = table.div(table.sum(axis=1), axis=0)
    table.insert(0, test.id_column, test.ids)
    runs.write_text(path, table.to_csv(index=False, float_format="%.8f"))
    return table


def write_competition(root, train, test, words, column="id"):
    """A folder in the competition's layout from arrays: `train` is (clips, shares), `test` clips `(clips, 16000)`;
    returns `root`.
    """
    root, (clips, shares) = Path(root), train
    for part, waves in (("train", clips), ("test", test)):
        for number, wave in enumerate(waves, start=1):
            audio.write(root / part / f"{number:05d}.wav", wave)
    table = pd.DataFrame(shares, columns=words)
    table.insert(0, column, range(1, len(clips) + 1))
    runs.write_text(root / "train_answer.csv", table.to_csv(index=False))
    return root


def timed(function, *arguments, **settings):
    """`(what the function returns, seconds)`."""
    started = time.perf_counter()
    return function(*arguments, **settings), time.perf_counter() - started


def measure_features(count, folder, say=print, different=2000):
    """Compute the features of `count` clips, in turn of `different` files of noise written to `folder`, and say what it
    took; a dict of the same.
    """
    from lib.words.cnn import WordCNN

    random, loud = np.random.default_rng(0), np.float32(0.05)
    files = [folder / "train" / f"{number:06d}.wav" for number in range(min(count, different))]
    for path in files:
        audio.write(path, random.standard_normal(SAMPLES, dtype=np.float32).clip(-5, 5) * loud)
    paths = [files[number % len(files)] for number in range(count)]
    net, clips = WordCNN().eval(), Competition(list(range(count)), paths, [])
    net.features(torch.zeros(1, SAMPLES))  # what the first call sets up is no part of it
    worked = time.process_time()
    with runs.PeakMemory("cpu") as peak:
        features, seconds = timed(cached_features, net, clips, progress=False)
    found = dict(
        clips=len(features),
        threads=torch.get_num_threads(),
        seconds=round(seconds, 1),
        processor_seconds=round(time.process_time() - worked, 1),
        memory_mb=round(peak.mb),
        file_mb=round(features.nbytes / 2**20),
    )
    say(", ".join(f"{name} {value}" for name, value in found.items()))
    return found


def main(arguments=None):
    import argparse
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBOOK_CACHE"] = folder
        measure_features(asked.count, Path(folder))


if __name__ == "__main__":
    main()
