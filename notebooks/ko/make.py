"""Make the Korean chapters: `python notebooks/ko/make.py`. Code cells and outputs are those of the English ones.

Text cells come from `texts/NN.md`, where each stands under a line `<!-- cell ID HASH -->`. HASH is of the English text
that was translated, so a text that changed since is known to be stale. A cell without a translation stays English, and
so does a stale one; both are listed. `--drop-stale` takes stale translations out of the tables.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGLISH = HERE.parent
ENTRY = re.compile(r"^<!-- cell (\S+) ([0-9a-f]{8}) -->\n", re.MULTILINE)
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s]+\))")
CHAPTERS = ("00", "01", "02", "03")


def fingerprint(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def english(chapter):
    """The path of the English notebook of a chapter such as "02"."""
    (path,) = ENGLISH.glob(f"{chapter}_*.ipynb")
    return path


def table(chapter):
    """`{cell id: (hash of the English text, Korean text)}` of a chapter."""
    parts = ENTRY.split((HERE / "texts" / f"{chapter}.md").read_text(encoding="utf-8"))
    return {name: (mark, text.strip("\n")) for name, mark, text in zip(parts[1::3], parts[2::3], parts[3::3])}


def moved(text):
    """`text` with its relative links as they are from here, but for those to chapters that are here, too."""

    def one(found):
        here = any(found[2].startswith(f"{chapter}_") for chapter in CHAPTERS)
        return found[0] if here else f"{found[1]}../{found[2]}"

    return LINK.sub(one, text)


def translated(chapter):
    """The Korean notebook of `chapter` (a dict), and the ids of cells that lack a translation and of stale ones."""
    notebook, texts = json.loads(english(chapter).read_text(encoding="utf-8")), table(chapter)
    missing, stale = [], [name for name in texts if name not in {cell["id"] for cell in notebook["cells"]}]
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        source = "".join(cell["source"])
        mark, text = texts.get(cell["id"], ("", ""))
        if not text:
            missing.append(cell["id"])
        elif mark != fingerprint(source):
            stale.append(cell["id"])
        cell["source"] = moved(text if text and mark == fingerprint(source) else source).splitlines(keepends=True)
    return notebook, missing, stale


def drop(chapter, stale):
    """Take the entries of these cells out of the table of a chapter."""
    kept = {name: entry for name, entry in table(chapter).items() if name not in stale}
    written = "\n".join(f"<!-- cell {name} {mark} -->\n{text}\n" for name, (mark, text) in kept.items())
    (HERE / "texts" / f"{chapter}.md").write_text(written, encoding="utf-8", newline="\n")


def main(arguments):
    for chapter in CHAPTERS:
        notebook, missing, stale = translated(chapter)
        if stale and "--drop-stale" in arguments:
            drop(chapter, stale)
        path = HERE / english(chapter).name
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.name}: not translated {', '.join(missing) or 'none'}; stale {', '.join(stale) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
