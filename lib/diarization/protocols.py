"""Diarization data in pyannote.database's form: lists, waves, RTTM and UEM in folders, checked, and handed over as a
protocol.

root/database.yml                       written here
root/{train,dev,test}.txt               a uri a line
root/{train,dev,test}/{wav,rttm,uem}/{uri}.*
"""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import soundfile
import torch

from lib import audio, extras
from lib.diarization.rttm import AnnotationError, read_rttm, read_uem
from lib.runs import write_text

SETS = {"train": "train", "dev": "development", "test": "test"}  # folder -> pyannote's name
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
SLACK = 0.02  # s; annotation tools round
DATABASE, PROTOCOL = "Workbook", "Conversations"
SR = 16000


class DataError(ValueError):
    """The data does not fit; the message has a line a problem, each naming file or uri."""


def uris(root, part):
    """The uris listed in `root/<part>.txt`."""
    path = Path(root) / f"{part}.txt"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. It should list the recordings of this set, a name (without suffix) a line."
        )
    return path.read_text(encoding="utf-8").split()


def audio_file(root, part, uri):
    """The recording of `uri`, or None."""
    return next((path for suffix in SUFFIXES if (path := Path(root) / part / "wav" / f"{uri}{suffix}").is_file()), None)


def seconds_of(root, part, uri):
    """Length of a recording in seconds. Raises `DataError` where it is missing."""
    path = audio_file(root, part, uri)
    if path is None:
        raise DataError(f"{uri}: no audio in {part}/wav (expected {uri}.wav, .flac, .mp3, .ogg or .m4a).")
    return seconds_of_file(path)


# --- the check


def problems(root, global_speakers=True):
    """Everything that does not fit, a text each; an empty list is good.

    global_speakers: a name means one person in all files, so that nobody may be in two sets; False where names count a
    file's people.
    """
    found, sets, speakers = [], {}, {}
    for part in SETS:
        try:
            names = uris(root, part)
        except DataError as error:
            found.append(str(error))
            continue
        for uri in names:
            if uri in sets:
                found.append(f"{uri}: listed twice, in {sets[uri]}.txt and {part}.txt.")
                continue
            sets[uri] = part
            heard = _file_problems(root, part, uri, found)
            for speaker in heard:
                speakers.setdefault(speaker, {}).setdefault(part, uri)
        if not names:
            found.append(f"{Path(root) / part}.txt: the list is empty.")
    if global_speakers:
        found += [
            f"{speaker}: this speaker is in two sets, {' and '.join(f'{part} ({uri})' for part, uri in where.items())}."
            " Keep people apart, or say global_speakers=False where names are per file."
            for speaker, where in speakers.items()
            if len(where) > 1
        ]
    return found


def check(root, global_speakers=True):
    """Raise `DataError` with all `problems`; returns the number of recordings a set where there are none."""
    if found := problems(root, global_speakers):
        raise DataError(
            f"{root}: {len(found)} problem(s).\n" + "\n".join(found[:20]) + ("\n..." if len(found) > 20 else "")
        )
    return {part: len(uris(root, part)) for part in SETS}


def _file_problems(root, part, uri, found):
    """Append the problems of one recording to `found`; returns the speakers heard in it."""
    wave = audio_file(root, part, uri)
    if wave is None:
        found.append(f"{uri}: no audio in {part}/wav (expected {uri}.wav, .flac, .mp3, .ogg or .m4a).")
    seconds = seconds_of_file(wave) if wave else None
    parts = {}
    for kind, read in (("rttm", read_rttm), ("uem", read_uem)):
        path = Path(root) / part / kind / f"{uri}.{kind}"
        try:
            read_here = read(path)
        except AnnotationError as error:
            found.append(str(error))
            continue
        if set(read_here) != {uri}:
            found.append(f"{path}: is about {', '.join(read_here) or 'nothing'}; expected {uri}.")
        parts[kind] = read_here.get(uri, [])
    for start, end in parts.get("uem", []):
        if seconds and end > seconds + SLACK:
            found.append(f"{uri}: the uem's region {start:g} to {end:g} s reaches beyond the file's {seconds:.2f} s.")
    turns = parts.get("rttm", [])
    for turn in turns:
        if seconds and turn.end > seconds + SLACK:
            found.append(f"{uri}: a turn of {turn.speaker} ends at {turn.end:g} s, beyond the file's {seconds:.2f} s.")
    for speaker in {turn.speaker for turn in turns}:
        own = sorted(turn for turn in turns if turn.speaker == speaker)
        if twice := [second for first, second in itertools.pairwise(own) if second.start < first.end - 1e-3]:
            found.append(
                f"{uri}: turns of {speaker} overlap at {twice[0].start:g} s. Join them (lib.diarization.rttm.union)."
            )
    return {turn.speaker for turn in turns}


def seconds_of_file(path):
    """Length of an audio file in seconds."""
    try:
        info = soundfile.info(str(path))
        return info.frames / info.samplerate
    except soundfile.LibsndfileError:
        return len(audio.read(path, SR)) / SR


# --- the protocol


def write_database(root, global_speakers=True):
    """Write `root/database.yml` for the sets that are there; returns its path."""
    root, lines = Path(root), ["Databases:", f"  {DATABASE}:"]
    for part in SETS:
        suffixes = sorted({path.suffix for path in (root / part / "wav").glob("*") if path.suffix in SUFFIXES})
        lines += [f"    - {part}/wav/{{uri}}{suffix}" for suffix in suffixes]
    lines += [
        "Protocols:",
        f"  {DATABASE}:",
        "    SpeakerDiarization:",
        f"      {PROTOCOL}:",
        f"        scope: {'global' if global_speakers else 'file'}",
    ]
    for part, name in SETS.items():
        if (root / f"{part}.txt").is_file():
            lines += [
                f"        {name}:",
                f"          uri: {part}.txt",
                f"          annotation: {part}/rttm/{{uri}}.rttm",
                f"          annotated: {part}/uem/{{uri}}.uem",
            ]
    write_text(root / "database.yml", "\n".join(lines) + "\n")
    return root / "database.yml"


def protocol(root, waves=False):
    """The pyannote.database protocol of `root`, from its database.yml (written where it is missing).

    waves: each file also carries `waveform` (1, samples) and `sample_rate`, read by soundfile or PyAV, so that no other
    decoder is needed.
    """
    with extras():
        from pyannote.database import FileFinder
        from pyannote.database.registry import Registry

    path = Path(root) / "database.yml"
    registry = Registry()
    registry.load_database(path if path.is_file() else write_database(root))
    preprocessors = {"audio": FileFinder(registry=registry)}
    if waves:
        preprocessors |= {"waveform": lambda file: waveform(file["audio"]), "sample_rate": lambda file: SR}
    return registry.get_protocol(f"{DATABASE}.SpeakerDiarization.{PROTOCOL}", preprocessors=preprocessors)


def files(root, part):
    """The recordings of a set as pyannote's files, with waves in memory."""
    return list(getattr(protocol(root, waves=True), SETS[part])())


def waveform(path):
    """A recording as the tensor `(1, samples)` at 16 kHz that pyannote takes."""
    return torch.from_numpy(np.ascontiguousarray(audio.read(path, SR)))[None]


def real_sample():
    """The real conversation that pyannote.audio ships, 30 s of two people on the telephone with labels, as one of
    pyannote's files.
    """
    import importlib.util

    with extras():
        from pyannote.core import Segment, Timeline
        from pyannote.database.util import load_rttm

    folder = Path(importlib.util.find_spec("pyannote.audio").origin).parent / "sample"
    wave = waveform(folder / "sample.wav")
    return {
        "uri": "sample",
        "waveform": wave,
        "sample_rate": SR,
        "annotation": load_rttm(folder / "sample.rttm")["sample"],
        "annotated": Timeline([Segment(0, wave.shape[1] / SR)]),
    }


# --- for NeMo


def nemo_manifest(root, part, path):
    """Write the set as NeMo's diarization manifest, a JSON object a line with absolute paths; returns its rows.

    Fields: audio_filepath, offset, duration, label, text, num_speakers, rttm_filepath, uem_filepath. Source: NeMo's
    documentation on
    speaker diarization data sets.
    """
    rows = []
    for uri in uris(root, part):
        wave, rttm, uem = (
            audio_file(root, part, uri),
            Path(root) / part / "rttm" / f"{uri}.rttm",
            Path(root) / part / "uem" / f"{uri}.uem",
        )
        if wave is None:
            raise DataError(f"{uri}: no audio in {part}/wav, so it cannot stand in a manifest.")
        turns = read_rttm(rttm).get(uri, [])
        rows.append(
            {
                "audio_filepath": os.path.abspath(wave),
                "offset": 0,
                "duration": round(seconds_of_file(wave), 3),
                "label": "infer",
                "text": "-",
                "num_speakers": len({turn.speaker for turn in turns}),
                "rttm_filepath": os.path.abspath(rttm),
                "uem_filepath": os.path.abspath(uem),
            }
        )
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows
