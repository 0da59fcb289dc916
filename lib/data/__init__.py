"""Where voices come from, how speakers are split, and how mixtures are made. Knows nothing of models."""

import os
from pathlib import Path


def cache_dir():
    """The folder for downloads and decoded voices: `WORKBOOK_CACHE` where it is set, else the user's cache. Made if
    missing.
    """
    path = Path(os.environ.get("WORKBOOK_CACHE") or _usual()).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _usual():
    try:
        import platformdirs
    except ImportError:  # a bare GPU machine
        return "~/.cache/cocktail-party-workbook"
    return platformdirs.user_cache_dir("cocktail-party-workbook", appauthor=False)
