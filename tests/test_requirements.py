"""requirements.txt is the one list:

all that is imported stands in it, all that stands in it is pinned and installed.
"""

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
OWN = {"lib", "google"} | {path.stem for path in [*ROOT.glob("*.py"), *ROOT.glob("tests/*.py")]}  # google: Colab's own


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def sources():
    """`(file, code)` of every Python file and of every notebook's code cells."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("lib/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield (
                    path.relative_to(ROOT),
                    re.sub(r"^\s*[%!].*$", "pass", "".join(cell["source"]), flags=re.MULTILINE),
                )


def imported():
    """`{module: file}` of everything outside the standard library and this project that some file imports."""
    found = {}
    for path, code in sources():
        for node in ast.walk(ast.parse(code)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found.update({name.split(".")[0]: str(path) for name in names})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OWN}


@pytest.mark.parametrize("line", LINES)
def test_each_requirement_is_pinned_and_explained(line):
    assert re.fullmatch(r"[\w.-]+(==[\w.]+|<[\w.]+) +# .+", line)


def test_everything_imported_is_a_requirement():
    listed = {plain(re.match(r"[\w.-]+", line).group()) for line in LINES}
    modules = importlib.metadata.packages_distributions()
    missing = {
        f"{name} ({path})"
        for name, path in imported().items()
        if not listed & {plain(package) for package in modules.get(name, [name])}
    }
    assert not missing, f"imported and not in requirements.txt: {sorted(missing)}"
