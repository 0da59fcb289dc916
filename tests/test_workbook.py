"""The launcher: what it reads, what it refuses and in which words, and when it installs again. Nothing is installed
here.
"""

import ast
import json
import re
import runpy
import sys
import time
from pathlib import Path

import pytest

import workbook

ROOT = Path(workbook.__file__).parent
SETTINGS = (
    "depth = 2  # last blocks\ntype: str = 'attn'\nrate = 1e-4\nlive = True\nfolder = None\nratios = [0, 5]\nbig = 2 *"
    " depth"
)


def cell(source, kind="code", tags=(), outputs=()):
    base = {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}}
    return base if kind == "markdown" else {**base, "outputs": list(outputs), "execution_count": None}


def write_notebook(path, *cells):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": list(cells), "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with two small chapters, in a folder of its own; installing anything is an error."""
    for name, value in {
        "ROOT": tmp_path,
        "NOTEBOOKS": tmp_path / "notebooks",
        "RUNS": tmp_path / "results" / "runs",
        "VENV": tmp_path / ".venv",
        "REQUIREMENTS": tmp_path / "requirements-lock.txt",
    }.items():
        monkeypatch.setattr(workbook, name, value)
    monkeypatch.delenv("WORKBOOK_PYTHON", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "requirements.txt").write_text("papermill>=2.6,<3  # runs notebooks\n")
    (tmp_path / "requirements-extras.txt").write_text("-r requirements.txt\npytest>=8,<10\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements-extras.txt\nnbmake>=1,<2\n")
    (tmp_path / "requirements-lock.txt").write_text("papermill==2.7.0\n")
    head = [cell("# Chapter", "markdown"), cell(SETTINGS, tags=["parameters"]), cell("## Train", "markdown")]
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", cell("seed = 0", tags=["parameters"]))
    write_notebook(
        tmp_path / "notebooks" / "02_second.ipynb",
        *head,
        cell("print(depth, type, ratios)\nassert depth < 9, 'too\\ndeep'"),
    )
    return tmp_path


def make_ready(place):
    python = workbook.venv_python()
    python.parent.mkdir(parents=True)
    python.touch()
    workbook.write_stamp()


# Python's version


def test_older_python_is_told_so_in_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is Python 3\.9") as stop:
        runpy.run_path(str(ROOT / "workbook.py"))
    assert "\n" not in str(stop.value)


def test_the_file_parses_on_older_pythons_and_needs_the_standard_library_only():
    tree = ast.parse((ROOT / "workbook.py").read_text(encoding="utf-8"), feature_version=(3, 7))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imports} <= sys.stdlib_module_names


# chapters and parameters


@pytest.mark.parametrize("name", ["02", "2", "02_second", "02_second.ipynb"])
def test_a_chapter_goes_by_its_number_or_its_name(place, name):
    assert [path.stem for path in workbook.find_chapters([name])] == ["02_second"]


@pytest.mark.parametrize("name", ["9", "second", "02_other", "2nd"])
def test_an_unknown_chapter_is_answered_with_the_known_ones(place, name, capsys):
    assert workbook.main(["run", name]) == 1
    assert f"no chapter '{name}'. The chapters are: 01_first, 02_second." in capsys.readouterr().err


def test_parameters_are_read_with_their_defaults_without_running_the_notebook(place):
    found = workbook.read_parameters(place / "notebooks" / "02_second.ipynb")
    assert found == {
        "depth": 2,
        "type": "attn",
        "rate": 1e-4,
        "live": True,
        "folder": None,
        "ratios": [0, 5],
        "big": "2 * depth",
    }


def test_values_are_typed_as_papermill_types_them():
    papermill = pytest.importorskip("papermill.cli")
    for text in ["True", "False", "None", "true", "3", "-3", "1e-4", "0.5", "nan", "attn", "", "1_000"]:
        expected, found = papermill._resolve_type(text), workbook.read_value(text)
        assert type(found) is type(expected) and (found == expected or found != found), text


def test_a_list_may_be_given():
    assert workbook.read_value("[0, 2.5]") == [0, 2.5] and workbook.read_value("[a") == "[a"


def test_an_unknown_parameter_is_answered_with_the_known_ones(place, capsys):
    assert workbook.main(["run", "02", "-p", "dept", "2"]) == 1
    said = capsys.readouterr().err
    assert "no parameter 'dept'" in said and "02_second: depth=2, type='attn'" in said


@pytest.mark.parametrize("name, text", [("depth", "two"), ("depth", "True"), ("live", "1"), ("ratios", "1")])
def test_a_value_of_the_wrong_kind_is_refused_before_anything_runs(place, name, text):
    with pytest.raises(workbook.Failure, match=f"'{name}' is .*'{re.escape(text)}' is not"):
        workbook.share_parameters([(name, text)], workbook.find_chapters(["02"]))


def test_each_chapter_gets_the_parameters_it_has(place):
    first, second = workbook.find_chapters(["01", "02"])
    shared = workbook.share_parameters([("seed", "3"), ("depth", "-1")], [first, second])
    assert shared == {first: [("seed", "3")], second: [("depth", "-1")]}


@pytest.mark.parametrize("line", ["run 02 -p depth -2 -p type full", "run -p depth -2 -p type full 02"])
def test_chapters_may_stand_before_or_after_parameters(line):
    known = workbook.read_arguments(line.split())
    assert known.chapters == ["02"] and known.pairs == [["depth", "-2"], ["type", "full"]]


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit):
        workbook.read_arguments(["run", "--fast"])
    assert "--fast" in capsys.readouterr().err


# the environment


def test_the_environment_is_ready_only_for_the_requirements_it_was_made_with(place):
    assert not workbook.is_ready()
    make_ready(place)
    assert workbook.is_ready()
    (place / "requirements-lock.txt").write_text("papermill==2.8.0\n")
    assert not workbook.is_ready()


def test_a_ready_environment_is_used_as_it_is(place, monkeypatch):
    make_ready(place)
    monkeypatch.setattr(workbook, "call", lambda *_, **__: pytest.fail("pip was called again"))
    assert workbook.set_up() == workbook.venv_python()


def test_a_failed_installation_says_why_and_is_taken_up_again(place, monkeypatch, capsys):
    attempts = []

    def pip(python, *arguments, **_):
        attempts.append(arguments)
        Path(arguments[arguments.index("--log") + 1]).write_text("error: [Errno 28] No space left on device\n")
        return 1 if len(attempts) == 1 else 0

    monkeypatch.setattr(workbook, "make_venv", lambda: (place / ".venv").mkdir(exist_ok=True))
    monkeypatch.setattr(workbook, "call", pip)
    with pytest.raises(workbook.Failure, match="the disk is full"):
        workbook.set_up()
    assert not workbook.is_ready() and (place / ".venv" / "pip.log").exists()
    workbook.venv_python().parent.mkdir()
    workbook.venv_python().touch()
    workbook.set_up()
    assert workbook.is_ready() and len(attempts) == 2


def test_a_python_without_ensurepip_is_told_what_to_install(place, monkeypatch):
    monkeypatch.setattr(workbook.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else True)
    with pytest.raises(workbook.Failure, match=r"ensurepip.*apt install python3\.\d+-venv"):
        workbook.make_venv()


def test_an_active_environment_that_lacks_packages_is_told_which_and_the_command(place):
    (place / "requirements-extras.txt").write_text(
        "-r requirements.txt\nno-such-package-at-all>=1  # none\n# no word\n"
    )
    with pytest.raises(workbook.Failure, match=r"lacks no-such-package-at-all: `.* -m pip install -r requirements-dev"):
        workbook.set_up(here=True)
    assert workbook.set_up(here=True, needs=workbook.CORE) == Path(sys.executable)


@pytest.mark.parametrize("chapters, needs", [(["01", "02"], "CORE"), (["02", "04"], "EXTRAS")])
def test_the_first_chapters_do_without_the_packages_of_later_ones(place, monkeypatch, chapters, needs):
    write_notebook(place / "notebooks" / "04_fourth.ipynb", cell("seed = 0"))
    asked = []
    monkeypatch.setattr(workbook, "missing_packages", lambda _, names: asked.append(names) or ["all"])
    assert workbook.main(["run", *chapters, "--here"]) == 1
    assert asked == [workbook.read_names(getattr(workbook, needs))]


def test_a_python_that_is_none_is_named(place, monkeypatch, capsys):
    monkeypatch.setenv("WORKBOOK_PYTHON", str(place / "no-python"))
    assert workbook.main(["run", "02"]) == 1
    assert f"{place / 'no-python'} is no Python that runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "log, expected",
    [
        (
            "  error: [Errno 2] No such file or directory: 'gcc'\n  ERROR: Failed building wheel for webrtcvad\n",
            "webrtcvad .* build-essential",
        ),
        (
            "  error: command '/usr/bin/gcc' failed with exit code 1\nERROR: Failed building wheel for pesq",
            "pesq .* build-essential",
        ),
        (
            "pesq.c:4:10: fatal error: Python.h: No such file or directory\n error: command '/usr/bin/gcc' failed",
            "python3-dev",
        ),
        ("error: Microsoft Visual C++ 14.0 or greater is required. Get it with ...", "C\\+\\+ Build Tools"),
        ("xcrun: error: invalid active developer path (/Library/Developer/CommandLineTools)", "xcode-select --install"),
        (
            (
                "WARNING: Retrying ... NameResolutionError: Temporary failure in name resolution\nERROR: No matching"
                " distribution found for torch"
            ),
            "network",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            r"disk is full \(1\.5 GB free",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [WinError 112] There is not enough space on the disk",
            "disk is full",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'",
            "may not be written",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", r"no build for this Python.*torch==2\.13\.0"),
        ("ERROR: something nobody foresaw", "something nobody foresaw"),
        ("", "no reason"),
    ],
)
def test_pip_failures_are_explained(log, expected):
    assert re.search(expected, workbook.explain_pip(log, 1.5))


# running chapters


def test_each_cell_is_known_by_the_heading_above_it(place):
    notebook = place / "notebooks" / "02_second.ipynb"
    assert workbook.sections(notebook, injected=False) == ["Chapter", "Chapter", "Train", "Train"]
    assert workbook.sections(notebook, injected=True) == ["Chapter", "Chapter", "Chapter", "Train", "Train"]


def test_chapters_run_with_parameters_and_a_failing_one_is_named(place, monkeypatch, capsys):
    pytest.importorskip("papermill")
    monkeypatch.setenv("WORKBOOK_PYTHON", sys.executable)
    assert workbook.main(["run", "02", "-p", "depth", "12", "-p", "ratios", "[1, -0.5]"]) == 1
    captured = capsys.readouterr()
    assert (
        "Chapter 02_second failed in the section 'Train', in the cell that begins `print(depth, type, ratios)`:"
        " AssertionError: too deep" in captured.err
    )
    executed = next((place / "results" / "runs").glob("*/02_second.ipynb"))
    assert str(executed) in captured.err and executed.with_suffix(".html").exists()
    assert "12 attn [1, -0.5]" in executed.read_text(encoding="utf-8")


def test_two_runs_begun_in_one_second_have_a_folder_each(place):
    one, two = workbook.run_folder(), workbook.run_folder()
    assert one != two and one.is_dir() and two.is_dir()


def test_a_chapter_killed_from_outside_is_told_from_one_that_failed(tmp_path):
    (tmp_path / "02.log").write_text("Executing Cell 3---\n[IPKernelApp] WARNING | Parent appears to have exited\n")
    said = workbook.explain_chapter(tmp_path / "none.ipynb", tmp_path / "02.log", -9)
    assert "ended from outside, by signal 9" in said
    assert "Parent appears" in workbook.explain_chapter(tmp_path / "none.ipynb", tmp_path / "02.log", 1)


def test_the_closing_table_shows_only_what_this_run_wrote(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text(
        "system,si_sdr,si_sdri,pesq,estoi,share_over_1_db,rtf\n"
        "mixture,-1.234,0,1.2,nan,,\nstarter,2.1,3.3,1.4,0.6,0.731,0.1\n"
    )
    header, mixture, starter = workbook.closing_table(path, since=time.time() - 5)
    assert header.split()[:2] == ["SI-SDR", "SI-SDRi"]
    assert mixture.split() == ["mixture", "-1.23", "0.00", "1.20", "-", "-"]
    assert starter.split() == ["starter", "2.10", "3.30", "1.40", "0.60", "73", "%"]
    assert workbook.closing_table(path, since=time.time() + 5) == []
    assert workbook.closing_table(tmp_path / "none.csv", since=0) == []


# testing


def write_report(path, *names, skipped=()):
    cases = "".join(
        f'<testcase classname="notebooks.x" name="{name}">{"<skipped/>" if name in skipped else ""}</testcase>'
        for name in names
    )
    Path(path).write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")


def fake_pytest(monkeypatch, code, *names, skipped=(), of_lib=0):
    def call(python, *arguments, **_):
        if "tests" in arguments:
            return of_lib
        report = next(word for word in arguments if word.startswith("--junitxml=")).removeprefix("--junitxml=")
        write_report(report, *names, skipped=skipped)
        return code

    monkeypatch.setattr(workbook, "set_up", lambda here: "python")
    monkeypatch.setattr(workbook, "check_style", lambda python: None)
    monkeypatch.setattr(workbook, "fetch_voices", lambda python: True)
    monkeypatch.setattr(workbook, "call", call)


def test_all_notebooks_ran(place, monkeypatch):
    fake_pytest(monkeypatch, 0, "test_metrics", "01_first.ipynb", "02_second.ipynb")
    assert workbook.main(["test"]) == 0


def test_pytest_exit_code_is_passed_on(place, monkeypatch):
    fake_pytest(monkeypatch, 3, "01_first.ipynb", "02_second.ipynb")
    assert workbook.main(["test"]) == 3
    fake_pytest(monkeypatch, 0, "01_first.ipynb", "02_second.ipynb", of_lib=1)
    assert workbook.main(["test"]) == 1  # the tests of lib failed, the notebooks did not


@pytest.mark.parametrize(
    "ran, skipped", [(["01_first.ipynb"], []), (["01_first.ipynb", "02_second.ipynb"], ["02_second.ipynb"])]
)
def test_a_notebook_that_did_not_run_fails_the_tests(place, monkeypatch, capsys, ran, skipped):
    fake_pytest(monkeypatch, 0, *ran, skipped=skipped)
    assert workbook.main(["test"]) == 1
    assert "did not run: 02_second.ipynb" in capsys.readouterr().err


def test_no_notebook_at_all_fails_the_tests(place, monkeypatch):
    for path in (place / "notebooks").iterdir():
        path.unlink()
    fake_pytest(monkeypatch, 0, "test_metrics")
    assert workbook.main(["test"]) == 1


def test_chapters_and_companions_run_side_by_side_and_no_korean_copy_does(place, monkeypatch, capsys):
    for name in ("04_third.ipynb", "solutions/01_solutions.ipynb", "ko/01_first.ipynb"):
        (place / "notebooks" / name).parent.mkdir(exist_ok=True)
        (place / "notebooks" / name).write_text("{}")
    first, second = workbook.groups()
    assert [Path(name).name for name in first] == ["01_first.ipynb", "01_solutions.ipynb", "02_second.ipynb"]
    assert second == ["notebooks/04_third.ipynb"]
    monkeypatch.setattr(workbook, "workers", lambda: ["-n", "2"])
    commands = [["-c", "import sys; sys.exit(0)"], ["-c", "import sys; print('second says'); sys.exit(4)"]]
    assert workbook.side_by_side(sys.executable, commands, place / "said.txt") == 4
    assert capsys.readouterr().out == "second says\n"
    assert workbook.side_by_side(sys.executable, commands[:1], place / "said.txt") == 0


def test_a_finding_of_ruff_fails_before_any_test_runs(place, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(workbook, "set_up", lambda here: "python")
    monkeypatch.setattr(workbook, "call", lambda python, *arguments, **_: called.append(arguments) or len(called) == 1)
    assert workbook.main(["test"]) == 1
    assert "ruff found what stands above" in capsys.readouterr().err
    assert [arguments[:3] for arguments in called] == [("-m", "ruff", "check"), ("-m", "ruff", "format")]


@pytest.mark.parametrize("cores, processes", [({0}, []), ({0, 1}, ["-n", "2"]), (set(range(16)), ["-n", "2"])])
def test_two_processes_where_there_are_two_cores(monkeypatch, cores, processes):
    monkeypatch.setattr(workbook.os, "sched_getaffinity", lambda _: cores, raising=False)
    assert workbook.workers()[:2] == processes


# the lab, a voice extracted


@pytest.fixture
def started(monkeypatch):
    """What the launcher starts, as `(command, options of Popen)`, in place of starting it."""
    found = []

    class Process:
        def __init__(self, command, **options):
            found.append(([str(word) for word in command], options))

        def wait(self):
            return 0

    monkeypatch.setattr(workbook, "set_up", lambda here, needs=None: "python")
    monkeypatch.setattr(workbook.subprocess, "Popen", Process)
    return found


def test_the_lab_serves_the_project_with_notebooks_open_and_takes_large_uploads(place, started):
    assert workbook.main(["lab", "--no-browser", "--LabApp.default_url=/lab"]) == 0
    ((command, _),) = started
    assert f"--ServerApp.root_dir={place}" in command
    assert "--ServerApp.tornado_settings={'websocket_max_message_size': 268435456}" in command
    assert command[-2:] == ["--no-browser", "--LabApp.default_url=/lab"]
    assert len([word for word in command if word.startswith("--LabApp.default_url")]) == 1


def test_extract_passes_all_on_and_stays_in_the_callers_folder(started):
    line = ["talk.wav", "-o", "her.flac", "anna 1.wav", "--overlap", "0.5", "anna2.wav", "--help"]
    assert workbook.main(["extract", *line, "--here"]) == 0
    ((command, options),) = started
    assert command == ["python", "-P", "-m", "lib.evaluation.extract", *line]
    assert options["cwd"] is None and options["env"]["PYTHONPATH"] == str(ROOT)


def test_everyone_goes_to_the_chapter_that_finds_who_speaks(started):
    assert workbook.main(["extract", "talk.wav", "--everyone", "-o", "out", "--here"]) == 0
    command = started[-1][0] if isinstance(started[-1], tuple) else started[-1]
    assert command[:4] == ["python", "-P", "-m", "lib.diarization.everyone"] and "--everyone" not in command


def test_waiting_threads_spin_for_a_moment_unless_the_caller_says_otherwise(monkeypatch):
    for name in workbook.WAITING:
        monkeypatch.delenv(name, raising=False)
    assert workbook.WAITING.items() <= workbook.environment("python").items()
    assert workbook.environment("python", **workbook.ASLEEP)["GOMP_SPINCOUNT"] == "0"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    told = workbook.environment("python")
    assert told["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in told


# Google Colab


@pytest.mark.parametrize(
    "url, address",
    [
        ("https://example.org/me/book.git", "https://example.org/me/book.git"),
        ("https://me:secret@example.org/me/book.git", "https://example.org/me/book.git"),
        ("git@example.org:me/book.git", "https://example.org/me/book.git"),
        ("ssh://git@example.org:22/me/book", "https://example.org/me/book"),
        ("https://example.org:8443/group/me/book.git/", "https://example.org:8443/group/me/book.git"),
    ],
)
def test_the_address_is_one_that_anyone_can_clone(url, address):
    assert workbook.public_address(url) == address


@pytest.mark.parametrize("url", ["", "/srv/git/book.git", "file:///srv/git/book.git", "../book", "book"])
def test_a_folder_is_no_address(url):
    with pytest.raises(workbook.Failure, match="is not the address of a repository on the web"):
        workbook.public_address(url)


def test_the_address_is_written_into_every_notebook_and_nothing_else_changes(place):
    path = place / "notebooks" / "02_second.ipynb"
    before = json.loads(path.read_text(encoding="utf-8"))
    before["cells"].insert(1, cell("old", tags=["colab"]))
    path.write_text(json.dumps(before), encoding="utf-8")
    assert workbook.main(["colab", "git@example.org:me/book.git"]) == 0
    after = json.loads(path.read_text(encoding="utf-8"))
    written = after["cells"].pop(1)
    assert 'REPOSITORY = "https://example.org/me/book.git"' in "".join(written["source"])
    assert written["metadata"] == workbook.FOLDED and "../requirements.txt" in written["source"][-1]
    assert after["cells"] == [one for one in before["cells"] if one["source"] != "old"]
    assert "requirements-extras.txt" in workbook.colab_source("04_speaker_diarization.ipynb", "")


def test_the_exported_page_says_what_each_picture_shows_and_fetches_no_script(tmp_path):
    def output(**metadata):
        return {"output_type": "display_data", "data": {"image/png": ""}, "metadata": metadata}

    cells = [
        {"cell_type": "markdown"},
        {"cell_type": "code", "outputs": [output(**{"image/png": {"alt": 'two "lines"'}}), output()]},
    ]
    notebook, page = tmp_path / "a.ipynb", tmp_path / "a.html"
    notebook.write_text(json.dumps({"cells": cells}))
    script = '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.1.10/require.min.js"></script>'
    script += '<script src="https://cdnjs.cloudflare.com/ajax/libs/mathjax/2.7.7/latest.js?config=TeX,Safe"> </script>'
    page.write_text(f'{script}<img alt="{workbook.NO_ALT}"><img alt="own"><img alt="{workbook.NO_ALT}">')
    workbook.finish(notebook, page)
    assert page.read_text() == ('<img alt="two &quot;lines&quot;"><img alt="own"><img alt="A figure of this chapter.">')
    page.write_text("<head></head><pre>a long line</pre>")
    workbook.finish(notebook, page)
    assert "word-break: normal" in page.read_text()
