"""A run's folder: what was asked, what happened, the best weights, and where to go on after an interruption.

    results/runs/<name>/settings.json   settings, seed, git commit, versions, device, seconds, whether it finished
                        history.csv     a row an epoch; epoch 0 is the model as it came in
                        best/           the weights with the lowest validation loss, by save_pretrained
                        checkpoint-N/   everything needed to go on after step N; only while the run is unfinished

Every file is written beside its place and then moved there, so a kill or a full disk leaves the earlier one whole.
"""

import contextlib
import csv
import gc
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
import textwrap
import time
import zlib
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pandas")


class RunError(ValueError):
    """A run's folder cannot be used as asked; the message names it and says what to do."""


def place(path):
    """The one rule for paths that a person gives: `~` is the home folder, and what is not absolute lies under the
    project's root.

    A number stays the text it was (`-p root 2024`), as does `None` as a text; blanks and quotes around are taken off.
    """
    if not isinstance(path, (str, os.PathLike, int, float)) or isinstance(path, bool):
        raise RunError(f"{path!r} is no path. Give the name of a file or folder.")
    text = str(path).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    try:
        return ROOT / Path(text).expanduser()
    except RuntimeError as error:  # ~somebody, who is not known here
        raise RunError(f"{text}: the home folder in it is not known here. Write the path in full.") from error


def check_paths(**given):
    """Raises `RunError` for the first path parameter that was given and is not there: said at a notebook's start, not
    after minutes of work.
    """
    for name, path in given.items():
        try:
            there = not path or place(path).exists()
        except OSError:  # a name that no disk takes, such as one of 300 letters
            there = False
        if not there:
            raise RunError(f"{name}: {place(path)}: no such file or folder. Correct the parameter `{name}`.")


def fingerprint(module):
    """A short number of a module's weights and buffers: equal only for equal ones (what cached features are filed
    under).
    """
    return zlib.crc32(
        b"".join(tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in module.state_dict().values())
    )


def describe():
    """What a run was made with: git commit, whether files differed from it, versions, machine."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    versions["torch"] = torch.__version__  # with what it was built for, which the package's own number may leave out
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": versions,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git(*arguments):
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_text(path, text):
    """Write `text` to `path`, whole or not at all. Raises `RunError`, naming the file, when it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".part-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(part, 0o644)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}). Is the disk full, or the folder read-only?"
        ) from error


def write_json(path, data):
    """Write `data` as JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def read_json(path):
    """Read a JSON file. Raises `RunError`, naming it, when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: not a run's settings ({error}). Give another folder, or delete this one.") from error


def write_history(path, rows):
    """Write the rows (dicts) as CSV; the numbers read back bit-equal."""
    write_text(path, pd.DataFrame(rows).to_csv(index=False))


def read_history(path):
    """The rows that `write_history` wrote, as a DataFrame."""
    with open(path, encoding="utf-8", newline="") as file:  # pandas' own reader is not exact in every version
        rows = [
            {name: float(value) if value else float("nan") for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return pd.DataFrame(rows).astype({"epoch": int})


def save_model(model, folder, weights=None):
    """Save `model` into `folder` (`save_pretrained` where it has one, else its state dict), file by file, each whole or
    not at all. weights: name -> tensor, in place of those that the model holds now.

    The config goes first and the weights last: within one run the config never changes, so a kill between the two still
    leaves a
    folder that loads. Raises `RunError`, naming the folder, when it cannot be written; the earlier files are then
    untouched.
    """
    folder = Path(folder)
    stage = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        if hasattr(model, "save_pretrained"):
            with no_bars():
                model.save_pretrained(stage, **{} if weights is None else {"state_dict": weights})
        else:
            from safetensors.torch import save_file

            save_file(
                {name: one.detach().cpu().contiguous() for name, one in (weights or model.state_dict()).items()},
                stage / "model.safetensors",
            )
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(stage.iterdir(), key=lambda file: file.suffix in (".safetensors", ".bin")):
            _to_disk(file)
            os.replace(file, folder / file.name)
    except Exception as error:  # the writers of weights raise their own kinds, not only OSError
        raise RunError(
            f"{folder}: the weights could not be written ({error}). Free some disk space; "
            "what was there before is still whole."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def no_bars():
    """Without transformers' own bar for writing a single file, which would stand in a notebook once an epoch."""
    from transformers.utils import logging

    there = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if there:
            logging.enable_progress_bar()


def _to_disk(file):
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def load_weights(model, folder):
    """Put the weights that `save_model` wrote into `model`, bit by bit.

    Raises `RunError` when they are missing or do not fit.
    """
    from safetensors.torch import load_file

    file = Path(folder) / "model.safetensors"
    try:
        model.load_state_dict(load_file(str(file)))
    except Exception as error:
        raise RunError(
            f"{file}: cannot be loaded into {type(model).__name__} ({str(error)[:300]}). Is it of another model?"
        ) from error


def last_checkpoint(out):
    """The newest checkpoint folder of the run `out`, or None."""
    found = [folder for folder in Path(out).glob("checkpoint-*") if folder.name.split("-")[1].isdigit()]
    return max(found, key=lambda folder: int(folder.name.split("-")[1]), default=None)


def remove_checkpoints(out, but=None):
    """Delete the checkpoints of the run `out`, except the folder `but`."""
    for folder in Path(out).glob("checkpoint-*"):
        if folder != but:
            shutil.rmtree(folder, ignore_errors=True)


def say(*words, width=85):
    """Print `words` with lines broken between words: a notebook's own break falls inside them."""
    print("\n".join(textwrap.fill(line, width) for line in " ".join(map(str, words)).split("\n")))


def set_aside(out):
    """Move an existing run out of the way, to `<name>-before-<time>` beside it; returns the new place, or None if there
    was none.
    """
    out = Path(out)
    if not out.exists():
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(out.stat().st_mtime))
    place = next(
        place
        for n in range(1000)
        if not (place := out.with_name(f"{out.name}-before-{stamp}" + f"-{n}" * bool(n))).exists()
    )
    os.replace(out, place)
    return place


def hand_back_memory():
    """Return freed memory to the system where the C library can (Linux); elsewhere nothing happens."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Measure the memory, in MB, that a stretch of code takes on top of what was there: `with PeakMemory(device) as
    peak: ...; peak.mb`.

    On a GPU: PyTorch's own peak of allocated memory, weights included. On a CPU: growth of the process's resident
    memory, sampled
    every 10 ms, after handing freed memory back to the system where the C library can.
    """

    def __init__(self, device):
        self.device, self.mb = torch.device(device), float("nan")

    def __enter__(self):
        if self.device.type == "cuda":
            gc.collect()  # what an earlier training left in circles (its optimizer) still takes memory
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._start_sampling()
        return self

    def __exit__(self, *exception):
        if self.device.type == "cuda":
            self.mb = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self._stop.set()
            self._thread.join()
            self.mb = (self._peak - self._base) / 2**20

    def _start_sampling(self):
        import threading

        import psutil  # accelerate brings it

        gc.collect(1)  # young objects alone: a full search takes a second where much is loaded
        hand_back_memory()
        process, self._stop = psutil.Process(), threading.Event()
        self._base = self._peak = process.memory_info().rss

        def sample():
            while not self._stop.wait(0.01):
                self._peak = max(self._peak, process.memory_info().rss)

        self._thread = threading.Thread(target=sample, daemon=True)
        self._thread.start()
