"""Check and read a Dataset folder, built here or brought ready-made; without a manifest the folders alone are enough.

    Dataset/{Train,Val,Test}_Dataset/{Clean,Mix,Target}/{clean,mix,enrollment}_000001.wav

The three files of a mixture belong together by the number at the end of their names, never by their place in a sorted
list. Waves are float32 in [-1, 1] at 16 kHz, `(samples,)` an item and `(batch, samples)` after `collate`.
"""

import re
import warnings
from pathlib import Path

import pandas as pd
import torch

from lib import audio
from lib.data import tables
from lib.data.walk import sounds

SPLITS = ("Train", "Val", "Test")
PLACES = {"clean": "Clean", "mix": "Mix", "enrollment": "Target"}  # `Target` holds the enrollment of the target speaker
SPEAKS = ("speaks", "present")  # columns of a manifest that say no where the enrolled person does not speak
SHORTEST = {"clean": 0.25, "mix": 0.25, "enrollment": 1.0}  # s, below which nothing can be scored, or no voice known
SILENT_DB = -90.0  # dBFS
SR = 16000


class DatasetError(ValueError):
    """A Dataset folder cannot be used as it is; the message names the file or index and says what to do."""


def check_dataset(folder, splits=None, skip_bad=False, deep=True):
    """Check `folder` and return a DataFrame, a row a mixture: split, index, clean, mix, enrollment (paths), seconds,
    enrollment_seconds, and where a manifest tells, speaker.

    `splits`: those to check (default: all that exist). `deep` decodes every file, else only its header is read. Raises
    `DatasetError` for a missing partner, unequal lengths, an unreadable, empty or NaN file, one too short or silent to
    be used (`Clean` may be silent where the manifest's column `speaks` says no), and a speaker in two splits. A split
    that lies in shards alone is read from them.
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
    manifests = _manifests(folder)
    check_speakers(folder, manifests)
    rows, bad, odd = [], [], {}
    for split in splits:
        quiet = _quiet(manifests.get(split))
        for index, files in _pairs(folder, split).items():
            try:
                facts = _check_triple(files, index, split, deep, odd, index in quiet)
                rows.append({"split": split, "index": index, **files, **facts})
            except audio.AudioError as error:
                bad.append(f"{split} {index}: {error}")
    _report(bad, odd, skip_bad)
    if not rows:
        raise DatasetError(f"{folder}: no usable mixture in {', '.join(splits)}.")
    return _with_speakers(pd.DataFrame(rows), folder, manifests)


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
        try:
            for name, wave in waves.items():
                check_wave(wave.numpy(), name, row[name], not row.get("speaks", True))
        except audio.AudioError as error:
            raise DatasetError(f"index {row['index']}: {error}") from None
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
    inside, shards = folder / f"{split}_Dataset", folder / f"{split}_Dataset" / "shards"
    if not any((inside / place).is_dir() for place in PLACES.values()) and (shards / "index.csv").is_file():
        found = _in_shards(shards)
    else:
        found = {name: _by_index(inside / place) for name, place in PLACES.items()}
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
    for path in sounds(folder, below=False, error=DatasetError).files:
        number = re.search(r"(\d+)$", path.stem)
        if not number:
            raise DatasetError(
                f"{path}: expected a name that ends in its index, such as {folder.name.lower()}_000001.wav."
            )
        if (index := int(number[1])) in files:
            raise DatasetError(f"{path}: index {index} is also that of {files[index].name}. Keep one of the two.")
        files[index] = path
    return files


def _in_shards(shards):
    """What `_by_index` gives for the three folders, of files inside the tars of `shards`."""
    found = {name: {} for name in PLACES}
    for tar in sorted(shards.glob("*.tar")):
        for member in audio.members(str(tar), tar.stat().st_mtime_ns):
            index, name = member.split(".")[:2]
            if name in found and index.isdigit():
                found[name][int(index)] = tar / member
    return found


def _check_triple(files, index, split, deep, odd, quiet):
    """seconds and enrollment_seconds of one mixture; notes files of another rate or of several channels in `odd`.

    quiet: the person does not speak in it, as the manifest says.
    """
    seconds = {}
    for name, path in files.items():
        rate, channels, samples = audio.facts(path)
        if deep:
            wave = _read(path)
            check_wave(wave, name, path, quiet)
            samples = len(wave)
        elif samples < SHORTEST[name] * rate:
            raise _too_short(path, name, samples / rate)
        seconds[name] = samples / (SR if deep else rate)
        if rate != SR or channels != 1:
            odd.setdefault(f"{rate} Hz, {channels} channel{'s' * (channels > 1)}", []).append(path)
    if abs(seconds["clean"] - seconds["mix"]) > 0.5 / SR:
        raise DatasetError(
            f"index {index} of {split}: {files['clean']} lasts {seconds['clean']:.4f} s, but {files['mix'].name} "
            f"{seconds['mix']:.4f} s. They must be equally long, sample by sample."
        )
    return dict(seconds=seconds["mix"], enrollment_seconds=seconds["enrollment"])


def check_wave(wave, name, path, quiet=False):
    """Raise `AudioError` where `wave` `(samples,)` at 16 kHz, read from `path`, is too short or silent as a `name`."""
    if len(wave) < SHORTEST[name] * SR:
        raise _too_short(path, name, len(wave) / SR)
    if not (quiet and name == "clean") and audio.rms_db(wave) < SILENT_DB:
        hint = " Or does the person not speak in it? Then say no in the manifest's column speaks." * (name == "clean")
        raise audio.AudioError(f"{path}: the {name} is silent. Export it again, or take the mixture out.{hint}")


def _too_short(path, name, seconds):
    return audio.AudioError(
        f"{path}: the {name} lasts {seconds:.2f} s, and takes at least {SHORTEST[name]:g} s. Take the mixture out, or"
        " give a longer one."
    )


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
    """split -> its manifest as `tables.read_manifest_table` reads it, where there is one that names speakers."""
    found = {}
    for split in SPLITS:
        path = folder / f"{split}_Dataset" / "manifest.csv"
        if path.exists():
            table = tables.read_manifest_table(path, DatasetError)
            if table is not None and "speaker" in table:
                found[split] = table
    return found


def _quiet(table):
    """The indices of the mixtures in which the enrolled person does not speak, as a manifest says."""
    column = next((name for name in SPEAKS if table is not None and name in table), None)
    if column is None:
        return frozenset()
    return frozenset(table["index"][table[column].str.lower().isin(["no", "false", "0", "0.0", "n"])])


def check_speakers(folder, manifests=None):
    """A person who speaks in two splits, as target or interferer, makes the evaluation worthless."""
    where = {}
    for split, table in (_manifests(folder) if manifests is None else manifests).items():
        speakers = set(table["speaker"]) - {""}
        if "interferers" in table:
            speakers.update(*table["interferers"])
        for speaker in sorted(speakers):
            where.setdefault(speaker, []).append(split)
    if twice := [f"{speaker} in {' and '.join(splits)}" for speaker, splits in where.items() if len(splits) > 1]:
        more = f" and {len(twice) - 10} more" * (len(twice) > 10)
        raise DatasetError(
            f"{folder}: the manifests name a speaker in two splits: {'; '.join(twice[:10])}{more}. Build the splits by"
            " speaker."
        )


def _with_speakers(pairs, folder, manifests):
    if not manifests:
        return pairs
    told = [table.assign(split=split)[["split", "index", "speaker"]] for split, table in manifests.items()]
    pairs = pairs.merge(pd.concat(told).replace({"speaker": {"": None}}), how="left", on=["split", "index"])
    for split, own in pairs.groupby("split"):
        if split in manifests and own["speaker"].isna().all() and manifests[split]["speaker"].ne("").any():
            warnings.warn(
                f"{folder / f'{split}_Dataset' / 'manifest.csv'}: none of its indices is that of a file, so it tells"
                " nothing about these mixtures. Write the numbers at the end of the file names.",
                stacklevel=3,
            )
    quiet = {split: _quiet(table) for split, table in manifests.items()}
    if any(quiet.values()):
        silent = [index in quiet.get(split, ()) for split, index in zip(pairs["split"], pairs["index"])]
        pairs["speaks"] = [not one for one in silent]
    return pairs
