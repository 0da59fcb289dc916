"""Who spoke when, on disk: RTTM and UEM read and written, and the annotation formats of others turned into turns.

A turn is `Turn(speaker, start, end)`, times in seconds from the beginning of the recording. Read are utterance lists in
JSON (the conversation corpora of the National Institute of Korean Language and AI-Hub use such), Praat TextGrid
(AliMeeting), Audacity labels and CSV (`lib.diarization.protocols.nemo_manifest` writes what NeMo's diarizers train on).
Formats: NIST's RT-09 evaluation plan for RTTM and UEM.
"""

import json
import math
import unicodedata
from pathlib import Path
from typing import NamedTuple

from lib import extras
from lib.data import tables
from lib.runs import write_text

SPEAKER = ("speaker_id", "speakerid", "speaker", "speaker_no", "speakerno", "spk", "spk_id", "label", "name", "person")
START = ("start", "start_time", "starttime", "begin", "onset", "from")
END = ("end", "end_time", "endtime", "stop", "offset", "to")
SECONDS = ("duration", "seconds", "length", "dur")
UNITS = {"s": 1.0, "ms": 0.001}
LONGEST = 1e8  # of a number in a file: three years of seconds, or a day of milliseconds; beyond it stands a date
OTHER_TYPES = {
    "SPKR-INFO",
    "SEGMENT",
    "NOSCORE",
    "NO_RT_METADATA",
    "LEXEME",
    "NON-LEX",
    "NON-SPEECH",
    "FILLER",
    "EDIT",
    "SU",
    "IP",
    "CB",
    "A/P",
}


class AnnotationError(ValueError):
    """An annotation cannot be read or does not fit; the message names the file, the line where there is one, and what
    to do.
    """


class Turn(NamedTuple):
    speaker: str
    start: float
    end: float


# --- RTTM and UEM


def read_rttm(path):
    """uri -> its turns in order of time. Lines of other types than SPEAKER and comments (`;;`) are passed over.

    Raises `AnnotationError` with file and line number for a line that is no RTTM.
    """
    turns = {}
    for where, line in _lines(path):
        fields = line.split()
        if not fields or fields[0].startswith((";", "#")) or fields[0] in OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER" or not 8 <= len(fields) <= 10:
            raise AnnotationError(
                f"{where}: expected `SPEAKER <uri> <channel> <start> <duration> <NA> <NA> <speaker> <NA> <NA>`; found"
                f" {line[:80]!r}."
            )
        start, seconds = _number(where, "the start", fields[3]), _number(where, "the duration", fields[4])
        if start < 0 or seconds <= 0:
            raise AnnotationError(
                f"{where}: a turn begins at 0 or later and lasts longer than 0 s; found start {start:g}, duration"
                f" {seconds:g}."
            )
        turns.setdefault(fields[1], []).append(Turn(fields[7], start, max(round(start + seconds, 6), start)))
    return {uri: sorted(found, key=lambda turn: (turn.start, turn.end)) for uri, found in turns.items()}


def write_rttm(path, uri, turns):
    """Write the turns of one recording, times to the millisecond, whole or not at all."""
    lines = [
        f"SPEAKER {_word(uri)} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {_word(turn.speaker)} <NA>"
        " <NA>\n"
        for turn in sorted(turns, key=lambda turn: (turn.start, turn.end))
    ]
    write_text(path, "".join(lines))


def read_uem(path):
    """uri -> list of (start, end) in seconds: what of a recording is annotated, and scored. Errors as in
    `read_rttm`.
    """
    regions = {}
    for where, line in _lines(path):
        fields = line.split()
        if not fields or fields[0].startswith((";", "#")):
            continue
        if len(fields) != 4:
            raise AnnotationError(f"{where}: expected `<uri> <channel> <start> <end>`; found {line[:80]!r}.")
        start, end = (_number(where, "a time", field) for field in fields[2:])
        if not 0 <= start < end:
            raise AnnotationError(
                f"{where}: a region begins at 0 or later and ends after its start; found {start:g} to {end:g}."
            )
        regions.setdefault(fields[0], []).append((start, end))
    return regions


def write_uem(path, uri, regions):
    """Write the annotated regions `(start, end)` of one recording."""
    write_text(path, "".join(f"{_word(uri)} 1 {start:.3f} {end:.3f}\n" for start, end in regions))


def union(turns):
    """The turns with those of one speaker joined where they overlap or touch, in order of time."""
    joined = []
    for speaker in dict.fromkeys(turn.speaker for turn in turns):
        own = []
        for turn in sorted((turn for turn in turns if turn.speaker == speaker), key=lambda turn: turn.start):
            if own and turn.start <= own[-1].end:
                own[-1] = own[-1]._replace(end=max(own[-1].end, turn.end))
            else:
                own.append(turn)
        joined += own
    return sorted(joined, key=lambda turn: (turn.start, turn.end))


# --- what others write


def from_json(path, unit="s"):
    """Turns of an utterance list: any objects with speaker, start and end (or duration), at whatever depth of the file.

    Names in common use are known (`speaker_id`, `speakerId`, `start`, `startTime`, ...); times are numbers or texts, as
    seconds, as
    milliseconds with unit="ms", or as "h:m:s". A file of several documents holds several recordings, and is an error.
    """
    try:
        data = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{path}: cannot be read as JSON ({error}). Export it again.") from error
    if isinstance(data, dict) and isinstance(data.get("document"), list) and len(data["document"]) > 1:
        raise AnnotationError(
            f"{path}: holds {len(data['document'])} documents, that is recordings; write each into a file of its own."
        )
    found = [
        (f"{path}: {place}", item)
        for place, item in _objects(data)
        if _pick(item, START) is not None and _pick(item, SPEAKER) is not None
    ]
    return _turns(path, found, unit)


def from_csv(path, unit="s"):
    """Turns of a table with a header that names speaker, start and end (or duration); comma, semicolon or tab between
    columns.
    """
    table = tables.read_table(path, AnnotationError)
    for kind, known in (("speaker", SPEAKER), ("start", START), ("end or duration", END + SECONDS)):
        if not any(name in known for name in table):
            raise AnnotationError(
                f"{path}: the header names no {kind}; found {', '.join(table) or 'nothing'}. Expected such as speaker,"
                " start, end."
            )
    return _turns(path, [(f"{path}, line {line}", row.to_dict()) for line, row in table.iterrows()], unit)


def from_audacity(path):
    """Turns of Audacity's exported labels: `start<tab>end<tab>speaker`; lines of frequency ranges (`\\`) are passed
    over.
    """
    found = []
    for where, line in _lines(path):
        if not line.strip() or line.startswith("\\"):
            continue
        fields = line.split("\t")
        if len(fields) < 3 or not fields[2].strip():
            raise AnnotationError(
                f"{where}: expected `start<tab>end<tab>speaker`; found {line[:80]!r}. A label's text is the speaker's"
                " name."
            )
        found.append((where, {"start": fields[0], "end": fields[1], "speaker": fields[2]}))
    return _turns(path, found, "s")


def from_textgrid(path, silence=("", "sil", "<sil>", "silence", "#")):
    """Turns of a Praat TextGrid with an interval tier a speaker, named after the speaker; intervals without text are
    silence.
    """
    with extras():
        from praatio import textgrid
        from praatio.utilities.errors import PraatioException

    if not Path(path).is_file():
        raise AnnotationError(f"{path}: no such file.")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, duplicateNamesMode="rename")
    except (PraatioException, ValueError, LookupError, OSError, AttributeError, TypeError, RecursionError) as error:
        raise AnnotationError(f"{path}: cannot be read as a TextGrid ({error}). Save it again from Praat.") from error
    tiers = [grid.getTier(name) for name in grid.tierNames]
    return union(
        [
            Turn(_word(tier.name), float(entry.start), float(entry.end))
            for tier in tiers
            if isinstance(tier, textgrid.IntervalTier)
            for entry in tier.entries
            if entry.label.strip().lower() not in silence
        ]
    )


READERS = {".json": from_json, ".csv": from_csv, ".tsv": from_csv, ".txt": from_audacity, ".textgrid": from_textgrid}


def convert(source, rttm, uem, seconds=None, uri=None, **options):
    """Read `source` by its suffix (.json, .csv, .tsv, .txt of Audacity, .TextGrid) and write `rttm` and `uem`. Returns
    the turns.

    uri: the recording's name, default the file name of `rttm`. seconds: length of the recording, for the UEM (default:
    the last turn's
    end). Raises `AnnotationError` for an unknown suffix, no turn at all, or a turn beyond the end.
    """
    reader = READERS.get(Path(source).suffix.lower())
    if reader is None:
        raise AnnotationError(
            f"{source}: no reader for {Path(source).suffix or 'a file without a suffix'}; known are"
            f" {', '.join(READERS)}."
        )
    turns, uri = reader(source, **options), uri or Path(rttm).stem
    if not turns:
        raise AnnotationError(
            f"{source}: no turn found. Are speaker, start and end there under other names, or is all of it silence?"
        )
    end = seconds or max(turn.end for turn in turns)
    if late := [turn for turn in turns if turn.end > end + 0.01]:
        raise AnnotationError(
            f"{source}: {late[0].speaker} speaks until {late[0].end:g} s, and the recording ends at {end:g} s. Other"
            " units (ms)?"
        )
    write_rttm(rttm, uri, turns)
    write_uem(uem, uri, [(0.0, end)])
    return turns


# --- helpers


def _turns(path, found, unit):
    if unit not in UNITS:
        raise AnnotationError(f"unknown unit {unit!r} of times; known are {', '.join(UNITS)}.")
    turns = []
    for where, item in found:
        speaker, start, end, seconds = (_pick(item, names) for names in (SPEAKER, START, END, SECONDS))
        speaker = speaker.get("id", speaker.get("name")) if isinstance(speaker, dict) else speaker
        if speaker in (None, ""):
            raise AnnotationError(f"{where}: no speaker.")
        start = _time(where, "the start", start, unit)
        end = (
            _time(where, "the end", end, unit)
            if end not in (None, "")
            else start + _time(where, "the duration", seconds, unit)
        )
        if start < 0 or end < start:
            raise AnnotationError(f"{where}: a turn ends after its start; found {start:g} to {end:g} s.")
        if end > start:  # annotators leave utterances without a length behind; they hold no speech
            turns.append(Turn(_word(str(speaker)), start, end))
    return union(turns)


def _objects(data, place=""):
    """(place, object) for every object inside `data`, outermost first."""
    if isinstance(data, dict):
        yield place or "the file", data
        for name, value in data.items():
            yield from _objects(value, f"{place}.{name}".lstrip("."))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _objects(value, f"{place}[{number}]")


def _pick(item, names):
    """The value under the first of `names` that `item` has, whatever its capitals, blanks and hyphens."""
    plain = {_plain(name): value for name, value in item.items() if name is not None}
    return next((plain[name] for name in names if plain.get(name) not in (None, "")), None)


def _plain(name):
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def _time(where, what, value, unit):
    parts = str(value).strip().split(":")
    if len(parts) == 1:
        return _number(where, what, parts[0]) * UNITS[unit]
    return sum(_number(where, what, part) * 60**place for place, part in enumerate(reversed(parts)))


def _number(where, what, text):
    try:
        value = float(text.replace(",", ".") if isinstance(text, str) else text)  # a decimal comma
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise AnnotationError(f"{where}: {what} should be a number of seconds; found {text!r}.")
    if abs(value) > LONGEST:
        raise AnnotationError(
            f"{where}: {what} lies years away; found {text!r}. Times count in seconds from the recording's beginning."
        )
    return value


def _word(text):
    """RTTM parts its columns at blanks, so a name has none."""
    return "_".join(str(text).split()) or "_"


def _text(path):
    """In any encoding that people have, names composed (NFC)."""
    return unicodedata.normalize("NFC", tables.read_text(path, AnnotationError))


def _lines(path):
    for number, line in enumerate(_text(path).splitlines(), start=1):
        yield f"{path}, line {number}", line
