"""Where voices come from, how speakers are split, and how mixtures are made. Knows nothing of models."""
import os
from pathlib import Path

import platformdirs


def cache_dir():
    """The folder for downloads and decoded voices: `WORKBOOK_CACHE` where it is set, else the user's cache. Made if missing."""
    folder = os.environ.get("WORKBOOK_CACHE") or platformdirs.user_cache_dir("cocktail-party-workbook", appauthor=False)
    path = Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path
