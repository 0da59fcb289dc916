"""Settings for pytest that hold both for `tests` and for `pytest --nbmake notebooks`."""

import os

NBMAKE_DEFAULT = 300
SECONDS_A_CELL = 3600  # a comparison of fine-tuning strategies on a slow laptop takes longer than nbmake's default

# as `workbook.py` does, before torch is loaded: threads that spin while they wait take the cores of the other workers
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config):
    """Give a notebook's cell more time than nbmake does, unless `--nbmake-timeout` asks for another."""
    if getattr(config.option, "nbmake_timeout", None) == NBMAKE_DEFAULT:
        config.option.nbmake_timeout = SECONDS_A_CELL
