"""Hear and see waves in a notebook: small players, spectrograms on one scale, widgets that pick a sample, take a file
or record.

Waves are float32 `(samples,)` in [-1, 1] at `sr` Hz (numpy or torch). Everything displayed also means something in a
stored notebook, where no kernel runs.
"""

from IPython import get_ipython
from IPython.display import HTML

from lib.listening.intake import Intake, upload, upload_pair
from lib.listening.pictures import describe_figures, picture, picture_html, sample_view, spectrograms
from lib.listening.recording import Recorder
from lib.listening.sound import (
    ALONE,
    LEVEL_NOTE,
    NEEDS_SCRIPTS,
    PLAYER,
    download_link,
    encode,
    in_order,
    player,
    players,
    read_bytes,
    through_formats,
    write_m4a,
)
from lib.listening.widgets import alive, pick_sample, put, sort_table

if get_ipython() is not None:  # in a notebook: every figure of a chapter has alt text
    describe_figures(get_ipython())

__all__ = [
    "ALONE",
    "HTML",
    "LEVEL_NOTE",
    "NEEDS_SCRIPTS",
    "PLAYER",
    "Intake",
    "Recorder",
    "alive",
    "download_link",
    "encode",
    "in_order",
    "pick_sample",
    "picture",
    "picture_html",
    "player",
    "players",
    "put",
    "read_bytes",
    "sample_view",
    "sort_table",
    "spectrograms",
    "through_formats",
    "upload",
    "upload_pair",
    "write_m4a",
]
