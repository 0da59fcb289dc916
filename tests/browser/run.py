"""Drive JupyterLab in headless Chromium through chapters, as a reader would: `python tests/browser/run.py 00 05`.

Without numbers: all chapters. `-p epochs 1` sets a parameter, as a line of the notebook's own cell. Needs
Chromium, node and npm (playwright-core is installed into a temporary folder) and the packages of the virtual
environment it is started with. Where one of them is missing it says which, and skips: exit status 0. It fails, exit
status 1, on an error of the page's console, an output on stderr, an empty player, a widget that does nothing, an upload
or a recording that does not arrive, a page loaded anew whose widgets are dead, and an exported page that wants the
network or is wider than a telephone. Pictures and `report.json` lie in the folder that the last line names.
"""

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

inputs = importlib.import_module("inputs")  # beside this file
ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent
PLAYWRIGHT = "playwright-core@1.65.1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SETTINGS = {  # of JupyterLab: every cell in the page, and no question about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
UPLOAD_LIMIT = 256 << 20  # of a message: as `workbook.py lab` sets it


def copy_of_the_project(folder, parameters):
    """The whole project but its environment, copied, so that what the chapters write and JupyterLab saves changes
    nothing here; `parameters` (name -> value) are set in the chapters that have them.
    """
    place = folder / "workbook"
    skipped = shutil.ignore_patterns(".git", ".venv", ".ipynb_checkpoints", "__pycache__", "*-before-*")
    shutil.copytree(ROOT, place, ignore=skipped)
    for notebook in (place / "notebooks").glob("*.ipynb"):
        content = json.loads(notebook.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                text = "".join(cell["source"])
                mine = [f"{name} = {value}" for name, value in parameters.items() if f"\n{name} = " in f"\n{text}"]
                cell["source"] = "\n".join([text, *mine])
        notebook.write_text(json.dumps(content), encoding="utf-8")
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    return place


def start_lab(place, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--ServerApp.port": port,
        "--ServerApp.root_dir": place,
        "--IdentityProvider.token": "reader",
        "--ServerApp.tornado_settings": {"websocket_max_message_size": UPLOAD_LIMIT},
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    log = open(folder / "lab.log", "w")  # noqa: SIM115 - the process keeps it
    process = subprocess.Popen(
        [*command, *(f"{name}={value}" for name, value in options.items())],
        cwd=place / "notebooks",
        env={
            **os.environ,
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),  # else the tabs of an earlier run come back
        },
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"{address}/api/status?token=reader", timeout=5)
            return process, address
        except OSError:
            if process.poll() is not None:
                break
    raise SystemExit(f"JupyterLab did not start; see {folder / 'lab.log'}")


def export(chapters, folder):
    """The stored chapters as HTML, as `workbook.py run` exports them."""
    (folder / "html").mkdir()
    for name in chapters:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder / "html")
    sys.path.insert(0, str(ROOT))
    workbook = importlib.import_module("workbook")
    workbook.export(Path(sys.executable), folder / "html")


def sentences(name):
    """How many sentences stand in the stored chapter for what is dead until it has run (widgets, links)."""
    content = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", [])]
    shown = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    return len(re.findall("In a running notebook|This does nothing until", shown))


def asked(words):
    """The chapters' numbers, and after each `-p` a name and a value, written as in a notebook."""
    numbers, parameters, words = [], {}, iter(words)
    for word in words:
        if word == "-p":
            name, value = next(words), next(words)
            parameters[name] = value
        else:
            numbers.append(word)
    return numbers, parameters


def main(words):
    numbers, parameters = asked(words)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    for name, found in (("Chromium", browser), ("node", shutil.which("node")), ("npm", shutil.which("npm"))):
        if not found:
            print(f"skipped: {name} is not installed, and the chapters are driven with it.")
            return 0
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    chapters = [name for name in chapters if not numbers or name[:2] in numbers]
    if not chapters:
        print(f"no chapter begins with {' or '.join(numbers)}")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="browser-"))
    done = subprocess.run(["npm", "install", "--prefix", folder, PLAYWRIGHT], capture_output=True, text=True)
    if done.returncode:
        print(f"skipped: npm cannot install {PLAYWRIGHT} ({done.stderr.strip().splitlines()[-1:]}).")
        return 0
    settings = {
        "browser": browser,
        "out": str(folder),
        "chapters": chapters,
        "widgets": {name: sentences(name) for name in chapters},
        "microphone": inputs.sound(folder / "microphone.wav", 10, 48000),
        "inputs": inputs.make(folder),
        "good": str(folder / "good.wav"),
        "large": inputs.sound(folder / "large.wav", 208, 48000, 2),  # 40 MB
    }
    export(chapters, folder)
    process, settings["address"] = start_lab(copy_of_the_project(folder, parameters), folder)
    try:
        environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
        return subprocess.run(["node", HERE / "drive.js", json.dumps(settings)], env=environment).returncode
    finally:
        process.terminate()
        process.wait(30)
        print(f"pictures and report: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
