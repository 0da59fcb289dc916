"""Files of a person's own with anything in them: only this project's own errors come out, and each names the file.

A few hundred tries of one seed take seconds; `FUZZ_EXAMPLES=20000 python -m pytest tests/test_fuzz.py` looks further,
with another seed each time.
"""

import contextlib
import io
import json
import os
import struct
import warnings

import numpy as np
import pytest
import soundfile
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


@st.composite
def damaged(draw, whole):
    """One of the files `whole` (bytes), with bytes of it changed, taken out, put in or doubled, or its end cut off."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(data), 100) if draw(st.booleans()) else len(data)))  # headers come first
        put, out = draw(st.binary(max_size=6)), draw(st.sampled_from([0, 0, 1, 2, 4, 8, 60]))
        data[at : at + (len(put) if draw(st.booleans()) else out)] = put
        if draw(st.integers(0, 9)) == 0:
            data = data[:at] + data[: draw(st.integers(0, len(data)))]
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data)


MANIFESTS = [
    'index,speaker,interferers,sir_db,room\n1,kim,"[""lee"", ""김""]",0.5,"{""rt60"": 0.3}"\n2,é,"[]",,null\n'.encode(),
    "Index;Speaker ID;role\r\nmix_000001.wav;kim;target\r\n1;lee;interferer\r\n".encode("utf-16"),
    b"id,speakers,SIR,SNR\n1,a;b,0,5\n2,['c'],1e1,\n",
]
BYTES = st.one_of(st.binary(max_size=200), csv_bytes(), damaged(MANIFESTS))


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
def test_manifest(tmp_path, data):
    path = tmp_path / "Test_Dataset" / "manifest.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    refused(path, lambda: read_manifest(path.parents[1], "Test"), DatasetError, FileNotFoundError)


@FEW
@given(
    data=st.one_of(
        csv_bytes(headers=st.sampled_from(["id", "one", "two", "three", ""])),
        damaged([b"id,one,two,three\n1,0.5,0.5,0\n2,0,0,1\n", "id;예;아니\r\na;0,25;0,75\r\n".encode("cp949")]),
    )
)
def test_answers(tmp_path, data):
    path = tmp_path / "train_answer.csv"
    path.write_bytes(data)
    refused(path, lambda: read_answers(path), WordsError)


FIELDS = st.one_of(
    st.sampled_from(["SPEAKER", "c1", "1", "<NA>", ";;", "SPKR-INFO", "0.5", "-1", "1e400", "nan", "\t", "2,5"]),
    st.text(max_size=5),
    st.floats().map(str),
)


@st.composite
def lines_of_fields(draw):
    lines = draw(st.lists(st.lists(FIELDS, min_size=1, max_size=11).map(" ".join), max_size=5))
    return "\n".join(lines).encode(draw(ENCODINGS), errors="replace")


def read_annotation(tmp_path, read, data):
    path = tmp_path / "c1.rttm"
    path.write_bytes(data)
    refused(path, lambda: read(path), rttm.AnnotationError)


TURNS = "SPEAKER c1 1 0.5 2.0 <NA> <NA> 김 <NA> <NA>\n;; a word\nSPEAKER c1 1 1e1 2.5 <NA> <NA> NA <NA>\n"


@FEW
@given(data=st.one_of(lines_of_fields(), damaged([TURNS.encode(), TURNS.encode("utf-16"), TURNS.encode("cp949")])))
def test_rttm(tmp_path, data):
    read_annotation(tmp_path, rttm.read_rttm, data)


@FEW
@given(data=st.one_of(lines_of_fields(), damaged([b"c1 1 0.000 60.5\nc1 1 70 8e1\r\n;; a word\n"])))
def test_uem(tmp_path, data):
    read_annotation(tmp_path, rttm.read_uem, data)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["speaker", "start", "end", "duration", "document", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


LABELS = [
    b'{"document": [{"utterance": [{"speaker_id": "a", "start": 0.5, "end": "1:02.5"}, {"speakerId": 7, "startTime": 1,'
    b' "duration": 2}]}]}',
    b"speaker,start,end\na,0,1.5\nb,0:01,0:02\n",
    b"0.5\t1.5\ta\n\\\t100\t200\n2,5\t3\tb\n",
    b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 3\ntiers? <exists>\nsize = 1\nitem []:\n'
    b'    item [1]:\n        class = "IntervalTier"\n        name = "a"\n        xmin = 0\n        xmax = 3\n'
    b"        intervals: size = 1\n        intervals [1]:\n            xmin = 0.5\n            xmax = 3\n"
    b'            text = "yes"\n',
]


@FEW
@given(
    suffix=st.sampled_from([".json", ".csv", ".tsv", ".txt", ".TextGrid"]),
    data=st.one_of(BYTES, JSON.map(json.dumps), damaged(LABELS)),
)
def test_labels(tmp_path, suffix, data):
    folder, path = tmp_path, tmp_path / f"c1{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    refused(path, lambda: rttm.convert(path, folder / "o.rttm", folder / "o.uem"), rttm.AnnotationError)


CONFIGS = [b'{"adim": 16, "aheads": 2, "layers": 1, "sample_rate": 16000}', b'\xef\xbb\xbf{"enh_args": {"fs": 16000}}']


@FEW
@given(data=st.one_of(st.binary(max_size=60), JSON.map(json.dumps).map(str.encode), damaged(CONFIGS)))
def test_config(tmp_path, data):
    folder = tmp_path
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


FORMATS = {
    ".wav": ("WAV", "PCM_16"), ".aiff": ("AIFF", "PCM_16"), ".au": ("AU", "PCM_16"), ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


def recording(suffix):
    """The bytes of a recording of 0.05 s."""
    form, kind = FORMATS[suffix]
    wave, file = 0.3 * np.sin(np.arange(800) / 5).astype(np.float32), io.BytesIO()
    soundfile.write(file, np.stack([wave, wave], 1), 16000, format=form, subtype=kind)
    return file.getvalue()


@st.composite
def files_of_sound(draw):
    """(suffix, bytes): a damaged recording, or a header with anything behind it."""
    suffix = draw(st.sampled_from(sorted(FORMATS)))
    if draw(st.booleans()):
        return suffix, draw(damaged([recording(suffix)]))
    head = draw(st.sampled_from([b"RIFF", b"FORM", b"OggS", b"ID3\x04\0\0", b"\xff\xfb\x90\0", b"fLaC", b""]))
    size, data = struct.pack("<I", draw(st.integers(0, 2**32 - 1))), draw(st.binary(max_size=120))
    body = b"WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data" + size
    return suffix, head + size + (body if head == b"RIFF" and draw(st.booleans()) else b"") + data


@FEW
@given(file=files_of_sound())
def test_headers_of_waves(tmp_path, file):
    path = tmp_path / f"a{file[0]}"
    path.write_bytes(file[1])
    refused(path, lambda: audio.read(path), audio.AudioError)
    refused(path, lambda: audio.facts(path), audio.AudioError)


def test_the_harness_can_fail(tmp_path):
    path = tmp_path / "m.csv"
    with pytest.raises(ZeroDivisionError):
        refused(path, lambda: 1 // 0, tables.TableError)
