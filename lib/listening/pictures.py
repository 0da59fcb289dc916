"""Waves as pictures: spectrograms on one scale, with a cursor that follows the player, and figures as small PNGs."""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from lib.listening.sound import LEVEL_NOTE, SEEK, as_numpy, players_html

FLOOR_DB = -60.0  # the darkest colour of a spectrogram, in dB relative to the loudest bin of the row of waves
CURSOR = "position:absolute;top:0;height:100%;width:2px;background:white;opacity:0"  # seen once its player has played
ROW = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:4px 16px"  # what fits stands side by side
BESIDE = 5.2  # inches, of a picture that stands beside players
SHOWN = 120  # s: of a longer wave a view holds the beginning, as an hour of sound would fill the notebook
COLOUR_STEPS = 20  # 3 dB a step: fewer colours make a stored picture several times smaller


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


def sample_view(waves, sr=16000, title="", note=LEVEL_NOTE, columns=1):
    """Title, players and spectrograms of `waves` (label -> wave) in one piece of HTML that a widget can replace as a
    whole. A cursor moves over the spectrogram of what plays, and a click into one plays from there.

    columns: of the picture. A single one stands beside the players, with one time axis for all; where the page is too
    narrow, and with more columns, the picture lies below them. Of a wave longer than `SHOWN` seconds the beginning is
    shown, and said.
    """
    waves, whole = {label: as_numpy(wave)[..., : SHOWN * sr] for label, wave in waves.items()}, waves
    if longest := max((as_numpy(wave).shape[-1] for wave in whole.values() if len(wave) > SHOWN * sr), default=0):
        note += f" Here are the first {SHOWN // 60} of {longest / sr / 60:.0f} minutes."
    heading = f'<p style="width:100%;margin:0"><b>{html.escape(title)}</b></p>' if title else ""
    size = {"width": BESIDE, "row_height": max(0.85, min(1.15, 4.8 / len(waves)))} if columns == 1 and waves else {}
    shown = _followed(_spectrogram_figure(waves, sr, columns=columns, **size), waves, sr)
    return HTML(f'<div class="heard" style="{ROW}">{heading}<div>{players_html(waves, sr, note)}</div>{shown}</div>')


def _followed(figure, waves, sr):
    """The spectrograms of `figure` as HTML, each under a pane with the cursor that its player moves."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # not cropped, so that a pane lies where its axes are in the figure
    longest, panes = max(as_numpy(wave).shape[-1] for wave in waves.values()) / sr, ""
    for axis in figure.axes[: len(waves)]:
        box = axis.get_position()
        place = f"left:{box.x0:.2%};top:{1 - box.y1:.2%};width:{box.width:.2%};height:{box.height:.2%}"
        panes += (
            f'<div class="pane" data-seconds="{longest:.3f}" onclick="{SEEK}" style="position:absolute;{place}">'
            f'<div class="at" style="{CURSOR}"></div></div>'
        )
    picture = picture_html(Image(_few_colours(buffer), format="png"), _alt(waves))
    return f'<div style="position:relative;display:inline-block">{picture}{panes}</div>'


def describe(figure):
    """What a `figure` shows, in words: its panels' titles, axes and legends."""
    panels = []
    for axis in figure.axes:
        if not axis.axison and not axis.has_data():  # a place of the grid that was left empty
            continue
        labels = axis.get_xlabel(), axis.get_ylabel()
        if axis.get_label() != "<colorbar>":  # its ticks are colours, not the figure's axes
            labels = labels[0] or figure.get_supxlabel(), labels[1] or figure.get_supylabel()
        words = [axis.get_title() or axis.get_title(loc="left"), " against ".join(filter(None, reversed(labels)))]
        _, legend = axis.get_legend_handles_labels()
        legend = list(dict.fromkeys(legend))
        named = ", ".join(legend) if len(legend) <= 8 else f"{len(legend)} groups, {legend[0]} to {legend[-1]}"
        words.append(f"shown: {named}" if legend else "")
        panels.append(", ".join(filter(None, words)))
    title = figure.get_suptitle()
    return f"Figure{f' ({title})' if title else ''}: {'; '.join(filter(None, dict.fromkeys(panels))) or 'a picture'}."


def describe_figures(shell):
    """Let every figure that the notebook `shell` displays carry alt text (`describe`) and few colours."""

    def bundle(figure, **_):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        content = base64.b64encode(_few_colours(buffer)).decode()
        return {"image/png": content, "text/plain": "a figure"}, {"image/png": {"alt": describe(figure)}}

    shell.display_formatter.mimebundle_formatter.for_type(Figure, bundle)


def _few_colours(buffer):
    small = io.BytesIO()
    PIL.Image.open(buffer).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _alt(waves):
    return f"Spectrograms, time against frequency, of: {', '.join(map(str, waves))}."


def _spectrogram_figure(waves, sr, n_fft=512, hop=256, columns=3, floor_db=FLOOR_DB, width=9.0, row_height=1.9):
    decibels = _spectra_db(waves, n_fft, hop)
    top = max(values.max() for values in decibels.values())
    longest = max(as_numpy(wave).shape[-1] for wave in waves.values()) / sr
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
        seconds = as_numpy(waves[label]).shape[-1] / sr
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
        wave = np.pad(as_numpy(wave), n_fft // 2)
        frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop]
        power = np.square(np.abs(np.fft.rfft(frames * window, axis=-1))).T
        spectra[label] = 10 * np.log10(np.maximum(power, 1e-10))
    if not spectra:
        raise ValueError("spectrograms takes a dict with at least one wave; got none.")
    return spectra


def picture_html(shown, alt):
    content = base64.b64encode(shown.data).decode()
    style = "max-width:100%;display:block"
    return f'<img alt="{html.escape(alt, quote=True)}" style="{style}" src="data:image/png;base64,{content}">'
