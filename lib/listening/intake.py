"""What a reader brings to a chapter: files that are uploaded, or a recording made on the spot."""

import contextlib
import html
import warnings

import ipywidgets
from IPython.display import HTML, display

from lib.audio import AudioError, rms_db
from lib.listening.recording import SR, Recorder
from lib.listening.sound import read_bytes
from lib.listening.widgets import alive

KINDS = ".wav,.flac,.mp3,.ogg,.m4a,.opus,.aac,.webm"
SILENT_DB = -85.0  # dBFS; below it only the dither of 16 bits is left
LARGEST_UPLOAD = "100 MB with <code>python3 workbook.py lab</code>, 7 MB in a Jupyter with default settings"


class Intake:
    """One thing that a reader brings: an upload button, a recorder beside it, and a line that says what has come.

    name: what it is. seconds: the longest recording. several: files and recordings add up; else the last one counts.
    `.widget` is displayed; `.waves()` gives label -> wave `(samples,)` at 16 kHz.
    """

    def __init__(self, name, seconds=20, several=False):
        self.name, self.several = name, several
        self.field = ipywidgets.FileUpload(accept=KINDS, multiple=several, description=name, layout={"width": "auto"})
        self.recorder = Recorder(label=f"record {name}", seconds=seconds)
        self.facts, self.files, self.recorded = ipywidgets.HTML(), {}, {}
        self.field.observe(self._uploaded, names="value")
        if self.recorder.has_trait("pcm"):  # not where anywidget is missing
            self.recorder.observe(self._heard, names="pcm")
        self._say()
        self.widget = ipywidgets.VBox([ipywidgets.HBox([self.field, self.recorder]), self.facts])

    def waves(self):
        """Label -> wave of all that came. Raises `AudioError` where nothing did, and for a file that is no audio."""
        came = {**self.files, **self.recorded}
        if not came:
            raise AudioError(f"Choose a file for: {self.name}, or record it.")
        for wave, _ in came.values():
            if isinstance(wave, AudioError):
                raise wave
        return {name: wave for name, (wave, _) in came.items()}

    def latest(self, otherwise=None):
        """The wave that came last, `(samples,)`; `otherwise` before any did, and where the last file is no audio."""
        came = [wave for wave, _ in {**self.files, **self.recorded}.values()]
        return otherwise if not came or isinstance(came[-1], AudioError) else came[-1]

    def on_arrival(self, function):
        """Call `function()` whenever a file or a recording has come."""
        self.field.observe(lambda _: function(), names="value")
        if self.recorder.has_trait("pcm"):
            self.recorder.observe(lambda _: function(), names="pcm")

    def _uploaded(self, _):
        self.files = {name: _read(content, name) for content, name in uploads(self.field)}
        if not self.several:
            self.recorded = {}
        self._say()

    def _heard(self, _):
        wave = self.recorder.wave
        if wave is None:
            return
        if not self.several:
            self.files, self.recorded = {}, {}
        self.recorded[f"recording {len(self.recorded) + 1}"] = wave, f"{len(wave) / SR:.1f} s{_if_silent(wave)}"
        self._say()

    def _say(self):
        came = [f"{html.escape(name)}, {facts}" for name, (_, facts) in {**self.files, **self.recorded}.items()]
        self.facts.value = f"{self.name}: {'; '.join(came) or 'nothing chosen yet'}"


def _read(content, name):
    """The wave of an uploaded file and its size and seconds in words, or the error in place of the wave."""
    size = f"{len(content) / 1e6:.2f} MB"
    try:
        with _warned() as said:
            wave = read_bytes(content, name)
    except AudioError as error:
        return error, f"{size}, <b>{html.escape(str(error))}</b>"
    return wave, f"{size}, {len(wave) / SR:.1f} s{_if_silent(wave)}{''.join(f', {html.escape(one)}' for one in said)}"


def _if_silent(wave):
    return ", <b>silent: was the microphone on?</b>" if rms_db(wave) < SILENT_DB else ""


@contextlib.contextmanager
def _warned():
    """The warnings of a stretch of code as a list of sentences: printed, they would be red bars, or lie in a log."""
    sentences = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield sentences
    for one in caught:
        if one.category is UserWarning:
            sentences.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def uploads(field):
    """`(content, name)` of each file in an upload field: ipywidgets 8 keeps a tuple, 7 (as on Colab) a dict by name."""
    if isinstance(field.value, dict):
        return [(file["content"], name) for name, file in field.value.items()]
    return [(file["content"], file["name"]) for file in field.value]


def upload(run, *names, press, seconds=20, several=False):
    """A field to upload or record for each of `names`, and the button `press` that displays what `run` returns.

    run: takes a wave `(samples,)` at 16 kHz a name, or with `several` a dict label -> wave a name.
    What has come is said at once: name, size and seconds, or why it cannot be used.
    """
    intakes = [Intake(name, seconds, several) for name in names]
    button, output = ipywidgets.Button(description=press, button_style="primary"), ipywidgets.Output()

    def on_click(_):
        button.disabled, button.description = True, "at work"  # a second press would wait behind the first
        try:
            answer()
        finally:
            button.disabled, button.description = False, press

    def answer():
        output.clear_output()
        with output:
            try:
                waves = [intake.waves() for intake in intakes]
                with _warned() as said:
                    shown = run(*(waves if several else [next(iter(one.values())) for one in waves]))
                for sentence in said:
                    display(HTML(f"<p><b>Note:</b> {html.escape(sentence)}</p>"))
                display(shown)
            except ValueError as error:
                display(HTML(f"<p><b>This does not work:</b> {html.escape(str(error))}</p>"))

    button.on_click(on_click)
    limit = ipywidgets.HTML(f"<small>Files up to {LARGEST_UPLOAD} arrive.</small>")
    box = ipywidgets.VBox([*(intake.widget for intake in intakes), ipywidgets.HBox([button, limit]), output])
    alive(box, f"<p>In a running notebook you upload or record here: {', '.join(names)}.</p>")


def upload_pair(run):
    """Mixture and enrollment, uploaded or recorded, and a button that displays what `run(mix, enrollment)` returns."""
    upload(run, "mixture", "enrollment", press="extract")
