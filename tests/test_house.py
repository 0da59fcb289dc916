"""The rooms of `lib`: arrows point down, no circle, and what each room may import. Imports inside functions count
too.
"""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [  # from the ground up: a room imports rooms of lower floors alone, and itself
    {"audio", "listening", "plots", "metrics", "losses", "mels", "runs"},
    {"models", "data"},
    {"backbones"},
    {"training", "evaluation"},
    {"diarization", "words", "music", "speakers"},
    {"pretraining", "stand_ins"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
CHAPTERS = FLOORS[4]
MODELS_MAY = {"torch", "transformers", "numpy", "safetensors", "lib.losses"}  # `lib.models` runs on a bare GPU machine


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root=ROOT):
    """`{dotted name: path}` of every module below `root/lib`."""
    return {module_name(path, root): path for path in sorted((root / "lib").rglob("*.py"))}


def imported(code, name, known, package):
    """The dotted names that `code`, the module `name`, imports anywhere: modules of `known`, or the first word of
    others.
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".") if package else name.split(".")[:-1]
            base = (
                ".".join([*above[: len(above) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        else:
            continue
        found.update(one if one in known else one.split(".")[0] for one in names)
    return found - {name, "lib"}


def arrows(root=ROOT):
    """`{module: what it imports}` for all of lib."""
    known = modules(root)
    return {
        name: imported(path.read_text(encoding="utf-8"), name, known, path.name == "__init__.py")
        for name, path in known.items()
    }


def room(name):
    return name.split(".")[1] if name.startswith("lib.") else None


def circle(graph):
    """The modules of a circle of imports, in order; None where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def upward(graph):
    """`module -> module` for each import of a room that does not lie on a lower floor."""
    pairs = [(name, other) for name, others in graph.items() for other in others if room(name) and room(other)]
    ground = FLOORS[0]
    return sorted(
        f"{name} -> {other}"
        for name, other in pairs
        if room(name) != room(other)
        and FLOOR[room(name)] <= FLOOR[room(other)]
        and not {room(name), room(other)} <= ground
    )


def foreign(graph):
    """What `lib.models` imports beyond what a bare GPU machine has."""
    allowed = MODELS_MAY | sys.stdlib_module_names
    return sorted(
        f"{name} -> {other}"
        for name, others in graph.items()
        if room(name) == "models"
        for other in others
        if other not in allowed and room(other) != "models"
    )


def test_every_room_has_a_floor():
    rooms = {room(name) for name in modules() if room(name)}
    assert rooms == set(FLOOR)
    assert len(rooms) + 1 <= 19  # lib/__init__.py is one more


def test_no_circle_and_no_arrow_upwards():
    graph = arrows()
    assert circle(graph) is None
    assert upward(graph) == []


def test_models_run_on_a_bare_machine():
    assert foreign(arrows()) == []


def test_no_chapter_imports_pretraining():
    assert not [
        name
        for name, others in arrows().items()
        if room(name) in CHAPTERS and any(room(other) == "pretraining" for other in others)
    ]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert "from lib.pretraining" not in notebook.read_text(encoding="utf-8"), notebook.name


@pytest.mark.parametrize(
    "code, finds",
    [
        ("def late():\n    from lib.data import voices\n", "circle"),
        ("from lib.training import fit\n", "upward"),
    ],
)
def test_a_circle_and_an_upward_arrow_made_on_purpose_are_found(tmp_path, code, finds):
    """The check can fail: the same reading of a small house with one wrong import, inside a function and at the top."""
    files = {
        "lib/__init__.py": "",
        "lib/data/__init__.py": "",
        "lib/data/splits.py": code,
        "lib/data/voices.py": "from lib.data import splits\n",
        "lib/training/__init__.py": "",
        "lib/training/fit.py": "from lib.data import voices\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    graph = arrows(tmp_path)
    assert circle(graph)
    assert bool(upward(graph)) == (finds == "upward")


def test_models_that_import_more_are_found():
    assert foreign({"lib.models.checkpoint": {"pandas", "json", "lib.audio", "lib.losses"}}) == [
        "lib.models.checkpoint -> lib.audio",
        "lib.models.checkpoint -> pandas",
    ]
