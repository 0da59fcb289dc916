"""The table of answers as people write it: separators, encodings, decimal commas; what is wrong has its line."""

import pytest

from lib import audio
from lib.words.clips import WordsError, open_competition, read_answers

GOOD = "id,bed,새\n1,0.5,0.5\n2,1,0\n"


@pytest.mark.parametrize(
    "text, encoding",
    [
        (GOOD, "utf-8"),
        (GOOD, "utf-8-sig"),
        (GOOD, "utf-16"),
        (GOOD, "cp949"),
        (GOOD.replace(",", ";").replace("0.5", "0,5"), "utf-8"),
        (GOOD.replace(",", "\t"), "utf-8"),
        (GOOD.replace(",", " , ").replace("\n", "\r\n"), "utf-8"),
    ],
)
def test_answers_in_every_form(tmp_path, text, encoding):
    (tmp_path / "train_answer.csv").write_bytes(text.encode(encoding))
    table, column, words = read_answers(tmp_path / "train_answer.csv")
    assert column == "id" and words == ["bed", "새"] and table[words].to_numpy().tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "train_answer.csv: empty"),
        ("id,bed,cat\n", "got 0 rows"),
        ("id,bed,cat\n1,0.5,\n", "line 2, cat: expected a number, found ''"),
        ("id,bed,cat\n1,half,half\n", "line 2, bed: expected a number, found 'half'"),
        ("id,bed,cat\n1,0.5,0.5\n\n2,0.5,0.9\n", r"the row of id 2 \(line 4\) sums to 1.4"),
        ("id,bed,bed\n1,0.5,0.5\n", "two columns are called 'bed'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "train_answer.csv").write_text(text)
    with pytest.raises(WordsError, match=said):
        read_answers(tmp_path / "train_answer.csv")


def test_hidden_files_beside_the_clips_do_not_count(tmp_path):
    for part in ("train", "test"):
        for number in (1, 2):
            audio.write(tmp_path / part / f"{number:04d}.wav", [0.1, -0.1] * 8000)
        (tmp_path / part / "._0001.wav").write_bytes(b"\0")
    (tmp_path / "train_answer.csv").write_text(GOOD.replace("\n1,", "\n1.0,"), encoding="utf-8")
    train, test = open_competition(tmp_path)
    assert len(train) == len(test) == 2
