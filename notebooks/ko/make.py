"""Make the Korean chapters: `python notebooks/ko/make.py`. Code cells and outputs are those of the English ones.

Text cells come from `texts/NN.md`, where each stands under a line `<!-- cell ID HASH -->`. HASH is of the English text
that was translated, so a text that changed since is known to be stale. A cell without a translation stays English, and
so does a stale one; both are listed. A cell may have several translations, for texts to come: the one whose hash fits
is taken. `--drop-unused` takes out of the tables what fits no text.
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
    """`{(cell id, hash of the English text): Korean text}` of a chapter."""
    parts = ENTRY.split((HERE / "texts" / f"{chapter}.md").read_text(encoding="utf-8"))
    return {(name, mark): text.strip("\n") for name, mark, text in zip(parts[1::3], parts[2::3], parts[3::3])}


def moved(text):
    """`text` with its relative links as they are from here, but for those to chapters that are here, too."""

    def one(found):
        here = any(found[2].startswith(f"{chapter}_") for chapter in CHAPTERS)
        return found[0] if here else f"{found[1]}../{found[2]}"

    return LINK.sub(one, text)


def translated(chapter):
    """The Korean notebook of `chapter` (a dict), the ids of cells that lack a translation, of stale ones, and the keys
    of the table that fit.
    """
    notebook, texts = json.loads(english(chapter).read_text(encoding="utf-8")), table(chapter)
    missing, stale, used = [], [], set()
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        source = "".join(cell["source"])
        key = cell["id"], fingerprint(source)
        if key in texts:
            used.add(key)
        elif any(name == cell["id"] for name, _ in texts):
            stale.append(cell["id"])
        else:
            missing.append(cell["id"])
        cell["source"] = moved(texts.get(key, source)).splitlines(keepends=True)
    return notebook, missing, stale, used


def keep(chapter, used):
    """Take all entries but these out of the table of a chapter."""
    written = [f"<!-- cell {key[0]} {key[1]} -->\n{text}\n" for key, text in table(chapter).items() if key in used]
    (HERE / "texts" / f"{chapter}.md").write_text("\n".join(written), encoding="utf-8", newline="\n")


def main(arguments):
    for chapter in CHAPTERS:
        notebook, missing, stale, used = translated(chapter)
        if "--drop-unused" in arguments:
            keep(chapter, used)
        path = HERE / english(chapter).name
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.name}: not translated {', '.join(missing) or 'none'}; stale {', '.join(stale) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
