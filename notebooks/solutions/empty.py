"""`python notebooks/solutions/empty.py 03`: the sheet of a chapter's exercises without answers, on standard output."""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECK = re.compile(r"^exercises\.check\((\d), .*\)$", re.MULTILINE)


def sheet(number):
    """The solutions notebook of the chapter `number` ("03") with `None` for each answer, as a dict of its JSON.

    Code of solutions, what is said about them, and all outputs are gone. Raises FileNotFoundError for another number.
    """
    notebook = json.loads((HERE / f"{number}_solutions.ipynb").read_text(encoding="utf-8"))
    kept, last = [], notebook["cells"][-1]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "solution" in cell["metadata"].get("tags", []):
            asked = CHECK.search(source)[1]
            source = f"answer_{asked} = None  # yours\nexercises.check({asked}, answer_{asked})"
        elif cell["id"] == "s00":
            source = source.splitlines()[0].replace("Solutions", "Exercises")
        elif not (source.startswith("## ") and cell["id"] != "s90") and cell["id"] != "s01" and cell is not last:
            continue
        kept.append({**cell, "source": source.splitlines(keepends=True)})
        if cell["cell_type"] == "code":
            kept[-1] |= {"outputs": [], "execution_count": None, "metadata": {}}
    return {**notebook, "cells": kept}


if __name__ == "__main__":
    print(json.dumps(sheet(sys.argv[1].zfill(2)), indent=1, ensure_ascii=False))
