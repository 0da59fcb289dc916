"""Pages beside the chapters: their links lead somewhere, the sheet for students is empty and graded, terms are met."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
PAGES = [*sorted(NOTEBOOKS.glob("*.md")), ROOT / "README.md", ROOT / "README.ko.md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def texts(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def broken(path):
    """The links of a page or a notebook that name no file here; those to the web and to headings are not looked at."""
    targets = (link.split("#")[0] for link in LINK.findall(texts(path)) if "://" not in link)
    return [one for one in targets if one and not one.startswith("attachment:") and not (path.parent / one).exists()]


@pytest.mark.parametrize("path", [*PAGES, *sorted(NOTEBOOKS.rglob("*.ipynb"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert broken(path) == []


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "page.md").write_text("[here](page.md), [there](nowhere.md), [web](https://x.y)", encoding="utf-8")
    assert broken(tmp_path / "page.md") == ["nowhere.md"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_claims_asks_and_is_set_beside_others(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text, code = texts(path), "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    own = [name for name in sections if not re.match(r"Summary|Exercises|Settings|What others found|A project", name)]
    assert text.count("**Claim.**") >= len(own), own
    assert 3 <= code.count("predict(") <= 5 and text.count("**Why") >= 3
    assert len(re.findall(r"^exercises\.check\(\d, answer_\d\)$", code, re.MULTILINE)) == 4
    assert len(re.findall(r"\b(?:drawings|diagrams)\.\w+\(", code)) >= 2
    assert "What others found" in sections and "https://" in text


def test_the_page_of_times_has_a_row_a_chapter():
    page = texts(NOTEBOOKS / "README.md")
    assert [path.name for path in CHAPTERS] == re.findall(r"^\| \[\d\..*?\]\((.+?)\)", page, re.MULTILINE)


def test_each_setting_of_the_instructors_page_is_one_of_the_chapters_that_it_names():
    rows = re.findall(r"^\| (?:harder|easier|surer).*\|$", texts(NOTEBOOKS / "teaching.md"), re.MULTILINE)
    assert len(rows) >= 8
    for row in rows:
        *_, settings, chapters, _ = row.split(" |")
        known = ""
        for path in CHAPTERS:
            if path.name[1] in re.findall(r"\d", chapters):
                cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
                known += "".join("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
        names = re.findall(r"`(\w+) = ", settings)
        assert names and [name for name in names if not re.search(rf"^{name} = ", known, re.MULTILINE)] == [], row


def test_a_sheet_for_students_holds_no_answer(monkeypatch):
    spec = importlib.util.spec_from_file_location("empty", NOTEBOOKS / "solutions" / "empty.py")
    empty = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(empty)
    for number in range(8):
        cells = empty.sheet(f"{number:02d}")["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert len(code) == 6 and all("= None" in cell and "def " not in cell for cell in code[1:5])
        assert not any(cell.get("outputs") for cell in cells)
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setenv("WORKBOOK_GRADE", "3")
    sheet = empty.sheet("03")
    scope, cells = {}, ["".join(cell["source"]) for cell in sheet["cells"] if cell["cell_type"] == "code"]
    with pytest.raises(AssertionError, match="0 of 4"):
        exec("\n".join(cells), scope)


def test_every_word_of_the_glossary_is_met_in_a_chapter_that_it_names():
    absent = []
    for entry in re.split(r"\n- ", texts(NOTEBOOKS / "glossary.md"))[1:]:
        entry = re.sub(r"\s+", " ", entry.split("\n#")[0]).strip()
        numbers = re.findall(r"\d", re.search(r"\(([\d, ]+)\)$", entry)[1])
        met = "\n".join(path.read_text(encoding="utf-8") for path in CHAPTERS if path.name[1] in numbers).lower()
        for term in re.findall(r"\*\*([^*]+)\*\*", entry):
            words = [one.strip().rstrip("s").lower() for one in re.split(r"[,()]", term) if one.strip()]
            absent += [one for one in words if not re.search(re.escape(one).replace(r"\ ", r"[\s_-]+"), met)]
    assert absent == []
