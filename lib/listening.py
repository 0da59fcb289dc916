"""Hear and see waves in a notebook: small players, spectrograms on one scale, widgets that pick a sample or take a
file.

Waves are float32 `(samples,)` in [-1, 1] at `sr` Hz (numpy or torch). Nothing here plays by itself, and no player is
made louder than another: only where a wave exceeds full scale are all the waves shown together turned down, by one
gain. Everything returned also means something in a stored notebook, where no kernel runs.
"""

import base64
import html
import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import soundfile
from IPython.display import HTML, Image, display

from lib import audio

MP3_LEVEL = 0.85  # libsndfile's scale from 0 (best) to 1 (smallest): 32 kbit/s for 16 kHz mono, 20 kB for 5 s
FLOOR_DB = -60.0  # the darkest colour of a spectrogram, in dB relative to the loudest bin of the row of waves
COLOUR_STEPS = 20  # 3 dB a step: fewer colours make a stored picture several times smaller
PLAYER = "height:32px;width:280px;max-width:60vw;display:block"  # low enough that five and their picture fit a screen
ALONE = "for (const one of document.querySelectorAll('audio')) if (one !== this) one.pause()"  # one sounds at a time
LARGEST_UPLOAD = "100 MB with `python3 workbook.py lab`, 7 MB in a Jupyter with default settings"
LEVEL_NOTE = "Levels as they are: nothing is normalised between the players."


def in_order(mix=None, enrollment=None, estimates=None, reference=None):
    """The book's fixed order as a dict label -> wave: mixture, enrollment, the estimates (a dict or one wave),
    reference.
    """
    if estimates is not None and not isinstance(estimates, dict):
        estimates = {"estimate": estimates}
    waves = {"mixture": mix, "enrollment": enrollment, **(estimates or {}), "reference": reference}
    return {label: wave for label, wave in waves.items() if wave is not None}


def encode(wave, sr=16000, kind="mp3"):
    """`wave` `(samples,)` as the bytes of a small MP3 (plays in every browser), or of a lossless `flac`.

    Raises `AudioError` for an empty wave and for NaN. A wave above full scale is clipped: scale it before.
    """
    wave = _numpy(wave)
    if wave.ndim != 1 or not wave.size:
        raise audio.AudioError(f"a player takes a wave (samples,) that is not empty; got the shape {wave.shape}.")
    if not np.isfinite(wave).all():
        raise audio.AudioError("the wave holds NaN or infinite samples; it cannot be played.")
    buffer = io.BytesIO()
    wave = np.clip(wave, -1.0, 1.0)
    if kind == "flac":
        soundfile.write(buffer, wave, sr, format="FLAC", subtype="PCM_16")
    else:
        soundfile.write(
            buffer,
            wave,
            sr,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=MP3_LEVEL,
            bitrate_mode="CONSTANT",
        )
    return buffer.getvalue()


def player(wave, sr=16000, label=""):
    """One labelled player of `wave` `(samples,)` at `sr` Hz, compressed; it never starts by itself."""
    return players({label: wave}, sr, note="")


def players(waves, sr=16000, note=LEVEL_NOTE):
    """A row a wave: label, player, RMS level and seconds, in the order of the dict `waves` (label -> wave
    `(samples,)`).
    """
    return HTML(_players_html(waves, sr, note))


def spectrograms(waves, sr=16000, n_fft=512, hop=256, columns=3, floor_db=FLOOR_DB, width=9.0, row_height=1.9):
    """Magnitude spectrograms of the dict `waves` (label -> wave) in rows of `columns`; one dB scale, one time scale,
    kHz.

    0 dB is the loudest bin among all the waves shown, so a fainter wave looks fainter. Returns a picture to display: a
    PNG of
    few colours (its bytes are in `.data`), because figures in full colour would fill a stored notebook.
    """
    figure = _spectrogram_figure(waves, sr, n_fft, hop, columns, floor_db, width, row_height)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return Image(_few_colours(buffer), format="png", alt=_alt(waves))


def picture(figure, alt, width=None):
    """A matplotlib `figure` as a small PNG to display, with `alt`, a sentence that says what there is to see.

    width: of the picture on the page, in px; default its own. The figure is closed.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return Image(_few_colours(buffer), format="png", alt=alt, width=width)


def _few_colours(buffer):
    small = io.BytesIO()
    PIL.Image.open(buffer).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _alt(waves):
    return f"Spectrograms, time against frequency, of: {', '.join(map(str, waves))}."


def sample_view(waves, sr=16000, title="", note=LEVEL_NOTE, columns=3):
    """Title, players and spectrograms of `waves` (label -> wave) in one piece of HTML that a widget can replace as a
    whole.
    """
    shown = _picture_html(spectrograms(waves, sr, columns=columns), _alt(waves))
    heading = f"<p><b>{html.escape(title)}</b></p>" if title else ""
    return HTML(heading + _players_html(waves, sr, note) + shown)


def pick_sample(table, show, column="si_sdri", unit="dB", start="worst", seed=0):
    """Buttons best, worst, random and a field for the index; `show(index)` returns what is displayed for that sample.

    `table` is a DataFrame with the columns `index` and `column` (higher is better). The start sample is displayed as
    plain output, so a stored notebook shows and plays it without a kernel; in a running notebook the buttons replace
    it.
    Returns nothing. Raises `ValueError` for an empty table or an unknown `start`.
    """
    import ipywidgets

    choices = _choices(table, column, np.random.default_rng(seed))
    if start not in choices:
        raise ValueError(f"start: expected one of {', '.join(choices)}; got {start!r}.")
    scores, first = table.set_index("index")[column], int(choices[start]())
    field = ipywidgets.BoundedIntText(
        first, min=int(scores.index.min()), max=int(scores.index.max()), description="index"
    )
    buttons = [ipywidgets.Button(description=name) for name in choices]

    def view(index, why):
        if index not in scores.index:
            return HTML(f"<p>There is no sample with the index {index} in this table.</p>")
        caption = f"<p>Sample {index} ({html.escape(why)}): {column} {scores[index]:.2f} {unit}.</p>"
        return HTML(caption + _as_html(show(index)))

    def on_click(button):
        index = int(choices[button.description]())
        field.unobserve(on_type, names="value")  # the field follows the buttons without a second update
        field.value = index
        field.observe(on_type, names="value")
        handle.update(view(index, button.description))

    def on_type(change):
        handle.update(view(change["new"], "by index"))

    for button in buttons:
        button.on_click(on_click)
    field.observe(on_type, names="value")
    display(ipywidgets.HBox([*buttons, field]))
    display(
        HTML(f"<p>Stored here: the {start} sample. In a running notebook the buttons and the field choose another.</p>")
    )
    handle = display(view(first, start), display_id=True)


def sort_table(table, columns, by, digits=2, rows=10):
    """A table that sorts: choose the column and the direction; the first `rows` rows show. Sorted by `by`, worst first,
    when stored.
    """
    import ipywidgets

    columns = list(columns)
    chooser = ipywidgets.Dropdown(options=columns, value=by, description="sort by")
    falling = ipywidgets.Checkbox(False, description="largest first")

    def view():
        ordered = table.sort_values(chooser.value, ascending=not falling.value, na_position="last")
        note = (
            f"<p><small>{min(rows, len(table))} of {len(table)} rows, sorted by"
            f" {html.escape(chooser.value)}.</small></p>"
        )
        return HTML(ordered[columns].head(rows).round(digits).to_html(index=False, border=0, na_rep="–") + note)

    for control in (chooser, falling):
        control.observe(lambda _: handle.update(view()), names="value")
    display(ipywidgets.HBox([chooser, falling]))
    handle = display(view(), display_id=True)


def upload_pair(run, accept=".wav,.flac,.mp3,.ogg,.m4a,.opus,.aac,.webm"):
    """Two upload fields, mixture and enrollment, and a button that displays what `run(mix, enrollment)` returns (16 kHz
    mono). What was chosen is shown at once: name, size and seconds, or why it cannot be used.
    """
    import ipywidgets

    fields = {
        name: ipywidgets.FileUpload(accept=accept, multiple=False, description=name)
        for name in ("mixture", "enrollment")
    }
    button, output = ipywidgets.Button(description="extract", button_style="primary"), ipywidgets.Output()
    facts = ipywidgets.HTML()

    def say(_=None):
        rows = [f"{name}: {_chosen(field.value)}" for name, field in fields.items()]
        facts.value = "<br>".join([*rows, f"<small>Files up to {LARGEST_UPLOAD} arrive.</small>"])

    def on_click(_):
        output.clear_output()
        with output:
            if missing := [name for name, field in fields.items() if not field.value]:
                display(HTML(f"<p>Choose a file for: {', '.join(missing)}.</p>"))
                return
            try:
                display(run(*(read_bytes(*uploads(field)[0]) for field in fields.values())))
            except ValueError as error:
                display(HTML(f"<p><b>This does not work:</b> {html.escape(str(error))}</p>"))

    button.on_click(on_click)
    for field in fields.values():
        field.observe(say, names="value")
    say()
    display(ipywidgets.HBox([*fields.values(), button]), facts, output)


def _chosen(value):
    """What an upload field holds, in words, as HTML."""
    if not value:
        return "nothing chosen yet"
    name, content = value[0]["name"], value[0]["content"]
    try:
        seconds = f"{len(read_bytes(content, name)) / 16000:.1f} s"
    except ValueError as error:
        seconds = f"<b>{html.escape(str(error))}</b>"
    return f"{html.escape(name)}, {len(content) / 1e6:.2f} MB, {seconds}"


def uploads(field):
    """`(content, name)` of each file in an upload field: ipywidgets 8 keeps a tuple, 7 (as on Colab) a dict by name."""
    if isinstance(field.value, dict):
        return [(file["content"], name) for name, file in field.value.items()]
    return [(file["content"], file["name"]) for file in field.value]


def put(output, shown):
    """Show `shown`, HTML or a picture of `spectrograms`, in the widget `output` (an `ipywidgets.Output`) alone.

    Its content is set, not printed into it: nothing waits for a message to come back, and a stored notebook keeps it.
    """
    data = (
        {"text/html": shown.data} if isinstance(shown, HTML) else {"image/png": base64.b64encode(shown.data).decode()}
    )
    output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def read_bytes(content, name, sr=16000):
    """Decode the bytes of an uploaded audio file called `name` (any format and rate) to float32 `(samples,)` mono at
    `sr` Hz.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{Path(name).suffix.lower()}"
        path.write_bytes(bytes(content))
        try:
            return audio.read(path, sr)
        except audio.AudioError as error:
            raise audio.AudioError(str(error).replace(str(path), name)) from None


def through_formats(mix, enrollment, sr=16000):
    """`mix` and `enrollment` `(samples,)` written as m4a at 44.1 kHz and as ogg at 48 kHz, the way phones do, and read
    back.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "mixture.m4a", Path(folder) / "enrollment.ogg"
        write_m4a(paths[0], audio.resample(_numpy(mix), sr, 44100), 44100)
        soundfile.write(paths[1], audio.resample(_numpy(enrollment), sr, 48000), 48000)
        return [audio.read(path, sr) for path in paths]


def download_link(wave, sr=16000, name="estimate.flac"):
    """A link that saves `wave` `(samples,)` as a lossless FLAC file; the file is inside the link, so it works offline.

    A wave above full scale is turned down to it.
    """
    wave = _numpy(wave)
    content = base64.b64encode(encode(wave / max(1.0, np.abs(wave).max(initial=0.0)), sr, kind="flac")).decode()
    safe = html.escape(Path(name).with_suffix(".flac").name, quote=True)
    return HTML(f'<a download="{safe}" href="data:audio/flac;base64,{content}">Save {safe}</a>')


def write_m4a(path, wave, sr=16000):
    """Write `wave` `(samples,)` as AAC in an m4a file, the way a phone records; returns `path`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=sr, layout="mono")
        frame = av.AudioFrame.from_ndarray(_numpy(wave)[None], format="fltp", layout="mono")
        frame.sample_rate = sr
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def _numpy(wave):
    wave = wave.detach().cpu().numpy() if hasattr(wave, "detach") else np.asarray(wave)
    return wave.astype(np.float32, copy=False)


def _players_html(waves, sr, note):
    waves = {label: _numpy(wave) for label, wave in waves.items()}
    peak = max((float(np.abs(wave).max()) for wave in waves.values() if wave.size), default=0.0)
    gain = min(1.0, 0.99 / peak) if peak > 0 else 1.0
    if gain < 1.0 and note:
        note += f" (All turned down by {-20 * np.log10(gain):.1f} dB, because one exceeds full scale.)"
    rows = "".join(_row(label, wave * gain, wave, sr) for label, wave in waves.items())
    return f'<table style="margin-left:0">{rows}</table>' + (
        f"<p><small>{html.escape(note)}</small></p>" if note else ""
    )


def _row(label, heard, wave, sr):
    content = base64.b64encode(encode(heard, sr)).decode()
    seconds, cell = wave.shape[0] / sr, 'style="text-align:left;vertical-align:middle;padding:1px 8px"'
    name = html.escape(f"{label or 'sound'}, {seconds:.1f} s", quote=True)
    return (
        f"<tr><td {cell}>{html.escape(label)}</td>"
        f'<td {cell}><audio controls preload="metadata" aria-label="{name}" style="{PLAYER}" onplay="{ALONE}"'
        f' src="data:audio/mpeg;base64,{content}"></audio></td>'
        f"<td {cell}>{audio.rms_db(wave):.1f} dBFS, {seconds:.1f} s</td></tr>"
    )


def _spectrogram_figure(waves, sr, n_fft, hop, columns, floor_db, width, row_height):
    decibels = _spectra_db(waves, n_fft, hop)
    top = max(values.max() for values in decibels.values())
    longest = max(_numpy(wave).shape[-1] for wave in waves.values()) / sr
    columns = min(columns, len(waves))
    rows = -(-len(waves) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, row_height * rows),
        dpi=90,
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(waves) :]:
        axis.axis("off")
    for axis, (label, values) in zip(axes.flat, decibels.items()):
        seconds = _numpy(waves[label]).shape[-1] / sr
        image = axis.imshow(
            values - top,
            origin="lower",
            aspect="auto",
            cmap=plt.get_cmap("magma", COLOUR_STEPS),
            vmin=floor_db,
            vmax=0.0,
            extent=(0.0, seconds, 0.0, sr / 2000),
            interpolation="nearest",
        )
        axis.set_title(label, fontsize=9)
        axis.set_facecolor("black")
        axis.set_xlim(0.0, longest)
        axis.tick_params(labelsize=8)
    figure.supxlabel("time (s)", fontsize=8)
    figure.supylabel("frequency (kHz)", fontsize=8)
    bar = figure.colorbar(image, ax=axes.ravel().tolist(), pad=0.01)
    bar.set_label("dB re loudest bin", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    plt.close(figure)
    return figure


def _spectra_db(waves, n_fft, hop):
    """dB magnitudes `(bins, frames)` a wave, Hann window; short waves are zero-padded to one frame."""
    window, spectra = np.hanning(n_fft + 1)[:-1].astype(np.float32), {}
    for label, wave in waves.items():
        wave = np.pad(_numpy(wave), n_fft // 2)
        frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop]
        power = np.square(np.abs(np.fft.rfft(frames * window, axis=-1))).T
        spectra[label] = 10 * np.log10(np.maximum(power, 1e-10))
    if not spectra:
        raise ValueError("spectrograms takes a dict with at least one wave; got none.")
    return spectra


def _picture_html(shown, alt):
    content = base64.b64encode(shown.data).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{content}">'


def _as_html(shown):
    return shown.data if isinstance(shown, HTML) else str(shown)


def _choices(table, column, random):
    """Button name -> a function that returns an index of `table`; random draws anew at each call."""
    known = table.dropna(subset=[column])
    if not len(known):
        raise ValueError(f"no sample to pick: the table holds no value in {column!r}.")
    scores = known.set_index("index")[column]
    return {"best": scores.idxmax, "worst": scores.idxmin, "random": lambda: random.choice(scores.index)}
