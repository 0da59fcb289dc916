"""Who and what mixtures can be drawn from: the recordings of each speaker by split, and the backgrounds there are files
for.
"""

import hashlib
import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from lib.data import noises
from lib.data.recipes import MIN_PIECE, SPLITS, SR

MIN_BABBLE = 3  # talkers in a babble, besides those who speak in the mixture


class MixtureError(ValueError):
    """Mixtures cannot be made of these voices or settings; the message says why and what to do."""


@dataclass
class Pools:
    """Files are named `root/path/below/it`; `roots` says where each root lies."""

    roots: dict  # root -> folder
    voices: dict  # split -> speaker -> {file: seconds}
    targets: dict  # split -> speakers with recordings enough for a target and an enrollment, in the seed's order
    left_out: list  # speakers with too few recordings for that; they are heard as interferers only
    backgrounds: dict  # kind -> share
    noises: dict  # kind of background -> split -> [(file, from, to)], see `noises.by_split`
    sexes: dict  # speaker -> "F", "M" or ""
    notes: list  # what the user is to be told once, where a dataset is made of these pools


def make_pools(voices, settings):
    """`Pools` of a table of voices (columns speaker, path, seconds, split).

    Raises `MixtureError`, naming what is at fault.
    """
    _check_table(voices)
    voices = voices[voices["seconds"] >= MIN_PIECE / SR]
    root = _common_folder(voices["path"])
    by_split = {split: _recordings(voices[voices["split"] == split], root) for split in SPLITS}
    targets, left_out = {}, []
    for number, split in enumerate(SPLITS):
        enough = [name for name, files in by_split[split].items() if can_be_target(list(files.values()), settings)]
        left_out += [name for name in by_split[split] if name not in enough]
        targets[split] = [enough[k] for k in np.random.default_rng([settings.seed, number]).permutation(len(enough))]
        _check_split(split, by_split[split], targets[split], settings)
    known = voices.drop_duplicates("speaker") if "sex" in voices else voices.iloc[:0].assign(sex="")
    sexes = {str(row.speaker): row.sex if row.sex in ("F", "M") else "" for row in known.itertuples()}
    pools = Pools({"voices": root}, by_split, targets, left_out, {}, {}, sexes, [])
    if left_out:
        pools.notes.append(
            f"Left out as targets, {len(left_out)} speaker(s) with too few recordings for a segment of"
            f" {settings.segment_seconds:g} s and an enrollment of {settings.enrollment_seconds[0]:g} s from other"
            f" recordings: {', '.join(left_out)}."
        )
    _add_backgrounds(pools, settings)
    return pools


def can_be_target(seconds, settings):
    """Whether recordings of these `seconds` can be parted into an enrollment and a segment."""
    segment, enrollment = settings.segment_seconds, settings.enrollment_seconds[0]
    if sum(seconds) < segment + enrollment:
        return False
    if len(seconds) > 10:  # many recordings: the shortest make the enrollment, and its last one may reach beyond it
        seconds = sorted(seconds)
        count = int(np.searchsorted(np.cumsum(seconds), enrollment)) + 1
        return sum(seconds[count:]) >= segment
    return any(
        sum(chosen) >= enrollment and sum(seconds) - sum(chosen) >= segment
        for count in range(1, len(seconds))
        for chosen in combinations(seconds, count)
    )


def _check_table(voices):
    if missing := [name for name in ("speaker", "path", "seconds", "split") if name not in voices]:
        raise MixtureError(f"the table of voices lacks {', '.join(missing)}; split_by_speaker(voices) adds split.")
    if unknown := sorted(set(voices["split"].astype(str)) - set(SPLITS)):
        raise MixtureError(f"split: expected Train, Val or Test in each row; found {', '.join(unknown)}.")
    splits = voices.groupby("speaker")["split"].unique()
    if twice := [f"{name} in {' and '.join(found)}" for name, found in splits.items() if len(found) > 1]:
        raise MixtureError(f"a speaker stands in two splits: {'; '.join(twice)}. Give each speaker one split.")
    for path in voices["path"]:
        if not os.path.isfile(path):
            raise MixtureError(f"{path}: this recording of the table of voices is missing. Load the voices again.")


def _check_split(split, speakers, targets, settings):
    if not settings.count(split, len(targets)) and (settings.per_speaker == 0 or not speakers):
        return
    if len(speakers) < 2 or not targets:
        raise MixtureError(
            f"{split}: expected at least 2 speakers, one of them with enough recordings for target and enrollment; got "
            f"{len(speakers)} ({', '.join(speakers) or 'none'}). Six people or more fill three splits; with fewer, set "
            f"{split.lower()}=0 to leave this split out."
        )


def _common_folder(paths):
    try:
        return Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]))
    except ValueError as error:
        raise MixtureError(
            f"the voices share no folder ({error}). Put them on one drive; an empty table has none either."
        ) from error


def _recordings(voices, root):
    """speaker -> {file: seconds}, sorted by name; of the same recording under two names the first stays."""
    speakers = {}
    for speaker, rows in voices.groupby("speaker", sort=True):
        rows = rows.sort_values("path")
        content = rows["content"] if "content" in rows else _content(rows)
        rows = rows[~content.duplicated().to_numpy()]
        names = ["voices/" + Path(os.path.abspath(path)).relative_to(root).as_posix() for path in rows["path"]]
        speakers[str(speaker)] = dict(zip(names, rows["seconds"].astype(float)))
    return speakers


def _content(rows):
    """Something that two rows share only when their files are equal; only files of equal length are read for it."""
    twins = rows["seconds"].round(4).duplicated(keep=False)
    content = rows["path"].astype(str).copy()
    content[twins] = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in rows["path"][twins]]
    return content


def _add_backgrounds(pools, settings):
    """Fill in the kinds of background that there is material for; say which share falls to the others."""
    if not settings.background_share:
        return
    missing = []
    talkers = len(pools.voices["Train"]) - 1 - settings.interferers[1]
    if talkers >= MIN_BABBLE:
        pools.backgrounds["babble"] = settings.babble_share
    elif settings.babble_share:
        missing.append(f"babble (fewer than {MIN_BABBLE} further Train voices)")
    pools.backgrounds |= {"noise": settings.noise_share, "fan": settings.fan_share}
    for kind, folder in (("music", settings.music_folder), ("folder", settings.noise_folder)):
        if folder is None:
            missing += ["music (no music_folder)"] if kind == "music" and settings.music_share else []
            continue
        pools.roots[kind] = Path(folder).absolute()
        pools.noises[kind] = noises.by_split(noises.files(folder, kind), settings.seed)
        pools.backgrounds[kind] = getattr(settings, f"{kind}_share")
    pools.backgrounds = {kind: share for kind, share in pools.backgrounds.items() if share > 0}
    if missing:
        pools.notes.append(
            f"No background of: {', '.join(missing)}; its share falls to: {', '.join(pools.backgrounds) or 'none'}."
        )
