"""Where voices come from: one table for all sources, one row a recording. (The sources' own columns may follow.)

`speaker, path, seconds, source, language, licence`; `debian` also has `sex` (F, M, C child, ? unknown) and `split`.
"""
from lib.data import debian as _debian
from lib.data.debian import VoicesError, background_music  # noqa: F401  (part of this module's interface)


def load(source="auto", root=None, progress=True):
    """The table of voices of `source`."""
    if source in ("auto", "debian"):
        return debian(progress)
    raise VoicesError(f"unknown source {source!r}")


def debian(progress=True):
    return _debian.load(progress)
