"""Files of a person's own with anything in them: only this project's own errors come out, and each names the file.

A few hundred tries of one seed take seconds; `FUZZ_EXAMPLES=100000 python -m pytest tests/test_fuzz.py` looks further.
"""

import contextlib
import json
import os
import struct
import warnings

import pytest
import torch

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings, strategies as st  # noqa: E402

from lib import audio  # noqa: E402
from lib.data import tables  # noqa: E402
from lib.data.folders import DatasetError  # noqa: E402
from lib.data.manifest import read_manifest  # noqa: E402
from lib.diarization import rttm  # noqa: E402
from lib.models.checkpoint import CheckpointError, read_checkpoint  # noqa: E402
from lib.models.convoifilter import ConVoiFilterConfig  # noqa: E402
from lib.words.clips import WordsError, read_answers  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def subnormal_numbers():
    """Training switches them off for its whole process, and hypothesis draws them."""
    torch.set_flush_denormal(False)


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 60))
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "1",
            "2",
            "mix_000001.wav",
            "1.0",
            "-1",
            "NA",
            "nan",
            "1e999",
            '"',
            "[",
            "['a'",
            '["a", "b"]',
            "김",
            "é",
            "0,5",
        ]
    ),
    st.floats().map(str),
    st.integers().map(str),
)
HEADERS = st.sampled_from(
    [
        "index",
        "speaker",
        "interferers",
        "speakers",
        "role",
        "sir_db",
        "",
        "Index ",
        "room",
        "start",
        "end",
        "id",
        "speaks",
    ]
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp949", "cp1252"])


@st.composite
def csv_bytes(draw, headers=HEADERS, cells=CELLS):
    separator = draw(st.sampled_from([",", ";", "\t", "|", ", "]))
    names = draw(st.lists(headers, max_size=5))
    rows = draw(st.lists(st.lists(cells, max_size=6), max_size=5))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = end.join([separator.join(names), *(separator.join(row) for row in rows)])
    return text.encode(draw(ENCODINGS), errors="replace")


BYTES = st.one_of(st.binary(max_size=200), csv_bytes())


def refused(path, read, *errors):
    """Call `read`; one of `errors` may come, and then names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except errors as error:
            assert path.name in str(error), error


@FEW
@given(data=BYTES)
def test_manifest(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "Test_Dataset" / "manifest.csv"
    path.parent.mkdir()
    path.write_bytes(data)
    refused(path, lambda: read_manifest(path.parents[1], "Test"), DatasetError, FileNotFoundError)


@FEW
@given(data=csv_bytes(headers=st.sampled_from(["id", "one", "two", "three", ""])))
def test_answers(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("a") / "train_answer.csv"
    path.write_bytes(data)
    refused(path, lambda: read_answers(path), WordsError)


FIELDS = st.one_of(
    st.sampled_from(["SPEAKER", "c1", "1", "<NA>", ";;", "SPKR-INFO", "0.5", "-1", "1e400", "nan", "\t", "2,5"]),
    st.text(max_size=5),
    st.floats().map(str),
)


@FEW
@given(lines=st.lists(st.lists(FIELDS, min_size=1, max_size=11).map(" ".join), max_size=5), encoding=ENCODINGS)
def test_rttm_and_uem(tmp_path_factory, lines, encoding):
    path = tmp_path_factory.mktemp("r") / "c1.rttm"
    path.write_bytes("\n".join(lines).encode(encoding, errors="replace"))
    for read in (rttm.read_rttm, rttm.read_uem):
        refused(path, lambda read=read: read(path), rttm.AnnotationError)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["speaker", "start", "end", "duration", "document", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@FEW
@given(
    suffix=st.sampled_from([".json", ".csv", ".tsv", ".txt", ".TextGrid"]), data=st.one_of(BYTES, JSON.map(json.dumps))
)
def test_labels(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("l")
    path = folder / f"c1{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    refused(path, lambda: rttm.convert(path, folder / "o.rttm", folder / "o.uem"), rttm.AnnotationError)


@FEW
@given(data=st.one_of(st.binary(max_size=60), JSON.map(json.dumps).map(str.encode)))
def test_config(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("c")
    (folder / "config.json").write_bytes(data)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    try:
        read_checkpoint(folder)
    except CheckpointError as error:
        assert str(folder) in str(error)


NUMBERS = st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=3), st.none(), st.lists(st.integers()))
SETTINGS = st.sampled_from(
    ["adim", "aheads", "layers", "n_fft", "hop_length", "dropout", "sample_rate", "fill", "kernel_size"]
)


@FEW
@given(config=st.dictionaries(SETTINGS, NUMBERS, max_size=3))
def test_settings_of_a_model(config):
    with contextlib.suppress(ValueError):  # what is no number, or no size, is said by name
        ConVoiFilterConfig(**config)


@FEW
@given(
    head=st.sampled_from([b"RIFF", b"FORM", b"OggS", b"ID3\x04\0\0", b"\xff\xfb\x90\0", b"fLaC", b""]),
    size=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=120),
    name=st.sampled_from(["a.wav", "a.mp3", "a.ogg", "a.aiff"]),
)
def test_headers_of_waves(tmp_path_factory, head, size, data, name):
    path = tmp_path_factory.mktemp("w") / name
    body = b"WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data" + struct.pack("<I", size)
    path.write_bytes(head + struct.pack("<I", size) + (body if head == b"RIFF" and len(data) % 2 else b"") + data)
    refused(path, lambda: audio.read(path), audio.AudioError)


def test_the_harness_can_fail(tmp_path):
    path = tmp_path / "m.csv"
    with pytest.raises(ZeroDivisionError):
        refused(path, lambda: 1 // 0, tables.TableError)
