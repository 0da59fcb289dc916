"""Check and read a Dataset folder, built here or brought ready-made; without a manifest the folders alone are enough.

    Dataset/{Train,Val,Test}_Dataset/{Clean,Mix,Target}/{clean,mix,enrollment}_000001.wav

The three files of a mixture belong together by the number at the end of their names, never by their place in a sorted
list. Waves are float32 in [-1, 1] at 16 kHz, `(samples,)` an item and `(batch, samples)` after `collate`.
"""

import json
import re
import warnings
from pathlib import Path

import pandas as pd
import soundfile
import torch

from lib import audio

SPLITS = ("Train", "Val", "Test")
PLACES = {"clean": "Clean", "mix": "Mix", "enrollment": "Target"}  # `Target` holds the enrollment of the target speaker
SUFFIXES = (".wav", ".flac")
SR = 16000


class DatasetError(ValueError):
    """A Dataset folder cannot be used as it is; the message names the file or index and says what to do."""


def check_dataset(folder, splits=None, skip_bad=False, deep=True):
    """Check `folder` and return a DataFrame, a row a mixture: split, index, clean, mix, enrollment (paths), seconds,
    enrollment_seconds, and where a manifest tells, speaker.

    `splits`: those to check (default: all that exist). `deep` decodes every file, else only its header is read. Raises
    `DatasetError` for a missing partner, unequal lengths, an unreadable, empty or NaN file, and a speaker in two
    splits.
    With `skip_bad` mixtures with an unreadable file are left out, counted, and said. Another rate or stereo is said
    once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder. Expected a Dataset with Train_Dataset, Val_Dataset and Test_Dataset."
        )
    splits = splits or [split for split in SPLITS if (folder / f"{split}_Dataset").is_dir()]
    if not splits:
        raise DatasetError(
            f"{folder}: expected folders named Train_Dataset, Val_Dataset and Test_Dataset; found none of them."
        )
    check_speakers(folder)
    rows, bad, odd = [], [], {}
    for split in splits:
        for index, files in _pairs(folder, split).items():
            try:
                rows.append({"split": split, "index": index, **files, **_check_triple(files, index, split, deep, odd)})
            except audio.AudioError as error:
                bad.append(f"{split} {index}: {error}")
    _report(bad, odd, skip_bad)
    if not rows:
        raise DatasetError(f"{folder}: no usable mixture in {', '.join(splits)}.")
    return _with_speakers(pd.DataFrame(rows), folder)


class MixtureDataset(torch.utils.data.Dataset):
    """Mixtures by their place in `pairs`, a table as `check_dataset` returns it."""

    def __init__(self, pairs, segment_seconds=None):
        self.pairs = pairs.reset_index(drop=True)
        self.samples = None if segment_seconds is None else round(segment_seconds * SR)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, place):
        row = self.pairs.iloc[place]
        waves = {name: torch.from_numpy(_read(row[name])) for name in PLACES}
        if len(waves["mix"]) != len(waves["clean"]):
            raise DatasetError(
                f"index {row['index']}: {row['clean']} holds {len(waves['clean'])} samples at {SR} Hz, but "
                f"{row['mix'].name} {len(waves['mix'])}. They must be equally long."
            )
        return dict(
            mix=waves["mix"][: self.samples],
            target=waves["clean"][: self.samples],
            enrollment=waves["enrollment"],
            index=int(row["index"]),
        )


def collate(items):
    """A batch of items, zero-padded at the end: mix, target `(batch, samples)` with lengths `(batch,)`, enrollment
    `(batch, samples)` with enrollment_lengths `(batch,)`, index `(batch,)`; lengths in samples."""
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([item[name] for item in items], batch_first=True)
        for name in ("mix", "target", "enrollment")
    }
    batch["lengths"] = torch.tensor([len(item["mix"]) for item in items])
    batch["enrollment_lengths"] = torch.tensor([len(item["enrollment"]) for item in items])
    batch["index"] = torch.tensor([item["index"] for item in items])
    return batch


def _pairs(folder, split):
    """index -> {clean, mix, enrollment: path} of one split; each index must have all three."""
    found = {name: _by_index(folder / f"{split}_Dataset" / place) for name, place in PLACES.items()}
    for index in sorted(set().union(*found.values())):
        if missing := [name for name in PLACES if index not in found[name]]:
            partner = next(files[index] for files in found.values() if index in files)
            wanted = ", ".join(
                str(folder / f"{split}_Dataset" / PLACES[name] / f"{name}_{index:06d}.wav") for name in missing
            )
            raise DatasetError(
                f"index {index} of {split} lacks {wanted}, the partner of {partner.name}. Add it, or take its partners"
                " out."
            )
    return {index: {name: found[name][index] for name in PLACES} for index in sorted(found["mix"])}


def _by_index(folder):
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder. Expected {', '.join(PLACES.values())} in each split.")
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        number = re.search(r"(\d+)$", path.stem)
        if not number:
            raise DatasetError(
                f"{path}: expected a name that ends in its index, such as {folder.name.lower()}_000001.wav."
            )
        if (index := int(number[1])) in files:
            raise DatasetError(f"{path}: index {index} is also that of {files[index].name}. Keep one of the two.")
        files[index] = path
    return files


def _check_triple(files, index, split, deep, odd):
    """seconds and enrollment_seconds of one mixture; notes files of another rate or of several channels in `odd`."""
    seconds = {}
    for name, path in files.items():
        rate, channels, samples = _header(path)
        if deep:
            samples, rate = len(_read(path)), SR if rate == SR else rate
        seconds[name] = samples / (SR if deep else rate)
        if rate != SR or channels != 1:
            odd.setdefault(f"{rate} Hz, {channels} channel{'s' * (channels > 1)}", []).append(path)
    if abs(seconds["clean"] - seconds["mix"]) > 0.5 / SR:
        raise DatasetError(
            f"index {index} of {split}: {files['clean']} lasts {seconds['clean']:.4f} s, but {files['mix'].name} "
            f"{seconds['mix']:.4f} s. They must be equally long, sample by sample."
        )
    return dict(seconds=seconds["mix"], enrollment_seconds=seconds["enrollment"])


def _header(path):
    """(rate, channels, samples) of a file without decoding it."""
    if path.stat().st_size == 0:
        raise audio.AudioError(f"{path}: the file is empty (0 bytes). Copy or record it again.")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise audio.AudioError(
            f"{path}: cannot be decoded as audio ({error}). Is it damaged, or not audio at all?"
        ) from error
    if info.frames == 0:
        raise audio.AudioError(f"{path}: the file holds no audio samples. Copy or record it again.")
    return info.samplerate, info.channels, info.frames


def _read(path):
    wave = audio.read(path, SR)
    if len(wave) < 2:
        raise audio.AudioError(f"{path}: the file holds less than two samples. Copy or record it again.")
    return wave


def _report(bad, odd, skip_bad):
    if bad and not skip_bad:
        raise DatasetError(
            f"{len(bad)} mixture(s) with a file that cannot be used; the first: {bad[0]} (skip_bad=True leaves them"
            " out)"
        )
    if bad:
        warnings.warn(f"Left out {len(bad)} mixture(s) with a file that cannot be used: {'; '.join(bad)}", stacklevel=3)
    for what, files in odd.items():
        warnings.warn(f"{len(files)} file(s) of {what}, such as {files[0]}: read as {SR} Hz mono.", stacklevel=3)


def _manifests(folder):
    """split -> its manifest with whole-number index, where there is one that names speakers."""
    tables = {}
    for split in SPLITS:
        path = folder / f"{split}_Dataset" / "manifest.csv"
        if path.exists():
            table = pd.read_csv(path, dtype=str)
            if {"index", "speaker"} <= set(table):
                tables[split] = table.assign(index=table["index"].astype(int))
    return tables


def check_speakers(folder):
    """A person who speaks in two splits, as target or interferer, makes the evaluation worthless."""
    where = {}
    for split, table in _manifests(folder).items():
        speakers = set(table["speaker"])
        if "interferers" in table:
            speakers.update(*(json.loads(cell) for cell in table["interferers"].dropna() if cell.startswith("[")))
        for speaker in sorted(speakers):
            where.setdefault(speaker, []).append(split)
    if twice := [f"{speaker} in {' and '.join(splits)}" for speaker, splits in where.items() if len(splits) > 1]:
        raise DatasetError(
            f"{folder}: the manifests name a speaker in two splits: {'; '.join(twice)}. Build the splits by speaker."
        )


def _with_speakers(pairs, folder):
    tables = [table.assign(split=split)[["split", "index", "speaker"]] for split, table in _manifests(folder).items()]
    return pairs.merge(pd.concat(tables), how="left", on=["split", "index"]) if tables else pairs
