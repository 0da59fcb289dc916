"""Conversations in folders, handed to pyannote as this project's own readers read them."""

import unicodedata

import numpy as np
import pytest

from lib import audio
from lib.diarization import protocols
from lib.diarization.rttm import AnnotationError, Turn, from_audacity, from_csv, read_rttm, read_uem

WAVE = 0.1 * np.sin(np.arange(6 * 16000) * 0.1)


def meeting(root, names=("anna", "bert"), uri="c1", rttm="", uem="", listed="", encoding="utf-8", spelled=None):
    for part, one in (("train", "a1"), ("dev", "b1"), ("test", uri)):
        own = names if part == "test" else (f"{one}A", f"{one}B")
        audio.write(root / part / "wav" / f"{spelled or one if part == 'test' else one}.wav", WAVE)
        texts = {
            "rttm": rttm + "".join(f"SPEAKER {one} 1 {3 * k} 2.5 <NA> <NA> {n} <NA> <NA>\n" for k, n in enumerate(own)),
            "uem": uem + f"{one} 1 0 6\n",
        }
        for kind, text in texts.items():
            path = root / part / kind / f"{one}.{kind}"
            path.parent.mkdir()
            path.write_bytes(text.encode(encoding))
        (root / f"{part}.txt").write_text(listed + one + "\n", encoding="utf-8")
    return root


def heard(root):
    protocols.check(root)
    file = protocols.files(root, "test")[0]
    assert file["annotated"].extent().end == 6 and file["waveform"].shape == (1, 96000)
    return file["annotation"].labels()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rttm": ";; made with ELAN 6.4\n"},
        {"rttm": "# a comment\n\n"},
        {"rttm": "SPKR-INFO c1 1 <NA> <NA> <NA> unknown anna <NA> <NA>\n"},
        {"uem": ";; regions scored by hand\n"},
        {"listed": "\ufeff"},
        {"encoding": "utf-8-sig"},
        {"encoding": "utf-16"},
    ],
)
def test_comments_marks_and_encodings(tmp_path, given):
    assert heard(meeting(tmp_path, **given)) == ["anna", "bert"]


@pytest.mark.parametrize("names", [("A", "NA"), ("NA", "None"), ("null", "nan"), ("1", "01"), ("TRUE", "N/A")])
def test_names_stay_text(tmp_path, names):
    assert heard(meeting(tmp_path, names)) == sorted(names)


@pytest.mark.parametrize("uri", ["NA", "null", "007"])
def test_a_recording_may_be_called_anything(tmp_path, uri):
    assert heard(meeting(tmp_path, uri=uri)) == ["anna", "bert"]


def test_hangul_composed_in_the_list_and_decomposed_on_disk(tmp_path):
    root = meeting(tmp_path, uri="회의", spelled=unicodedata.normalize("NFD", "회의"))
    assert heard(root) == ["anna", "bert"]
    assert heard(meeting(tmp_path / "b", ("김", "이"), encoding="cp949")) == ["김", "이"]


def test_the_scope_of_names_is_kept(tmp_path):
    root = meeting(tmp_path)
    protocols.write_database(root, global_speakers=False)
    assert {file["scope"] for file in protocols.protocol(root).test()} == {"file"}


def test_a_recording_that_broke_off_is_one_problem_among_others(tmp_path):
    root = meeting(tmp_path)
    path = root / "test" / "wav" / "c1.wav"
    path.write_bytes(path.read_bytes()[:9000])
    assert any("its header announces 6.00 s, but it holds 0.28 s" in one for one in protocols.problems(root))


@pytest.mark.parametrize(
    "text",
    [
        "speaker,start,end\nkim,0,1.5\n",
        "Speaker;Start;End\nkim;0;1,5\n",
        "start_time\tSPK ID\tduration\n0\tkim\t1.5\n",
        "\ufeffName , Onset , Offset\n kim , 0 , 1.5\n",
    ],
)
def test_tables_of_turns_in_every_form(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert from_csv(tmp_path / "a.csv") == [Turn("kim", 0.0, 1.5)]


def test_labels_of_audacity_with_a_decimal_comma_and_in_utf_16(tmp_path):
    (tmp_path / "a.txt").write_text("0,0\t1,5\t김\n", encoding="utf-16")
    assert from_audacity(tmp_path / "a.txt") == [Turn("김", 0.0, 1.5)]


@pytest.mark.parametrize("read, text", [(read_rttm, "SPEAKER a 1 0 x"), (read_uem, "a 1 3 2"), (read_rttm, "\0\0")])
def test_what_is_no_annotation_is_named(tmp_path, read, text):
    (tmp_path / "a.rttm").write_text(text)
    with pytest.raises(AnnotationError, match="a.rttm"):
        read(tmp_path / "a.rttm")
