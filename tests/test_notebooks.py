"""What every stored notebook holds to: guarded, parametrised, shown with its outputs, small, and free of one machine's
paths.
"""

import ast
import builtins
import importlib
import inspect
import json
import re
import types
from pathlib import Path

import pytest

import workbook

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?:file://|(?<![\w.~:/])/(?:home|root|tmp|work|Users|content|opt|mnt)/|\b[A-Z]:\\\\?Users)")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def source(cell):
    return "".join(cell["source"])


def tagged(notebook, tag):
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]


def shown_text(cell):
    """All text a reader sees under a cell: streams, plain results, HTML without embedded pictures and sounds."""
    for output in cell["outputs"]:
        parts = [output.get("text", "")] + [
            value for kind, value in output.get("data", {}).items() if kind.startswith("text/")
        ]
        for part in parts:
            yield re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", part if isinstance(part, str) else "".join(part))


def test_the_main_job_is_there():
    assert {"01_data_preparation", "02_fine_tuning", "03_evaluation"} <= {path.stem for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_small_enough_to_open_on_the_web(path):
    assert path.stat().st_size < 1.5e6


def test_it_starts_with_a_title_and_the_colab_cell_is_the_first_code(notebook):
    assert notebook["cells"][0]["cell_type"] == "markdown" and source(notebook["cells"][0]).startswith("# ")
    assert tagged(notebook, "colab") == code_cells(notebook)[:1]


def test_the_colab_cell_is_as_the_launcher_writes_it_everywhere_with_one_address():
    cells = {path: code_cells(json.loads(path.read_text(encoding="utf-8")))[0] for path in PATHS}
    (address,) = {re.search(r'REPOSITORY = "(.+)"', source(cell)).group(1) for cell in cells.values()}
    for path, cell in cells.items():
        written = source(cell) == workbook.colab_source(path, address)
        folded = workbook.FOLDED.items() <= cell["metadata"].items()
        assert written and folded, f"{path.name}: `python3 workbook.py colab {address}` mends its Colab cell"


def test_the_colab_cell_does_nothing_elsewhere(notebook, monkeypatch):
    for module, name in (("subprocess", "run"), ("os", "chdir"), ("os", "system")):
        monkeypatch.setattr(f"{module}.{name}", lambda *_, **__: pytest.fail("the Colab cell acts outside Colab"))
    exec(compile(source(code_cells(notebook)[0]), "colab cell", "exec"), {"__builtins__": builtins})
    assert not code_cells(notebook)[0]["outputs"]


def test_nothing_else_installs(notebook):
    for cell in code_cells(notebook)[1:]:
        assert not re.search(r"pip\s+install|apt(-get)?\s+install|git\s+clone", source(cell)), source(cell)


def test_one_cell_of_parameters_flat_and_commented(notebook):
    (cell,) = tagged(notebook, "parameters")
    for node in ast.parse(source(cell)).body:
        assert isinstance(node, (ast.Assign, ast.AnnAssign)), "the parameters cell holds more than assignments"
        ast.literal_eval(node.value)
        assert "#" in source(cell).splitlines()[node.lineno - 1], (
            f"line {node.lineno} of the parameters cell has no comment"
        )


def test_no_cell_is_long(notebook):
    others = [
        cell for cell in code_cells(notebook) if cell not in tagged(notebook, "parameters")
    ]  # one line a setting there
    long = [source(cell).splitlines()[0] for cell in others if len(source(cell).splitlines()) > 20]
    assert not long, f"over 20 lines: {long}"


def test_it_is_stored_as_run_from_top_to_bottom(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert any(
        output.get("data", {}).keys() & {"image/png", "image/jpeg"}
        for cell in code_cells(notebook)
        for output in cell["outputs"]
    )


def test_no_stored_error_and_none_allowed(notebook):
    assert not [
        output for cell in code_cells(notebook) for output in cell["outputs"] if output["output_type"] == "error"
    ]
    assert not notebook["metadata"].get("execution", {}).get("allow_errors")
    assert not tagged(notebook, "raises-exception") and not tagged(notebook, "skip-execution")


def test_it_runs_with_any_python_kernel(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"]["name"] == "python"


def test_no_path_of_the_machine_it_was_run_on(notebook):
    for cell in code_cells(notebook):
        for text in shown_text(cell):
            found = MACHINE_PATH.search(text)
            assert not found, (
                f"{text[max(0, found.start() - 40) : found.end() + 60]!r} under {source(cell).splitlines()[0]!r}"
            )
    assert "papermill" not in notebook["metadata"], "papermill's metadata names files of the machine; remove it"


def test_no_cell_takes_an_imported_name_for_something_else(notebook):
    """`backbones = pd.DataFrame(...)` after `from lib import backbones` breaks a cell further down."""
    imported, taken = set(), []
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in imported:
                taken.append(node.id)
    assert not taken


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_what_a_cell_takes_from_lib_is_there(path):
    """A name that moved within lib, or an argument renamed, breaks the chapter that still uses the old one."""
    cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
    nodes = [node for cell in cells for node in ast.walk(ast.parse(source(cell)))]
    rooms, missing = {}, []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lib":
            for alias in node.names:
                thing = getattr(importlib.import_module(node.module), alias.name, None)
                thing = thing or importlib.import_module(f"{node.module}.{alias.name}")
                if isinstance(thing, types.ModuleType):
                    rooms[alias.asname or alias.name] = thing
    for node in nodes:
        called = node.func if isinstance(node, ast.Call) else node
        if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in rooms):
            continue
        thing = getattr(rooms[called.value.id], called.attr, None)
        if not hasattr(rooms[called.value.id], called.attr):
            missing.append(f"{called.value.id}.{called.attr}")
        elif isinstance(node, ast.Call) and inspect.isfunction(thing):
            takes = inspect.signature(thing).parameters
            if not any(kind.kind is kind.VAR_KEYWORD for kind in takes.values()):
                missing += [
                    f"{called.attr}({word.arg}=)" for word in node.keywords if word.arg and word.arg not in takes
                ]
    assert not missing
