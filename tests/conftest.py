"""What all tests share: a cache of their own for made packages, and compiled code that parallel runs do not share."""

import os
import tempfile

import pytest

# numba (inside librosa) keeps compiled code on disk, and two processes that write there at once leave it broken
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["NUMBA_CACHE_DIR"] = os.path.join(
        tempfile.gettempdir(), f"workbook-numba-{getattr(os, 'getuid', int)()}-{worker}"
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(tmp_path, cache, monkeypatch):
    """A cache of its own, and a pip that looks for packages in `tmp_path/packages` alone, which is returned."""
    (tmp_path / "packages").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path / "packages"
