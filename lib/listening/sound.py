"""Waves as sound: small players, one sounding at a time, files read from bytes and written as phones do.

Waves are float32 `(samples,)` in [-1, 1] at `sr` Hz (numpy or torch). Nothing plays by itself, and no player is made
louder than another: only where a wave exceeds full scale are all the waves shown together turned down, by one gain.
"""

import base64
import html
import io
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from IPython.display import HTML

from lib import audio

MP3_LEVEL = 0.85  # libsndfile's scale from 0 (best) to 1 (smallest): 32 kbit/s for 16 kHz mono, 20 kB for 5 s
PLAYER = "height:32px;width:280px;max-width:60vw;display:block"  # low enough that five and their picture fit a screen
NO_WIDER = "width:0;min-width:100%"  # a note is as wide as what it stands under, and never makes that wider
ALONE = "for (const one of document.querySelectorAll('audio')) if (one !== this) one.pause()"  # one sounds at a time
# In `pictures.sample_view` the n-th player moves the n-th cursor, and a click into a spectrogram plays from there.
FOLLOW = (
    "const all=this.closest('.heard');if(all){const at=all.querySelectorAll('.at')"
    "[[...all.querySelectorAll('audio')].indexOf(this)];if(at){at.style.opacity=0.9;"
    "at.style.left=100*this.currentTime/at.parentNode.dataset.seconds+'%'}}"
)
SEEK = (
    "const all=this.closest('.heard'),one=all.querySelectorAll('audio')"
    "[[...all.querySelectorAll('.pane')].indexOf(this)];"
    "one.currentTime=this.dataset.seconds*event.offsetX/this.clientWidth;one.play()"
)
LEVEL_NOTE = "Levels as they are: nothing is normalised between the players."
# A page that may run no scripts (a fresh clone's notebook, the web's viewers) keeps the sentence; elsewhere it goes.
NEEDS_SCRIPTS = (
    "<small> This does nothing until the cell has run here: press Shift+Enter in it.</small>"
    "<script>document.currentScript.previousElementSibling.remove()</script>"
)


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
    wave = as_numpy(wave)
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
    """A row a wave: label, RMS level, seconds and player, in the order of the dict `waves` (label -> wave
    `(samples,)`).
    """
    return HTML(players_html(waves, sr, note))


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
        write_m4a(paths[0], audio.resample(as_numpy(mix), sr, 44100), 44100)
        soundfile.write(paths[1], audio.resample(as_numpy(enrollment), sr, 48000), 48000)
        return [audio.read(path, sr) for path in paths]


def download_link(wave, sr=16000, name="estimate.flac"):
    """A link that saves `wave` `(samples,)` as a lossless FLAC file; the file is inside the link, so it works offline.

    A wave above full scale is turned down to it.
    """
    wave = as_numpy(wave)
    content = base64.b64encode(encode(wave / max(1.0, np.abs(wave).max(initial=0.0)), sr, kind="flac")).decode()
    safe = html.escape(Path(name).with_suffix(".flac").name, quote=True)
    return HTML(f'<a download="{safe}" href="data:audio/flac;base64,{content}">Save {safe}</a>{NEEDS_SCRIPTS}')


def write_m4a(path, wave, sr=16000):
    """Write `wave` `(samples,)` as AAC in an m4a file, the way a phone records; returns `path`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=sr, layout="mono")
        frame = av.AudioFrame.from_ndarray(as_numpy(wave)[None], format="fltp", layout="mono")
        frame.sample_rate = sr
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def as_numpy(wave):
    wave = wave.detach().cpu().numpy() if hasattr(wave, "detach") else np.asarray(wave)
    return wave.astype(np.float32, copy=False)


def players_html(waves, sr, note):
    waves = {label: as_numpy(wave) for label, wave in waves.items()}
    peak = max((float(np.abs(wave).max()) for wave in waves.values() if wave.size), default=0.0)
    gain = min(1.0, 0.99 / peak) if peak > 0 else 1.0
    if gain < 1.0 and note:
        note += f" (All turned down by {-20 * np.log10(gain):.1f} dB, because one exceeds full scale.)"
    rows = "".join(_row(label, wave * gain, wave, sr) for label, wave in waves.items())
    return f'<table style="margin-left:0">{rows}</table>' + (
        f'<p style="{NO_WIDER}"><small>{html.escape(note)}</small></p>' if note else ""
    )


def _row(label, heard, wave, sr):
    content = base64.b64encode(encode(heard, sr)).decode()
    seconds, cell = wave.shape[0] / sr, 'style="text-align:left;vertical-align:middle;padding:1px 8px"'
    name = html.escape(f"{label or 'sound'}, {seconds:.1f} s", quote=True)
    return (
        f"<tr><td {cell}>{html.escape(label)}<br><small>{audio.rms_db(wave):.1f} dBFS, {seconds:.1f} s</small></td>"
        f'<td {cell}><audio controls preload="metadata" aria-label="{name}" style="{PLAYER}" onplay="{ALONE}"'
        f' ontimeupdate="{FOLLOW}" src="data:audio/mpeg;base64,{content}"></audio></td></tr>'
    )
