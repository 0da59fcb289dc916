"""Record from the browser's microphone: one small widget, in JupyterLab, Colab and VS Code. What is recorded
goes to the machine that runs the notebook, and nowhere else.
"""

from pathlib import Path

import ipywidgets
import numpy as np
import traitlets

try:
    import anywidget
except ModuleNotFoundError:
    anywidget = None

SR = 16000  # Hz, of what arrives
MISSING = "Recording needs the package anywidget (pip install anywidget). Record with any other program, and upload."


class _Heard:
    @property
    def wave(self):
        """What was recorded last, float32 `(samples,)` in [-1, 1] at 16 kHz; None before anything was."""
        return np.frombuffer(bytes(self.pcm), "<f4").copy() if len(self.pcm) else None


if anywidget:

    class Recorder(_Heard, anywidget.AnyWidget):
        """A button, a level meter, a countdown, and what was recorded to hear; a second press records again.

        label: what is recorded, in the button's words. seconds: the longest recording. `.wave` is what came, and
        `.observe(function, names="pcm")` tells when. Without a microphone or the permission it says so in a sentence.
        """

        _esm = Path(__file__).with_name("recorder.js")
        label = traitlets.Unicode("record").tag(sync=True)
        seconds = traitlets.Float(20.0).tag(sync=True)
        pcm = traitlets.Any(b"").tag(sync=True)  # float32, little endian: bytes, and from the page a memoryview

else:

    class Recorder(_Heard, ipywidgets.HTML):
        """Stands where anywidget is not installed: a sentence that says so."""

        def __init__(self, label="record", seconds=20.0):
            super().__init__(f"<small>{MISSING}</small>")
            self.label, self.seconds, self.pcm = label, seconds, b""
