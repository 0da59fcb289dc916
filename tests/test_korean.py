"""The Korean chapters: code cells and outputs of the English ones, texts from the tables, none of them stale."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

KOREAN = Path(__file__).resolve().parents[1] / "notebooks" / "ko"
SPEC = importlib.util.spec_from_file_location("make_korean", KOREAN / "make.py")
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)
AGAIN = "`python notebooks/ko/make.py` makes them again"


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("chapter", make.CHAPTERS)
def test_code_and_outputs_are_those_of_the_english_chapter(chapter):
    path = make.english(chapter)
    assert cells(KOREAN / path.name, "code") == cells(path, "code"), AGAIN


@pytest.mark.parametrize("chapter", make.CHAPTERS)
def test_no_translation_is_stale_and_the_notebook_is_as_made(chapter):
    notebook, _missing, stale, _used = make.translated(chapter)  # a cell that lacks a translation stays English
    assert not stale, (
        f"the English text of {', '.join(stale)} has changed: translate it anew, or run with --drop-unused"
    )
    assert json.loads((KOREAN / make.english(chapter).name).read_text(encoding="utf-8")) == notebook, AGAIN


@pytest.mark.parametrize("chapter", make.CHAPTERS)
def test_code_names_formulas_and_links_are_kept(chapter):
    """What stands between backticks or dollars, and every address, is the same in both languages."""
    source = {cell["id"]: "".join(cell["source"]) for cell in cells(make.english(chapter), "markdown")}
    for (name, mark), text in make.table(chapter).items():
        if mark != make.fingerprint(source.get(name, "")):
            continue
        for kind in (r"`[^`\n]+`", r"\$[^$\n]+\$", r"\]\(([^)\s]+)\)"):
            assert sorted(re.findall(kind, text)) == sorted(re.findall(kind, source[name])), (name, kind)


def test_links_are_moved_and_hashes_are_of_the_text():
    text = "[a](glossary.md) [b](01_data_preparation.ipynb) [c](https://x.y/z) ![d](attachment:e.png) [f](../results/x)"
    assert make.moved(text).count("../") == 3 and "(../../results/x)" in make.moved(text)
    assert make.fingerprint("one") != make.fingerprint("two")


def test_a_changed_english_text_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "HERE", tmp_path)
    monkeypatch.setattr(make, "ENGLISH", tmp_path)
    (tmp_path / "texts").mkdir()
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["new text"]}
    (tmp_path / "00_x.ipynb").write_text(json.dumps({"cells": [cell, {**cell, "id": "b"}]}), encoding="utf-8")
    old, new = make.fingerprint("old"), make.fingerprint("new text")
    (tmp_path / "texts" / "00.md").write_text(f"<!-- cell a {old} -->\n글\n", encoding="utf-8")
    notebook, missing, stale, used = make.translated("00")
    assert (missing, stale, used) == (["b"], ["a"], set()) and notebook["cells"][0]["source"] == ["new text"]
    with (tmp_path / "texts" / "00.md").open("a", encoding="utf-8") as file:
        file.write(f"\n<!-- cell a {new} -->\n새 글\n")
    notebook, missing, stale, used = make.translated("00")
    assert (missing, stale) == (["b"], []) and notebook["cells"][0]["source"] == ["새 글"]
    make.keep("00", used)
    assert make.table("00") == {("a", new): "새 글"}
