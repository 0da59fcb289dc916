"""One reader of the tables that people write: manifests, answers, labels. What Excel, pandas, Notepad and a Mac make of
a CSV is understood; what is not is said, with file and line, and never skipped.

Everything is text: a person called NA stays a person. Names are composed (NFC), so that a Mac's spelling is the same.
"""

import ast
import codecs
import csv
import io
import json
import re
import unicodedata
import warnings
from pathlib import Path

import pandas as pd

COLUMNS = {  # what a manifest calls what; compared without capitals, blanks, hyphens and a plural
    "index": ("index", "id", "idx", "number", "no", "mixture", "mixture_id", "mix", "file", "filename", "utterance"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "target_speaker", "person", "who"),
    "interferers": ("interferers", "interferer", "interfering", "interfering_speaker", "other", "other_speaker"),
    "sir_db": ("sir_db", "sir"),
    "snr_db": ("snr_db", "snr"),
}
NUMBERED = re.compile(r"(?:speaker|spk)_?(\d+)(?:_id)?")  # a column a person: speaker_1, speaker_2
SEPARATORS = ",;\t|"


class TableError(ValueError):
    """A table cannot be read; the message names file and line and says what to do."""


# --- text and tables


def read_text(path, error=TableError):
    """The text of a file in UTF-8 or UTF-16 (with or without a byte order mark), Korean (cp949) or Western (cp1252)."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}). Check the path and its spelling.") from problem
    if data[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise error(f"{path}: a workbook of Excel, not a text. Save it as CSV UTF-8.")
    text = decode(data)
    if text is None or "\0" in text:
        raise error(f"{path}: not a text in UTF-8, UTF-16, cp949 or cp1252. Save it as UTF-8.")
    return text


def decode(data):
    """`data` (bytes) as text; None where it is no text."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _tried(data, "utf-16")
    if b"\0" in data:
        return _tried(data, "utf-16-le" if data[1:200:2].count(0) > data[0:200:2].count(0) else "utf-16-be")
    for encoding in ("utf-8-sig", "euc_kr"):
        if (text := _tried(data, encoding)) is not None:
            return text
    # beyond KS X 1001: Korean again where high bytes come in pairs, else the single accents of a Western file
    if re.search(rb"[\x81-\xfe]{2}", data) and (text := _tried(data, "cp949")) is not None:
        return text
    return _tried(data, "cp1252") or _tried(data, "latin-1")


def _tried(data, encoding):
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def read_table(path, error=TableError, plain_header=True):
    """A DataFrame of text, blank cells as "", whose row index is the line in the file.

    Separators are `,` `;` tab or `|`. plain_header: column names without capitals, blanks and hyphens (`Speaker ID` is
    `speaker_id`); else as written, without blanks around. Raises `error`, naming file and line, for a file without a
    header, a column named twice, and a row with more cells than columns.
    """
    text = read_text(path, error)
    separator = _separator(text)
    if declared := re.match(r"\s*\"?sep=(.)\"?\s*\n", text):  # Excel's own line
        text = "\n" * declared[0].count("\n") + text[declared.end() :]
    csv.field_size_limit(1 << 26)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows, lines, header = [], [], None
    try:
        for cells in reader:
            cells = [unicodedata.normalize("NFC", cell).strip().strip("\u200b\ufeff").strip() for cell in cells]
            if not any(cells) or (header is None and cells[0].startswith("#")):
                continue
            if header is None:
                header = [plain(cell) if plain_header else cell for cell in cells]
                continue
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as problem:
        raise error(f"{path}, line {reader.line_num}: no table ({problem}). Save it again as CSV.") from problem
    if header is None:
        raise error(f"{path}: empty. Expected a line of column names and then a row a line.")
    while header and not header[-1]:
        header.pop()
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise error(f"{path}: two columns are called {twice[0]!r}. Rename or remove one.")
    for cells, line in zip(rows, lines):
        if any(cells[len(header) :]):
            raise error(
                f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)}. Put a cell that holds a"
                f" {separator!r} into quotes."
            )
    table = [(cells + [""] * len(header))[: len(header)] for cells in rows]
    table = pd.DataFrame(table, columns=header, index=lines, dtype=object)
    return table.drop(columns=[""]) if "" in header else table


def _separator(text):
    if declared := re.match(r"\s*\"?sep=(.)\"?\s*\n", text):
        return declared[1]
    told = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    header = re.sub(r'"[^"]*"', "", next(told, ""))
    return max(SEPARATORS, key=header.count)


def plain(name):
    """A column's name without capitals, blanks and hyphens."""
    name = unicodedata.normalize("NFC", str(name)).strip().lower()
    return re.sub(r"_*[(\[](db|s|sec|hz)[)\]]$", r"_\1", re.sub(r"[\s\-]+", "_", name))


# --- cells


def number(text, where, error=TableError):
    """A finite number, also with a decimal comma. Raises `error`."""
    try:
        value = float(str(text).strip().replace(",", "."))
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise error(f"{where}: expected a number, found {str(text)[:40]!r}. Correct the cell.")
    return value


def index_of(text, where, error=TableError):
    """The index in `7`, `7.0`, `000007` or the name of a file that ends in it, such as `mix_000007.wav`."""
    name = re.split(r"[\\/]", text)[-1]
    found = re.search(r"(\d+)(?:\.[A-Za-z]\w*)?$", name)
    try:
        value = float(name)  # also 7.0, and Excel's 7.00E+00
    except ValueError:
        value = int(found[1]) if found and len(found[1]) <= 18 else -1
    if not 0 <= value < 10**18 or value != int(value):
        raise error(
            f"{where}: expected the index of a mixture, such as 1 or mix_000001, found {text[:40]!r}. Correct or remove"
            " the row."
        )
    return int(value)


def names_of(text):
    """Names in a cell: a JSON or Python list, names parted by `;` `|` or `,`, or a single one."""
    text = text.strip()
    if text[:1] in ("[", "("):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
        else:
            found = text.strip("[]()").split(",")
        found = found if isinstance(found, (list, tuple)) else [found]
        found = [one.strip().strip("'\"") if isinstance(one, str) else str(one) for one in found if one is not None]
    else:
        found = re.split(r"[;|,]", text)
    return [unicodedata.normalize("NFC", one.strip()) for one in found if one.strip()]


# --- manifests


def read_manifest_table(path, error=TableError):
    """A user's manifest, a row a mixture: `index` (int), where it tells `speaker` (text, "" unknown), `interferers`
    (list of names), and its other columns as text.

    `speakers` may name several: the first is the target. A row a person with a column `role` is joined. Raises `error`
    for an index twice or none; warns where the columns name no index or no speaker.
    """
    given = read_table(path, error)
    if given.empty:
        warnings.warn(f"{path}: holds no row below its column names, so it tells nothing.", stacklevel=4)
    table = _renamed(given)
    if "index" not in table:
        _not_understood(path, table, "index")
        return None
    table["index"] = [index_of(cell, f"{path}, line {line}", error) for line, cell in table["index"].items()]
    table = _people(table, many="speakers" in given)
    if "speaker" not in table:
        _not_understood(path, table, "speaker")
    if (twice := table[table["index"].duplicated(keep=False)]).empty:
        return table
    if {"role", "speaker"} <= set(table):
        return _joined(path, table, error)
    lines = ", ".join(map(str, twice.index[twice["index"] == twice["index"].iloc[0]][:5]))
    raise error(
        f"{path}: names index {twice['index'].iloc[0]} more than once (lines {lines}). Write one row a mixture, the"
        " others who speak in the column interferers."
    )


def _renamed(table):
    names = {}
    for wanted, known in COLUMNS.items():
        if wanted in table:
            continue
        found = next((name for name in known if name in table), None)
        found = found or next((name for name in table if name.removesuffix("s") in known), None)
        if found and found not in names:
            names[found] = wanted
    return table.rename(columns=names)


def _people(table, many=False):
    """Who speaks: a column a person, several in `speaker`, and `interferers`, as one name and a list of names."""
    alone = "interferers" not in table
    numbered = sorted((int(found[1]), name) for name in table if (found := NUMBERED.fullmatch(name)))
    if numbered and "speaker" not in table:
        cells = table[[name for _, name in numbered]].to_numpy()
        table["speaker"] = [json.dumps([one for one in row if one]) for row in cells]
    if "speaker" in table:
        several = [
            names_of(cell) if many or cell[:1] == "[" or (alone and re.search("[;|]", cell)) else [cell] * bool(cell)
            for cell in table["speaker"]
        ]
        table["speaker"] = [names[0] if names else "" for names in several]
        others = table["interferers"] if "interferers" in table else [""] * len(table)
        others = [[*names[1:], *names_of(cell)] for names, cell in zip(several, others)]
        if "interferers" in table or any(others):
            table["interferers"] = pd.Series(others, index=table.index, dtype=object)
    elif "interferers" in table:
        table["interferers"] = pd.Series(list(map(names_of, table["interferers"])), index=table.index, dtype=object)
    return table


def _joined(path, table, error):
    """A row a person, with a role: the target's row, with the others of its index as interferers."""
    rows = []
    for index, own in table.groupby("index", sort=False):
        target = own["role"].str.lower().str.startswith(("target", "enrol", "wanted", "main"))
        if target.sum() != 1:
            raise error(
                f"{path}: {target.sum()} rows of index {index} have the role target (lines"
                f" {', '.join(map(str, own.index[:5]))}). Give each mixture one target."
            )
        row = own[target].iloc[0].copy()
        told = list(row["interferers"]) if "interferers" in row else []
        row["interferers"] = [*told, *own["speaker"][~target]]
        rows.append(row)
    return pd.DataFrame(rows)


def _not_understood(path, table, lacking):
    warnings.warn(
        f"{path}: no column names the {lacking}, so it cannot tell who speaks where (found:"
        f" {', '.join(map(str, table.columns[:8])) or 'nothing'}). Call the columns index, speaker, interferers.",
        stacklevel=5,
    )


def typed(table, text=()):
    """The columns of `table`, but those in `text`, as numbers where all that is not blank is one; blank is NaN."""
    for name in table:
        cells = table[name]
        if name in text or not all(isinstance(cell, str) for cell in cells):
            continue
        try:
            values = [float(cell.replace(",", ".")) if cell else float("nan") for cell in cells]
        except ValueError:
            table[name] = cells.where(cells != "", float("nan"))
            continue
        whole = all(re.fullmatch(r"-?\d{1,18}", cell) for cell in cells)
        table[name] = list(map(int, cells)) if whole and len(cells) else values
    return table
