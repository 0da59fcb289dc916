"""Diarization data in pyannote.database's form: lists, waves, RTTM and UEM in folders, checked, and handed over as a
protocol.

root/database.yml                       written here
root/{train,dev,test}.txt               a uri a line
root/{train,dev,test}/{wav,rttm,uem}/{uri}.*
"""

import itertools
import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import torch

from lib import audio, extras
from lib.data import tables
from lib.diarization.rttm import AnnotationError, read_rttm, read_uem
from lib.runs import write_text

SETS = {"train": "train", "dev": "development", "test": "test"}  # folder -> pyannote's name
SUFFIXES = audio.SUFFIXES
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
    return unicodedata.normalize("NFC", tables.read_text(path, DataError)).split()


def audio_file(root, part, uri):
    """The recording of `uri`, or None."""
    return _named(Path(root) / part / "wav", uri, SUFFIXES)


def _named(folder, uri, suffixes):
    """The file `uri` with one of `suffixes` in `folder`, whatever the Unicode form and the capitals of its suffix."""
    for suffix in suffixes:
        if (path := folder / f"{uri}{suffix}").is_file():
            return path
    uri = unicodedata.normalize("NFC", uri)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if unicodedata.normalize("NFC", path.stem) == uri and path.suffix.lower() in suffixes and path.is_file():
            return path
    return None


def _label_file(root, part, kind, uri):
    """The rttm or uem of `uri`; where it is not there, where it should be."""
    folder = Path(root) / part / kind
    return _named(folder, uri, (f".{kind}",)) or folder / f"{uri}.{kind}"


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
    seconds = None
    try:
        seconds = seconds_of_file(wave) if wave else None
    except audio.AudioError as error:
        found.append(str(error))
    parts = {}
    for kind, read in (("rttm", read_rttm), ("uem", read_uem)):
        path = _label_file(root, part, kind, uri)
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
    rate, _, samples = audio.facts(path)
    return samples / rate


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
    """`root` as a protocol of pyannote.database, read by this project's own readers (its own take comments for turns,
    and a person called NA for nobody). database.yml is written where it is missing.

    waves: each file also carries `waveform` (1, samples) and `sample_rate`, read by soundfile or PyAV, so that no other
    decoder is needed.
    """
    with extras():
        from pyannote.database.protocol import SpeakerDiarizationProtocol

    path = Path(root) / "database.yml"
    if not path.is_file():
        write_database(root)
    scope = "file" if re.search(r"^\s*scope:\s*file\b", tables.read_text(path, DataError), re.MULTILINE) else "global"

    class Conversations(SpeakerDiarizationProtocol):
        name = f"{DATABASE}.SpeakerDiarization.{PROTOCOL}"

        def train_iter(self):
            return _entries(root, "train", scope)

        def development_iter(self):
            return _entries(root, "dev", scope)

        def test_iter(self):
            return _entries(root, "test", scope)

    preprocessors = {}
    if waves:
        preprocessors = {"waveform": lambda file: waveform(file["audio"]), "sample_rate": lambda file: SR}
    return Conversations(preprocessors=preprocessors)


def _entries(root, part, scope):
    """The recordings of a set as dicts of uri, database, subset, scope, audio, annotation, annotated."""
    for uri in uris(root, part):
        wave = audio_file(root, part, uri)
        if wave is None:
            raise DataError(f"{uri}: no audio in {part}/wav (expected {uri}.wav, .flac, .mp3, .ogg or .m4a).")
        yield {
            "uri": uri,
            "database": DATABASE,
            "subset": SETS[part],
            "scope": scope,
            "audio": wave,
            "annotation": annotation(uri, read_rttm(_label_file(root, part, "rttm", uri)).get(uri, [])),
            "annotated": annotated(uri, read_uem(_label_file(root, part, "uem", uri)).get(uri, [])),
        }


def annotation(uri, turns):
    """Turns as pyannote's `Annotation`."""
    with extras():
        from pyannote.core import Annotation, Segment

    made = Annotation(uri=uri)
    for number, turn in enumerate(turns):
        made[Segment(turn.start, turn.end), number] = turn.speaker
    return made


def annotated(uri, regions):
    """Regions (start, end) as pyannote's `Timeline`."""
    with extras():
        from pyannote.core import Segment, Timeline

    return Timeline([Segment(start, end) for start, end in regions], uri=uri)


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

    folder = Path(importlib.util.find_spec("pyannote.audio").origin).parent / "sample"
    wave = waveform(folder / "sample.wav")
    return {
        "uri": "sample",
        "waveform": wave,
        "sample_rate": SR,
        "annotation": annotation("sample", read_rttm(folder / "sample.rttm")["sample"]),
        "annotated": annotated("sample", [(0, wave.shape[1] / SR)]),
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
            _label_file(root, part, "rttm", uri),
            _label_file(root, part, "uem", uri),
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
