"""A SoundFont plays a score, stem by stem: drums, bass and all else, each float32 `(samples, 2)` at 22,050 Hz."""

import importlib.util
import io
from pathlib import Path

import mido
import numpy as np
import soundfile

from lib import audio, extras
from lib.data import cache_dir, debian
from lib.music.midi_scores import DRUM_CHANNEL, ScoreError, merged, read, stem_of
from lib.runs import place

SR = 22050
FAMILIES = 8  # programs of one family (pianos, guitars, strings ...) lie eight in a row
FLUID, FLUID_PACKAGE = "fluid", "fluid-soundfont-gm"


def soundfont(path=""):
    """The bytes of a SoundFont: the small one (TimGM6mb, 6 MB) that the package pretty_midi carries; `"fluid"`: the
    better FluidR3 out of the Debian package fluid-soundfont-gm, fetched on first use (120 MB, MIT); or the file `path`.
    """
    if path == FLUID:
        path = _fluid()
    elif not path:
        found = importlib.util.find_spec("pretty_midi")
        path = Path(found.origin).with_name("TimGM6mb.sf2") if found else Path("TimGM6mb.sf2")
    path = place(path)
    if not path.is_file():
        raise ScoreError(
            f"{path}: no such SoundFont. Install pretty_midi, which carries one (pip install -r"
            " requirements-extras.txt), or name an .sf2 file of your own."
        )
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise ScoreError(f"{path}: not a SoundFont 2 file. Name an .sf2 file.")
    return content


def _fluid():
    """The file of FluidR3 in the cache, unpacked where it is not there yet."""
    kept = cache_dir() / "midi" / "FluidR3_GM.sf2"
    if not kept.is_file():
        try:
            deb = debian.fetch(FLUID_PACKAGE, cache_dir() / "debian" / "packages")
        except debian.VoicesError as error:
            raise ScoreError(
                f"the SoundFont FluidR3 comes with the Debian package {FLUID_PACKAGE}, which cannot be had:"
                f" {str(error).splitlines()[0]} Leave `font` empty for the small one, or name an .sf2 file."
            ) from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        with debian.open_deb(deb) as tar:
            for member in tar:
                if member.name.endswith(kept.name) and member.isfile():
                    part = kept.with_name(f".part-{kept.name}")
                    part.write_bytes(tar.extractfile(member).read())
                    part.replace(kept)
    return kept


def render(path, font, start=0.0, seconds=40.0, tempo=1.0, key=0, swap=None, sr=SR, without=None):
    """Play `seconds` of a score from `start` on: dict drums, bass, other -> float32 `(samples, 2)` at `sr` Hz, levels
    as the score has them.

    tempo: a factor on the speed. key: semitones up, drums excepted. swap: a random generator that puts another
    instrument of the same
    family in the place of each program, or None. without: a channel whose notes are left out, because somebody
    sings them. A stem without a note is silent. start counts in the score's own time.
    """
    score, samples = read(path), int(seconds * sr)
    events = _excerpt(score, start, start + seconds * tempo, key, _swaps(swap), without)
    stems = {}
    for stem in ("drums", "bass", "other"):
        played = _play(
            score, [(tick, message) for tick, message, owner in events if owner in (None, stem)], tempo, font
        )
        wave = audio.resample(played[0].T, played[1], sr).T[:samples]
        stems[stem] = np.pad(wave, ((0, samples - len(wave)), (0, 0)))
    return stems


def _swaps(rng):
    """program -> program: each to another one of its family by `rng`; without it each to itself."""
    if rng is None:
        return list(range(128))
    return [int(program // FAMILIES * FAMILIES + rng.integers(FAMILIES)) for program in range(128)]


def _excerpt(score, first, last, key, programs, without=None):
    """(tick, message, stem) of what is played from `first` to `last` s; stem is None for what concerns all, such as
    tempo and controllers.

    What comes before `first`, apart from notes, is kept at tick 0, so that instruments and volumes are as they should
    be.
    """
    events, tick, time, beat, started, current = [], 0, 0.0, 500000, None, {}
    for message in merged(score):
        tick += message.time
        time += mido.tick2second(message.time, score.ticks_per_beat, beat)
        if time >= last:
            break
        if time >= first and started is None:
            started = tick
        now = 0 if started is None else tick - started
        if message.type == "set_tempo":
            beat = message.tempo
            events.append((now, message, None))
        elif message.type == "program_change":
            current[message.channel] = message.program
            if message.channel != DRUM_CHANNEL:
                message = message.copy(skip_checks=True, program=programs[message.program])
            events.append((now, message, None))
        elif message.type in ("note_on", "note_off"):
            if started is None or message.channel == without:
                continue
            shift = 0 if message.channel == DRUM_CHANNEL else key
            note = min(max(message.note + shift, 0), 127)
            stem = stem_of(message.channel, current.get(message.channel, 0))
            events.append((now, message.copy(skip_checks=True, note=note), stem))
        elif not message.is_meta and message.type != "sysex":
            events.append((now, message, None))
    return events


def _play(score, events, tempo, font):
    """(wave `(samples, 2)`, its rate) of timed messages, all in one track."""
    with extras():
        import midirenderer

    track, before = mido.MidiTrack(), 0
    if not any(message.type == "set_tempo" and tick == 0 for tick, message in events):
        events = [(0, mido.MetaMessage("set_tempo", tempo=500000)), *events]
    for tick, message in events:
        message = message.copy(tempo=int(message.tempo / tempo)) if message.type == "set_tempo" else message
        track.append(message.copy(skip_checks=True, time=tick - before))
        before = tick
    track.append(
        mido.Message("control_change", channel=DRUM_CHANNEL, control=119, time=8 * score.ticks_per_beat)
    )  # the last notes ring out
    file, out = mido.MidiFile(type=0, ticks_per_beat=score.ticks_per_beat), io.BytesIO()
    file.tracks.append(track)
    file.save(file=out)
    wave, rate = soundfile.read(
        io.BytesIO(midirenderer.render_wave_from(font, out.getvalue())), dtype="float32", always_2d=True
    )
    return (wave if wave.shape[1] == 2 else wave[:, [0, 0]]), rate
