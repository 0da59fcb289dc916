"""One rule for the paths that a person gives."""

from pathlib import Path

import pytest

from lib.runs import ROOT, RunError, check_paths, place


@pytest.mark.parametrize(
    "given, wanted",
    [
        ("data/mine", ROOT / "data" / "mine"),
        (Path("data"), ROOT / "data"),
        ("/somewhere/else", Path("/somewhere/else")),
        ("~/voices", Path.home() / "voices"),
        (" data/mine ", ROOT / "data" / "mine"),
        ('"data/my voices"', ROOT / "data" / "my voices"),
        ("'~/x'", Path.home() / "x"),
        (2024, ROOT / "2024"),
        (1.5, ROOT / "1.5"),
        ("None", ROOT / "None"),
        ("NA", ROOT / "NA"),
    ],
)
def test_relative_to_the_project_home_expanded_text_kept(given, wanted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place(given) == wanted


@pytest.mark.parametrize("given", [None, True, ["a"], "~nobody-of-that-name/x"])
def test_what_is_no_path_is_said(given):
    with pytest.raises(RunError, match=r"is no path|is not known here"):
        place(given)


def test_a_path_parameter_that_is_not_there_is_named_at_once(tmp_path):
    check_paths(song="", root=None, data=str(tmp_path))
    with pytest.raises(RunError, match=r"song: .*nowhere\.wav: no such file or folder"):
        check_paths(root=str(tmp_path), song="data/nowhere.wav")


def test_a_name_that_no_disk_takes_is_refused_by_name():
    with pytest.raises(RunError, match="song: .*no such file or folder"):
        check_paths(song="a" * 300)
