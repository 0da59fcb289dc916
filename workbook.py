#!/usr/bin/env python3
"""The workbook's one command: `run` the chapters, `extract` a voice, open the `lab`, or `test` everything.

Needs nothing but Python 3.11. It makes `.venv` beside this file, installs `requirements-lock.txt` into it once, and
runs everything else there.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"The workbook needs Python 3.11 or newer, and this is Python {sys.version_info[0]}.{sys.version_info[1]}: "
        "install a newer one from python.org or with conda, and call it by its name, e.g. `python3.12 workbook.py run`."
    )

import argparse
import ast
import contextlib
import csv
import hashlib
import html
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "results" / "runs"
REQUIREMENTS = ROOT / "requirements-lock.txt"  # what is installed; the lists below are what an environment must have
CORE, EXTRAS, DEV = "requirements.txt", "requirements-extras.txt", "requirements-dev.txt"
VENV = ROOT / ".venv"
MAIN_JOB = ["01", "02", "03"]
SECONDS_A_CELL = 3600  # in the tests: the longest takes minutes on a quiet pair of cores, and five times that elsewhere
UPLOAD_BYTES = 2**28  # the largest message that JupyterLab takes from a page, where its own limit is 10 MB
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}  # `python -m lib.training.waiting` has the reason
ASLEEP = {"GOMP_SPINCOUNT": "0"}  # two programs at a time on two cores
COLUMNS = {"si_sdr": "SI-SDR", "si_sdri": "SI-SDRi", "pesq": "PESQ", "estoi": "ESTOI", "share_over_1_db": "over 1 dB"}
FETCH = """
import sys
from lib.data import voices
try:
    table = voices.load()
except voices.VoicesError as error:
    sys.exit(str(error))
print(f"Voices: {table.speaker.nunique()} speakers, {table.seconds.sum() / 3600:.1f} hours.")
"""


class Failure(Exception):
    """Something the user can act on: one or two sentences, shown without a traceback."""


# --- chapters and their parameters


def known_chapters():
    """The notebooks on disk by their number: `{"01": Path(...), ...}`."""
    return {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def find_chapters(names):
    """The notebooks meant by `names` (`02`, `2` or `02_fine_tuning`), in that order;

    the main job where none is named.
    """
    known = known_chapters()
    found = []
    for name in names or MAIN_JOB:
        path = known.get(name.removesuffix(".ipynb").split("_")[0].zfill(2))
        if path is None or ("_" in name and path.stem != name.removesuffix(".ipynb")):
            listed = ", ".join(path.stem for path in known.values()) or "none"
            raise Failure(f"There is no chapter '{name}'. The chapters are: {listed}.")
        found.append(path)
    return found


def read_cells(notebook):
    """The cells of a notebook as `(kind, source, tags, outputs)`, read without Jupyter."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return [
        (cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {}).get("tags", []), cell.get("outputs", []))
        for cell in cells
    ]


def read_parameters(notebook):
    """Names and defaults that the cell tagged `parameters` assigns; a default that is no literal is given as its
    source.
    """
    found = {}
    for kind, source, tags, _ in read_cells(notebook):
        if kind != "code" or "parameters" not in tags:
            continue
        for node in ast.parse(source).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for name in [target.id for target in targets if isinstance(target, ast.Name) and node.value is not None]:
                try:
                    found[name] = ast.literal_eval(node.value)
                except ValueError:
                    found[name] = ast.unparse(node.value)
    return found


def read_value(text):
    """`text` typed as papermill types it: True, False, None, a whole number, a number, or the text itself; `[...]` is a
    list.
    """
    if text in ("True", "False", "None"):
        return ast.literal_eval(text)
    if text.startswith("["):
        try:
            return list(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError):
            return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def check_value(name, text, default):
    """Raise where `text` cannot be a value for a parameter with this default, so that no chapter runs in vain."""
    value = read_value(text)
    if isinstance(default, bool):
        fits, expected = isinstance(value, bool), "True or False"
    elif isinstance(default, (int, float)):
        fits, expected = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)), "a number"
    elif isinstance(default, (list, tuple)):
        fits, expected = value is None or isinstance(value, list), "a list, in quotation marks"
    else:
        fits, expected = True, ""
    if not fits:
        raise Failure(f"The parameter '{name}' is {expected} (by default {default!r}); '{text}' is not.")


def share_parameters(pairs, notebooks):
    """`{notebook: [(name, text), ...]}`: each parameter goes to the chapters that have it, and at least one must."""
    known = {path: read_parameters(path) for path in notebooks}
    for name, text in pairs:
        holders = [path for path in notebooks if name in known[path]]
        if not holders:
            listed = "\n".join(
                f"  {path.stem}: " + ", ".join(f"{key}={value!r}" for key, value in known[path].items())
                for path in notebooks
            )
            raise Failure(f"There is no parameter '{name}' in what you run. The parameters are:\n{listed}")
        for path in holders:
            check_value(name, text, known[path][name])
    return {path: [(name, text) for name, text in pairs if name in known[path]] for path in notebooks}


# --- the environment


def venv_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint():
    """What the environment depends on: the requirements, Python's version and the platform."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return f"{digest} {sys.version_info[0]}.{sys.version_info[1]} {sys.platform}"


def is_ready():
    """True where an installation of just these requirements with this Python came to its end."""
    stamp = VENV / "installed.txt"
    return venv_python().exists() and stamp.exists() and stamp.read_text(encoding="utf-8").strip() == fingerprint()


def write_stamp():
    (VENV / "installed.tmp").write_text(fingerprint() + "\n", encoding="utf-8")
    os.replace(VENV / "installed.tmp", VENV / "installed.txt")


def is_usable():
    """True where `.venv` holds a working pip for this version of Python, be it from an installation that broke off."""
    code = "import pip, sys; print(*sys.version_info[:2])"
    try:
        found = subprocess.run([venv_python(), "-c", code], capture_output=True, text=True).stdout.split()
    except OSError:
        return False
    return found == [str(part) for part in sys.version_info[:2]]


def make_venv():
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        print(f"Making an environment in {VENV.name}/ ...", flush=True)
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
        if done.returncode == 0:
            return
        missing = [(done.stderr or done.stdout).strip().splitlines()[-1:] or "no reason given"]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise Failure(
        f"This Python cannot make a virtual environment ({missing[0]}). On Debian and Ubuntu: `sudo apt install"
        f" python{version}-venv`, then the same command again. With conda: see environment.yml, and `--here`."
    )


def explain_pip(log, free_gb):
    """Why pip failed, from its log (text), and what to do, as one or two sentences."""
    package = re.search(r"(?:Failed building wheel for|Failed to build) ['\"]?([\w.-]+)", log)
    package = package.group(1) if package else "a package"
    cases = [
        (
            r"No space left on device|Errno 28\b|WinError 112|disk quota exceeded",
            f"the disk is full ({free_gb:.1f} GB free; the packages need 3 GB, with CUDA 8 GB). Make room",
        ),
        (
            r"Python\.h: No such file|Python\.h' file not found",
            (
                f"{package} is built from source and lacks Python's headers. Debian and Ubuntu: `sudo apt install"
                " python3-dev`"
            ),
        ),
        (
            (
                r"Microsoft Visual C\+\+ .{0,20}is required|command '[^']*(?:cl|link)\.exe' failed|Unable to find"
                r" vcvarsall"
            ),
            (
                f"{package} is built from source and lacks a C compiler. Install Microsoft's C++ Build Tools (`Desktop"
                " development with C++`)"
            ),
        ),
        (
            r"xcrun: error|xcode-select|command '[^']*clang[^']*' failed",
            f"{package} is built from source and lacks a C compiler. Install Apple's: `xcode-select --install`",
        ),
        (
            r"command '[^']*(?:gcc|g\+\+|cc|c\+\+)[^']*' failed|(?:gcc|g\+\+|cc)['\"]?: (?:command not found|No such"
            r" file)"
            r"|No such file or directory: '[^']*(?:gcc|g\+\+|cc)'|unable to execute '?\S*(?:gcc|g\+\+|cc)",
            (
                f"{package} is built from source and lacks a C compiler. Debian and Ubuntu: `sudo apt install"
                " build-essential python3-dev`; Fedora: `sudo dnf install gcc gcc-c++ python3-devel`"
            ),
        ),
        (
            r"name resolution|Failed to resolve|getaddrinfo failed|nodename nor servname|new connection|Network is"
            r" unreachable"
            r"|Connection(?:Reset|Refused|Aborted)|Read timed out|Max retries"
            r" exceeded|ProxyError|CERTIFICATE_VERIFY_FAILED|IncompleteRead",
            "the package index could not be reached. Check the network (and the proxy)",
        ),
        (
            r"Permission denied|Errno 13\b|WinError 5\b",
            f"a file in {VENV.name}/ may not be written. Close what uses it, or delete the folder",
        ),
        (
            (
                r"No matching distribution found for ([^\s(]+)|Could not find a version that satisfies the requirement"
                r" ([^\s(]+)"
            ),
            "a package has no build for this Python and system. Try Python 3.11 to 3.13",
        ),
    ]
    for pattern, sentence in cases:
        found = re.search(pattern, log, re.IGNORECASE)
        if found:
            named = next((group for group in found.groups() if group), "")
            return f"{sentence}{f' ({named})' if named else ''}."
    errors = re.findall(r"ERROR: (.+)", log)
    return f"pip says: {errors[-1].strip()}" if errors else "pip gave no reason."


def install():
    """Install the requirements into `.venv`; a later call takes up what an earlier one left."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    log = VENV / "pip.log"
    log.unlink(missing_ok=True)
    print(
        "Installing requirements-lock.txt into .venv/ (once; 3 to 10 minutes, about 3 GB, with CUDA 8 GB) ...",
        flush=True,
    )
    arguments = ["-m", "pip", "install", "--disable-pip-version-check", "--log", str(log), "-r", str(REQUIREMENTS)]
    if call(venv_python(), *arguments):
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        raise Failure(
            f"The installation failed: {explain_pip(text, free_gb)}\n"
            f"Then run the same command again, and it goes on where it stopped. The full log: {log}"
        )
    write_stamp()


def read_names(name):
    """The packages that a list of requirements names, those of the list it brings along by `-r` among them."""
    text = (ROOT / name).read_text(encoding="utf-8")
    names = re.findall(r"^([A-Za-z0-9][\w.-]*)", text, re.MULTILINE)
    return [other for part in re.findall(r"^-r (\S+)", text, re.MULTILINE) for other in read_names(part)] + names


def missing_packages(python, names):
    """Those of `names` that this Python lacks; fast, as nothing is imported."""
    code = (
        "import importlib.metadata as m, sys\nfor n in sys.argv[1:]:\n"
        "    try: m.version(n)\n    except m.PackageNotFoundError: print(n)"
    )
    try:
        return subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"{python} is no Python that runs ({error}); WORKBOOK_PYTHON names it.") from None


def set_up(here=False, needs=DEV):
    """The Python to run with: `.venv`'s, made and filled where needed; this one (`here`); or the one WORKBOOK_PYTHON
    names. needs: the list of which an environment that is not `.venv` must have every package.
    """
    python = sys.executable if here else os.environ.get("WORKBOOK_PYTHON")
    if python:
        python = os.path.abspath(shutil.which(python) or python)
        missing = missing_packages(python, read_names(needs))
        if missing:
            raise Failure(f"{python} lacks {', '.join(missing)}: `{python} -m pip install -r {needs}`.")
        return Path(python)
    if not is_ready():
        if not is_usable():
            make_venv()
        install()
    return venv_python()


# --- running things


def environment(python, **more):
    """The variables a child sees: this environment's programs first, its own kernels, UTF-8 everywhere; and `more`.

    Threads of torch that wait for each other spin for a moment and then sleep (`WAITING`), unless the caller says
    otherwise.
    """
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    settings = {"PATH": path, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "JUPYTER_PREFER_ENV_PATH": "1", **more}
    defaults = {} if WAITING.keys() & os.environ.keys() else WAITING
    return {name: value for name, value in {**defaults, **os.environ, **settings}.items() if name != "PYTHONHOME"}


def stop(process):
    """End a child that Ctrl-C has perhaps reached already; an interrupt first, as that ends the child's own children
    too.
    """
    interrupt = process.terminate if os.name == "nt" else lambda: process.send_signal(signal.SIGINT)
    for end, seconds in ((lambda: None, 5), (interrupt, 15), (process.terminate, 10), (process.kill, None)):
        try:
            end()
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            pass


def call(python, *arguments, cwd=ROOT, **variables):
    """Run `python arguments` on this terminal to its end and return its exit code."""
    process = subprocess.Popen([str(python), *arguments], cwd=cwd, env=environment(python, **variables))
    try:
        return process.wait()
    except KeyboardInterrupt:
        stop(process)
        raise


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def fetch_voices(python):
    """Fill the cache of voices before the first chapter needs it. True where that worked."""
    print("Voices: fetching and decoding what the cache lacks (the first time 2 to 5 minutes) ...", flush=True)
    return call(python, "-c", FETCH) == 0


def sections(notebook, injected):
    """The heading each cell stands under; papermill adds a cell after the parameters where there are any."""
    found, heading = [], ""
    for kind, source, tags, _ in read_cells(notebook):
        if kind == "markdown":
            headings = re.findall(r"^#+ +(.+)$", source, re.MULTILINE)
            heading = headings[-1].strip() if headings else heading
        found += [heading] * (2 if injected and "parameters" in tags else 1)
    return found


class Progress:
    """Where a chapter stands, on one line of a terminal, or on a line a section elsewhere."""

    def __init__(self, name, headings):
        self.name, self.headings = name, headings
        self.started, self.cell, self.last, self.shown = time.time(), 0, "", None

    def read(self, line):
        """Take in a line of papermill's log: which cell it is at, or what the cell wrote."""
        at = re.match(r"Executing Cell (\d+)-", line)
        if at:
            self.cell, self.last = int(at.group(1)), ""
        elif line.strip() and self.cell and not line.startswith("Ending Cell"):
            self.last = line.strip()

    def show(self):
        heading = self.headings[self.cell - 1] if 0 < self.cell <= len(self.headings) else "starting"
        text = (
            f"  {self.name}  {clock(time.time() - self.started)}  cell {self.cell} of {len(self.headings)}  {heading}"
        )
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            line = f"{text}  | {self.last}" if self.last else text
            print("\r" + re.sub(r"[^ -~]", "?", line)[:width].ljust(width), end="", flush=True)
        elif heading != self.shown:
            print(re.sub(r"[^ -~]", "?", text), flush=True)
            self.shown = heading

    def close(self, outcome):
        text = f"  {self.name}  {clock(time.time() - self.started)}  {outcome}"
        width = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 0
        print(("\r" if width else "") + text.ljust(width), flush=True)


def watch(process, progress, log):
    """Follow papermill's output line by line into `log` and onto the terminal until it ends."""

    def follow():
        with open(log, "w", encoding="utf-8") as kept:
            for line in process.stdout:
                kept.write(line)
                progress.read(line)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    while process.poll() is None:
        progress.show()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    reader.join(10)


def explain_chapter(executed, log, code):
    """The cell a chapter failed in, its section and its last error line, as a sentence. code: papermill's exit code."""
    heading = ""
    for kind, source, _, outputs in read_cells(executed) if executed.exists() else []:
        if kind == "markdown":
            heading = (re.findall(r"^#+ +(.+)$", source, re.MULTILINE) or [heading])[-1]
        for output in outputs:
            if output["output_type"] == "error":
                reason = " ".join(f"{output['ename']}: {output['evalue']}".split())[:500]
                first = next((line for line in source.splitlines() if line.strip() and not line.startswith("#")), "")
                return f"in the section '{heading}', in the cell that begins `{first.strip()[:80]}`: {reason}"
    if code < 0:
        return f"because it was ended from outside, by signal {-code} (9: often too little memory)."
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return f"before or between its cells: {lines[-1] if lines else 'papermill said nothing'}"


def execute(python, notebook, parameters, out):
    """Run one notebook by papermill into the folder `out`; a Failure names the cell and where the notebook is kept."""
    executed, log = out / notebook.name, out / f"{notebook.stem}.log"
    command = [
        str(python),
        "-m",
        "papermill",
        str(notebook),
        str(executed),
        "--cwd",
        str(NOTEBOOKS),
        "--log-output",
        "--no-progress-bar",
    ]
    for name, text in parameters:
        value = read_value(text)
        command += ["-y", json.dumps({name: value})] if isinstance(value, list) else ["-p", name, text]
    progress = Progress(notebook.stem, sections(notebook, bool(parameters)))
    process = subprocess.Popen(
        command,
        cwd=NOTEBOOKS,
        env=environment(python),
        text=True,
        encoding="utf-8",
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        watch(process, progress, log)
    except KeyboardInterrupt:
        stop(process)
        progress.close(f"stopped; as far as it came: {executed}")
        raise
    progress.close("failed" if process.returncode else "done")
    if process.returncode:
        raise Failure(
            f"Chapter {notebook.stem} failed {explain_chapter(executed, log, process.returncode)}\n"
            f"The notebook as far as it came: {executed} (and its log, {log.name})"
        )


NO_ALT = "No description has been provided for this image"  # nbconvert's
OFFLINE = (  # without the state of widgets a page shows the plain HTML that is stored beside each (`listening.alive`)
    "--ClearMetadataPreprocessor.enabled=True",
    "--ClearMetadataPreprocessor.clear_cell_metadata=False",
    "--HTMLExporter.preprocessors=lib.listening.formulas.ToMathML",
    "--HTMLExporter.preprocessors=lib.listening.formulas.Folded",
)
BETWEEN_WORDS = "<style>pre { word-break: normal !important; overflow-wrap: anywhere !important }</style>\n"
FETCHED = r'<script[^>]* src="https://[^"]*/(require|jquery|mathjax)[^"]*"[^>]*>\s*</script>'


def export(python, out):
    """Write each executed notebook in `out` as HTML too;

    says so where that fails, as the notebooks are there anyway.
    """
    notebooks = sorted(str(path) for path in out.glob("*.ipynb"))
    if notebooks:
        done = subprocess.run(
            [str(python), "-m", "nbconvert", "--to", "html", "--log-level", "ERROR", *OFFLINE, *notebooks],
            cwd=NOTEBOOKS,
            env=environment(python, PYTHONPATH=str(Path(__file__).resolve().parent)),  # for `lib.listening`
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(f"The HTML export failed ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]}).")
            return
        for notebook in map(Path, notebooks):
            finish(notebook, notebook.with_suffix(".html"))


def finish(notebook, page):
    """Mend the HTML `page` of `notebook`: nbconvert's template leaves out the pictures' alt texts, and fetches scripts
    from the network that widgets and formulas alone would need, which stand in the page themselves;
    and it breaks long printed lines inside words.
    """
    outputs = [
        output
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {}) and "text/html" not in output["data"]
    ]
    described = re.sub(FETCHED, "", page.read_text("utf-8")).replace("</head>", f"{BETWEEN_WORDS}</head>", 1)
    for output in outputs:  # nbconvert says this of each picture, in the order of the notebook
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "A figure of this chapter.")
        described = described.replace(f'alt="{NO_ALT}"', f'alt="{html.escape(alt)}"', 1)
    page.write_text(described, encoding="utf-8")


def closing_table(path, since):
    """Chapter 3's summary as lines of text; empty where this run (begun at `since`, seconds) has not written it."""
    if not path.exists() or path.stat().st_mtime < since:
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["".join([" " * 23, *(f"{title:>11}" for title in COLUMNS.values())])]
    for row in rows:
        lines.append(f"{row.get('system', ''):23}" + "".join(f"{as_text(row.get(name), name):>11}" for name in COLUMNS))
    return lines


def as_text(cell, name):
    """A number of the closing table as it is shown: a share in percent, the rest with two digits."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return "-"
    if value != value:
        return "-"
    return f"{100 * value:.0f} %" if name.startswith("share") else f"{value:.2f}"


# --- the commands


def run_folder():
    """A new folder for one run, named by the second it began; of two begun in the same second the later waits for the
    next one.
    """
    while True:
        out = RUNS / time.strftime("%Y%m%d-%H%M%S")
        try:
            out.mkdir(parents=True)
            return out
        except FileExistsError:
            time.sleep(0.2)


def run(names, pairs, here=False):
    """Execute chapters in order, keep notebooks and HTML, and print what came of it. Returns the exit code."""
    notebooks = find_chapters(names)
    parameters = share_parameters(pairs, notebooks)
    started = time.time()
    python = set_up(here, CORE if all(path.name[:2] <= MAIN_JOB[-1] for path in notebooks) else EXTRAS)
    own_data = {"source", "root", "dataset"} & {name for name, _ in pairs}
    if (
        notebooks[0].name.startswith("01")
        and not own_data
        and not fetch_voices(python)
        and not (ROOT / "data" / "Dataset").exists()
    ):
        raise Failure("The voices could not be fetched; the lines above say why, and what to use instead.")
    out = run_folder()
    try:
        for notebook in notebooks:
            execute(python, notebook, parameters[notebook], out)
    except Failure:
        export(python, out)
        raise
    export(python, out)
    table = closing_table(RUNS / "03_evaluation" / "summary.csv", started)
    print(
        "\n".join(
            ["", *table, "", f"Took {clock(time.time() - started)} (min:s). Open {out / notebooks[-1].stem}.html"]
        )
    )
    return 0


def notebooks_run(report):
    """The notebooks that pytest's XML report says ran (passed or failed, not skipped), as names of files."""
    ran = set()
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "")
        if name.endswith(".ipynb") and case.find("skipped") is None:
            ran.add(name.replace("\\", "/").split("/")[-1])
    return ran


def not_run(reports):
    """The notebooks on disk that are in none of pytest's XML reports."""
    on_disk = {path.name for path in NOTEBOOKS.rglob("*.ipynb") if runs_here(path)}
    if not on_disk:
        raise Failure(f"There is no notebook in {NOTEBOOKS}.")
    return sorted(on_disk.difference(*map(notebooks_run, reports)))


def workers():
    """pytest's options for as many processes as pay in the tests of lib: two at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ["-n", "2"] if cores > 1 else []


def check_style(python):
    """ruff's findings, on the terminal; raises a Failure where there are any."""
    codes = [
        call(python, "-m", "ruff", *words, ".") for words in (["check", "--quiet"], ["format", "--check", "--quiet"])
    ]
    if any(codes):
        raise Failure("ruff found what stands above: `ruff check --fix .` and `ruff format .` mend most of it.")


def test(here=False):
    """The style of the code, the tests of lib, then every notebook: chapters 0 to 3 in order, as each reads what the
    one before made, and beside them the companions.

    Returns pytest's exit code, or 1 where ruff found something or a notebook did not run.
    """
    python = set_up(here)
    check_style(python)
    if not fetch_voices(python):
        print("The voices could not be fetched; what needs them will fail below.", flush=True)
    code = call(python, "-m", "pytest", *workers(), "tests", **ASLEEP)
    with tempfile.TemporaryDirectory() as folder:
        reports, commands = [], []
        for group in groups():
            reports.append(Path(folder) / f"{len(reports)}.xml")
            limit, report = f"--nbmake-timeout={SECONDS_A_CELL}", f"--junitxml={reports[-1]}"
            commands.append(["-m", "pytest", "--nbmake", *group, limit, report])
        code = side_by_side(python, commands, Path(folder) / "said.txt") or code
        if not all(report.exists() for report in reports):
            return code or 1
        missing = not_run(reports)
    if missing:
        raise Failure(f"Notebooks on disk that did not run: {', '.join(missing)}.")
    return code


def side_by_side(python, commands, said):
    """Run one or two commands of Python to their ends, at once where there are cores for that, and return an exit code
    that is 0 where both are. What the second says stands in the file `said` meanwhile and is shown at the end.
    """
    if len(commands) < 2 or not workers():
        return max([call(python, *command) for command in commands], default=0)
    with open(said, "w+", encoding="utf-8", errors="replace") as file:
        asleep = environment(python, **ASLEEP)
        second = subprocess.Popen([str(python), *commands[1]], cwd=ROOT, env=asleep, stdout=file)
        try:
            codes = [call(python, *commands[0], **ASLEEP), second.wait()]
        finally:
            stop(second)
        file.seek(0)
        print(file.read(), end="", flush=True)
    return max(codes, key=abs)


def groups():
    """The notebooks that `test` runs, in order, as one or two lists: chapters 0 to 3, each of which reads what the one
    before made, and the companions; with the solutions of each.
    """
    found = sorted((path for path in NOTEBOOKS.rglob("*.ipynb") if runs_here(path)), key=lambda path: path.name)
    parts = [[path for path in found if (path.name < "04") == first] for first in (True, False)]
    return [[path.relative_to(ROOT).as_posix() for path in part] for part in parts if part]


def runs_here(notebook):
    """Not a copy of Jupyter's own, and not a Korean chapter, which has the code of the English one."""
    return not {".ipynb_checkpoints", "ko"} & set(notebook.parts)


def lab(arguments, here=False):
    """JupyterLab on the project's folder, notebooks/ open; its own options may follow. Ctrl-C is left to Jupyter."""
    python = set_up(here)
    ours = {
        "--ServerApp.root_dir": ROOT,
        "--LabApp.default_url": "/lab/tree/notebooks",
        "--ServerApp.tornado_settings": {"websocket_max_message_size": UPLOAD_BYTES},
    }
    given = {word.split("=")[0] for word in arguments}
    options = [f"{name}={value}" for name, value in ours.items() if name not in given]
    command = [str(python), "-m", "jupyterlab", *options, *arguments]
    process = subprocess.Popen(command, cwd=NOTEBOOKS, env=environment(python))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            pass


def extract(arguments, here=False):
    """`python -m lib.evaluation.extract` with these arguments, in the folder that the caller is in.

    With `--everyone` no enrollment is given: `python -m lib.diarization.everyone` finds who speaks, a file a person.
    """
    python = set_up(here, CORE)
    # -P: a folder named lib where the caller is must not be taken for this one
    everyone = "--everyone" in arguments
    arguments = [argument for argument in arguments if argument != "--everyone"]
    module = "lib.diarization.everyone" if everyone else "lib.evaluation.extract"
    return call(python, "-P", "-m", module, *arguments, cwd=None, PYTHONPATH=str(ROOT))


# --- the cell for Google Colab

COLAB_CELL = """\
# @title Only on Google Colab: fetch the project and its packages (minutes, once). Elsewhere this cell does nothing.
import os
import subprocess
import sys

# where your copy of this project lives; `python3 workbook.py colab` writes it into all chapters
REPOSITORY = "{repository}"
if "google.colab" in sys.modules:
    if not os.path.isdir("/content/workbook"):
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "/content/workbook"], check=True)
    os.chdir("/content/workbook/notebooks")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-r", "../{requirements}"], check=True)"""
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["colab"]}  # in Colab, in JupyterLab


def colab_source(notebook, repository):
    """The code of the Colab cell of the notebook at this path."""
    requirements = CORE if Path(notebook).name[:2] <= MAIN_JOB[-1] else EXTRAS
    return COLAB_CELL.format(repository=repository, requirements=requirements)


def public_address(url):
    """A git address as anyone can clone it: by https, without a name or password; a Failure where there is none."""
    parts = r"(https?://|ssh://|git://)?(?:[^@/]*@)?([\w-]+(?:\.[\w-]+)+)(:\d+)?[:/]+([\w./~-]+?)/?"
    found = re.fullmatch(parts, url)
    if not found:
        raise Failure(f"'{url}' is not the address of a repository on the web. Give it: `workbook.py colab URL`.")
    scheme, host, port, path = found.groups(default="")
    return f"https://{host}{port if scheme.startswith('http') else ''}/{path}"


def colab(url=None):
    """Write the Colab cell, with the repository's address (git's `origin` by default), into all notebooks with one."""
    if url is None:
        done = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
        url = done.stdout.strip()
    address, written = public_address(url), 0
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if "colab" in cell["metadata"].get("tags", []):
                cell["source"] = colab_source(path, address).splitlines(keepends=True)
                cell["metadata"] = FOLDED
                text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
                path.with_suffix(".tmp").write_text(text, encoding="utf-8", newline="\n")
                os.replace(path.with_suffix(".tmp"), path)
                written += 1
    print(f"{address} stands in the Colab cell of {written} notebooks.")
    return 0


def read_arguments(arguments=None):
    """The command line as a namespace: command, here, and what the command takes: chapters and pairs, url, or rest."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="workbook.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "execute chapters (01 02 03 where none is named)"),
        ("extract", "MIX ENROLLMENT [ENROLLMENT ...]: one voice out of a recording; --help lists the options"),
        ("lab", "open JupyterLab; further options are Jupyter's"),
        ("test", "check the style, run the tests and every notebook"),
        ("colab", "write this repository's address, or URL, into the notebooks' cell for Google Colab"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name == "colab":
            command.add_argument("url", nargs="?", metavar="URL", help="https://...; without it git's `origin`")
            continue
        command.add_argument("--here", action="store_true", help="use the active environment (conda, Colab), not .venv")
        if name == "run":
            command.add_argument("chapters", nargs="*", metavar="CHAPTER", help="e.g. 02")
            command.add_argument(
                "-p",
                dest="pairs",
                nargs=2,
                action="append",
                default=[],
                metavar=("NAME", "VALUE"),
                help="set a parameter of the chapter, e.g. -p depth 2",
            )
    if arguments[:1] == ["extract"]:  # all that follows is for the program itself, in its order, --help too
        rest = [word for word in arguments[1:] if word != "--here"]
        return argparse.Namespace(command="extract", here=len(rest) < len(arguments) - 1, rest=rest)
    known, rest = parser.parse_known_args(arguments)
    if known.command == "run":  # chapters may stand before and after the parameters
        known.chapters += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest and known.command != "lab":
        parser.error(f"unknown: {' '.join(rest)}")
    known.rest = rest
    return known


def carry_out(known):
    """Do what the command line says and return the exit code."""
    if known.command == "lab":
        return lab(known.rest, known.here)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a `kill` ends the children too
    if known.command == "run":
        return run(known.chapters, known.pairs, known.here)
    if known.command == "extract":
        return extract(known.rest, known.here)
    return colab(known.url) if known.command == "colab" else test(known.here)


def main(arguments=None):
    known = read_arguments(arguments)
    try:
        return carry_out(known)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nA file or folder could not be used: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command takes up what is installed and fetched.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
