"""Annotation formats: each converter on a small file in its real form, RTTM and UEM there and back, and what is wrong
with them named.
"""

import json

import pytest

from lib.diarization import rttm
from lib.diarization.rttm import AnnotationError, Turn

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 9.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "N_SPK8013"
        xmin = 0
        xmax = 9.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.25
            text = ""
        intervals [2]:
            xmin = 1.25
            xmax = 4.5
            text = "大家 好"
        intervals [3]:
            xmin = 4.5
            xmax = 9.5
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "N_SPK8014"
        xmin = 0
        xmax = 9.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 4
            text = ""
        intervals [2]:
            xmin = 4
            xmax = 6.75
            text = "你好"
        intervals [3]:
            xmin = 6.75
            xmax = 9.5
            text = ""
"""
KOREAN = {
    "id": "SDRW2000000001",
    "metadata": {"title": "일상 대화", "creator": "국립국어원"},
    "document": [
        {
            "id": "SDRW2000000001.1",
            "metadata": {"speaker": [{"id": "SD2000001", "sex": "여성"}, {"id": "SD2000002", "sex": "남성"}]},
            "utterance": [
                {
                    "id": "SDRW2000000001.1.1.1",
                    "form": "네",
                    "original_form": "네",
                    "speaker_id": "SD2000001",
                    "start": 0.31,
                    "end": 1.5,
                    "note": "",
                },
                {
                    "id": "SDRW2000000001.1.1.2",
                    "form": "안녕",
                    "original_form": "안녕",
                    "speaker_id": "SD2000002",
                    "start": 1.25,
                    "end": 3.0,
                    "note": "",
                },
                {
                    "id": "SDRW2000000001.1.1.3",
                    "form": "",
                    "original_form": "",
                    "speaker_id": "SD2000002",
                    "start": 3.5,
                    "end": 3.5,
                    "note": "",
                },
            ],
        }
    ],
}
HUB = {
    "dataSet": {
        "dialogs": [
            {"speakerId": "1", "startTime": "00:00:00.500", "endTime": "00:00:02.000", "text": "네"},
            {"speakerId": "2", "startTime": "00:01:02.250", "endTime": "00:01:03.000", "text": "예"},
        ]
    }
}


def near(turns):
    return [(turn.speaker, round(turn.start, 3), round(turn.end, 3)) for turn in turns]


def test_utterances_of_the_korean_corpora(tmp_path):
    path = tmp_path / "SDRW2000000001.json"
    path.write_text(json.dumps(KOREAN, ensure_ascii=False), encoding="utf-8")
    assert near(rttm.from_json(path)) == [
        ("SD2000001", 0.31, 1.5),
        ("SD2000002", 1.25, 3.0),
    ]  # one without length holds no speech
    path.write_text(json.dumps({**KOREAN, "document": KOREAN["document"] * 2}), encoding="utf-8")
    with pytest.raises(AnnotationError, match="2 documents"):
        rttm.from_json(path)


def test_utterances_with_clock_times_and_milliseconds(tmp_path):
    path = tmp_path / "hub.json"
    path.write_text(json.dumps(HUB), encoding="utf-8")
    assert near(rttm.from_json(path)) == [("1", 0.5, 2.0), ("2", 62.25, 63.0)]
    path.write_text(json.dumps([{"speaker": {"id": "A"}, "start": 500, "duration": 250}]), encoding="utf-8")
    assert near(rttm.from_json(path, unit="ms")) == [("A", 0.5, 0.75)]


def test_a_textgrid_as_alimeeting_has_them(tmp_path):
    path = tmp_path / "R8001_M8004.TextGrid"
    path.write_text(TEXTGRID, encoding="utf-8")
    assert near(rttm.from_textgrid(path)) == [("N_SPK8013", 1.25, 4.5), ("N_SPK8014", 4.0, 6.75)]
    path.write_text("no TextGrid", encoding="utf-8")
    with pytest.raises(AnnotationError, match="R8001_M8004.TextGrid"):
        rttm.from_textgrid(path)


def test_audacity_labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("0.500000\t2.250000\tAnna B\n\\\t100.0\t4000.0\n2.000000\t3.000000\tBert\n", encoding="utf-8")
    assert near(rttm.from_audacity(path)) == [("Anna_B", 0.5, 2.25), ("Bert", 2.0, 3.0)]
    path.write_text("0.5\t2.25\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="labels.txt, line 1"):
        rttm.from_audacity(path)


@pytest.mark.parametrize(
    "text", ["speaker,start,end\nA,0,1.5\nB,1,2\n", "Start Time;Duration;Speaker\n0;1.5;A\n1;1;B\n"]
)
def test_csv_with_end_or_duration(tmp_path, text):
    path = tmp_path / "turns.csv"
    path.write_text(text, encoding="utf-8-sig")
    assert near(rttm.from_csv(path)) == [("A", 0.0, 1.5), ("B", 1.0, 2.0)]


def test_a_csv_that_lacks_a_column_or_a_number_is_named(tmp_path):
    path = tmp_path / "turns.csv"
    path.write_text("who,start,end\nA,0,1\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="turns.csv: the header names no speaker"):
        rttm.from_csv(path)
    path.write_text("speaker,start,end\nA,0,1\nA,x,2\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="turns.csv, line 3: the start should be a number"):
        rttm.from_csv(path)


def test_converting_writes_rttm_and_uem(tmp_path):
    (tmp_path / "turns.csv").write_text("speaker,start,end\nA,0,1.5\nA,1.25,2\nB,1,2.125\n", encoding="utf-8")
    rttm.convert(tmp_path / "turns.csv", tmp_path / "talk.rttm", tmp_path / "talk.uem", seconds=10)
    assert (
        (tmp_path / "talk.rttm").read_text()
        == "SPEAKER talk 1 0.000 2.000 <NA> <NA> A <NA> <NA>\nSPEAKER talk 1 1.000 1.125 <NA> <NA> B <NA> <NA>\n"
    )
    assert rttm.read_rttm(tmp_path / "talk.rttm") == {"talk": [Turn("A", 0.0, 2.0), Turn("B", 1.0, 2.125)]}
    assert rttm.read_uem(tmp_path / "talk.uem") == {"talk": [(0.0, 10.0)]}
    with pytest.raises(AnnotationError, match="the recording ends at 1 s"):
        rttm.convert(tmp_path / "turns.csv", tmp_path / "x.rttm", tmp_path / "x.uem", seconds=1)
    with pytest.raises(AnnotationError, match="no reader for .doc"):
        rttm.convert(tmp_path / "turns.doc", tmp_path / "x.rttm", tmp_path / "x.uem")


@pytest.mark.parametrize(
    "line, what",
    [
        ("SPEAKER talk 1 0.0", "expected `SPEAKER"),
        ("talk A 0 1", "expected `SPEAKER"),
        ("SPEAKER talk 1 zero 1.0 <NA> <NA> A <NA> <NA>", "the start should be a number"),
        ("SPEAKER talk 1 1.0 0.0 <NA> <NA> A <NA> <NA>", "a turn begins at 0 or later and lasts longer than 0 s"),
        ("SPEAKER talk 1 nan 1.0 <NA> <NA> A <NA> <NA>", "the start should be a number"),
        ("SPEAKER talk 1 1e300 1.0 <NA> <NA> A <NA> <NA>", "the start lies years away"),
        ("SPEAKER talk 1 0 1.7e9 <NA> <NA> A <NA> <NA>", "the duration lies years away"),
    ],
)
def test_a_malformed_rttm_line_is_named_with_its_number(tmp_path, line, what):
    path = tmp_path / "talk.rttm"
    path.write_text(";; a comment\nSPEAKER talk 1 0.0 1.0 <NA> <NA> A <NA> <NA>\n" + line + "\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=f"talk.rttm, line 3: {what}"):
        rttm.read_rttm(path)


def test_a_malformed_uem_line_is_named_with_its_number(tmp_path):
    path = tmp_path / "talk.uem"
    path.write_text("talk 1 5.0 2.0\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="talk.uem, line 1"):
        rttm.read_uem(path)


def test_reading_agrees_with_pyannote(tmp_path):
    from pyannote.database.util import load_rttm

    turns = [Turn("A", 0.25, 2.0), Turn("B", 1.0, 3.125), Turn("A", 2.5, 4.0)]
    rttm.write_rttm(tmp_path / "talk.rttm", "talk", turns)
    theirs = load_rttm(tmp_path / "talk.rttm")["talk"]
    assert [
        (name, round(segment.start, 3), round(segment.end, 3))
        for segment, _, name in theirs.itertracks(yield_label=True)
    ] == near(rttm.read_rttm(tmp_path / "talk.rttm")["talk"])
