"""One person's voice out of a recording of any length: `python -m lib.evaluation.extract MIX ENROLLMENT`.

    MIX         a recording in which several people talk: wav, flac, mp3, m4a, ogg, a film; any rate, minutes or hours
    ENROLLMENT  one or more clips in which the wanted person speaks alone, 3 s or more altogether

The voice is written at 16 kHz, mono, block by block, so that hours need no more memory than minutes. Beside it come a
timeline of where the person was heard, as `.rttm` and as `.png` (`lib.evaluation.presence`); where others alone are
heard, the voice is silent (`lib.evaluation.gate`). Waves are float32
`(samples,)` in [-1, 1].
"""

import argparse
import contextlib
import os
import sys
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from lib import audio
from lib.evaluation import gate, streams
from lib.evaluation.presence import HOP, WINDOW, Presence, picture, rttm, verdict
from lib.models.chunks import fade
from lib.models.convoifilter import ConVoiFilter
from lib.models.enrollment import checked, speech
from lib.runs import place, write_text

SR = 16000
STARTER = "pretrained/starter"
OVERLAP = 0.1  # of a chunk: chapter 3 finds a quarter better by 0.1 dB, for a fifth more time
BATCH = 4  # chunks at a time; more are no faster on a CPU
ENROLLED = 60.0  # s of speech taken of the enrollments: more does not make a voice known better
LOOKED_AT = 600.0  # s of each enrollment file that are searched for them
LONG = 1800.0  # s from which on the timeline's windows no longer overlap, which takes half the time
NOT_THERE = 3  # exit status of --require


def enrollment(paths, sr=SR):
    """The speech of one person's clips, `(samples,)` at `sr` Hz: each brought to the same level, pauses cut, joined.

    Raises `AudioError` for a file that cannot be read, ValueError where there is under a second, or no speech.
    """
    clips = []
    for path in paths:
        wave, found = [], 0.0
        for block in streams.blocks(path, sr):
            wave.append(block)
            found += len(block) / sr
            if found >= LOOKED_AT:
                break
        wave = np.concatenate([np.zeros(0, np.float32), *wave])
        if not wave.size:
            raise audio.AudioError(f"{path}: the file holds no audio samples. Copy or record it again.")
        kept = speech(audio.set_level(wave), sr)[0]
        clips.append((kept if kept.size else wave)[: int(ENROLLED * sr)])  # silence is for `checked` to name
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        joined = checked(np.concatenate(clips)[: int(ENROLLED * sr)], sr)
    for warning in said:
        print(f"Note: {warning.message}.", file=sys.stderr)
    return joined


def estimates(model, mix, embedding, overlap=OVERLAP, batch=BATCH, workers=1):
    """Pull one person out of a stream: `mix` gives waves `(samples,)` of any length, one after the other.

    Yields `(mix, est)`, numpy `(samples,)` each, stretch by stretch; joined they are what `ConVoiFilter.extract` makes
    of the whole. Each of `workers` threads works on `batch` chunks.
    """
    chunk, shared = model.chunk, int(overlap * model.chunk)
    hop, weights, device = chunk - shared, fade(model.chunk, shared).numpy(), next(model.parameters()).device

    def run(pieces):
        with torch.inference_mode():
            waves = torch.from_numpy(np.stack(pieces)).to(device)
            return model.separate(waves, embedding.to(device).expand(len(pieces), -1)).float().cpu().numpy()

    tail = weight = np.zeros(0, np.float32)  # what the last chunk leaves to be cross-faded
    with ThreadPoolExecutor(workers) as pool:
        for heard, pieces in _ahead(pool, run, _groups(mix, chunk, hop, batch, model.config.fill), workers):
            span = (len(pieces) - 1) * hop + chunk
            est, total = np.zeros(span, np.float32), np.zeros(span, np.float32)
            est[: len(tail)], total[: len(tail)] = tail, weight
            for number, piece in enumerate(pieces):
                est[number * hop : number * hop + chunk] += piece * weights
                total[number * hop : number * hop + chunk] += weights
            ready = len(heard)
            tail, weight = est[ready:], total[ready:]
            yield heard, est[:ready] / total[:ready]


def _groups(mix, chunk, hop, batch, fill):
    """`(heard, chunks)`: up to `batch` chunks, `hop` apart, and the stretch of the mixture that they settle."""
    kept, head, pieces, settled = np.zeros(0, np.float32), np.zeros(0, np.float32), [], []
    for block in mix:
        head = np.concatenate([head, block])[:chunk] if len(head) < chunk else head
        kept = np.concatenate([kept, block])
        while len(kept) > chunk:
            pieces.append(kept[:chunk])
            settled.append(kept[:hop])
            kept = kept[hop:]
            if len(pieces) == batch:
                yield np.concatenate(settled), pieces
                pieces, settled = [], []
    if len(kept):  # the last chunk, filled behind its end as the model wants it
        if fill == "repeat":
            more = np.resize(head, max(0, chunk - len(kept)))
        else:
            more = np.zeros(chunk - len(kept), np.float32)
        yield np.concatenate([*settled, kept]), [*pieces, np.concatenate([kept, more])]


def _ahead(pool, run, groups, workers):
    """Results of `run` in the order of `groups`, of which at most `workers + 1` are under way."""
    waiting = deque()
    for heard, pieces in groups:
        waiting.append((heard, pool.submit(run, pieces)))
        if len(waiting) > workers:
            heard, job = waiting.popleft()
            yield heard, job.result()
    for heard, job in waiting:
        yield heard, job.result()


def write_voice(mix, wanted, out, model, overlap=OVERLAP, timeline=True, progress=True, gated=False):
    """Write the person of the enrollment `wanted` `(samples,)` in the file `mix` to `out` (wav or flac).

    timeline: whether to judge where the person is and to write `.rttm` and `.png` beside `out`. gated: whether to
    silence what is not the person (`lib.evaluation.gate`) in a recording in which they seem to be, which needs the
    timeline. The gate is the model's own where it has one, and then it also says where the person is. Returns the
    `Presence`, without a timeline None. Raises `AudioError` and ValueError, one sentence each.
    """
    out, device, workers = Path(out), next(model.parameters()).device, 1
    seconds = streams.seconds_of(mix)
    hop = HOP if seconds and seconds < LONG else WINDOW
    presence = Presence(wanted, hop=hop) if timeline else None
    if device.type == "cpu":  # a thread a chunk group keeps the cores busy, and waits for none that others use
        workers = max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))
    with _threads(1 if workers > 1 else None), torch.inference_mode():
        embedding = model.embed(torch.from_numpy(wanted).to(device))
        with streams.Writer(out, SR, seconds) as file, _bar(seconds, progress) as bar:
            for heard, est in estimates(model, streams.blocks(mix, SR), embedding, overlap, workers=workers):
                file.write(est)
                if presence:
                    presence.hear(heard, est)
                bar.update(len(est) / SR)
            if not file.samples:
                raise audio.AudioError(f"{mix}: the file holds no audio samples. Copy or record it again.")
    if presence:
        presence.hear(np.zeros(0, np.float32), np.zeros(0, np.float32), last=True)
        own = gate.of(model)
        frames = gate.gains(presence, own or gate.STUDIO)
        if own not in (None, gate.STUDIO):
            presence.passed = frames > 0
        if own is None:
            note = "the model was made for a place whose gate is not known (chapter 3 calibrates it), so"
            note += " nothing is silenced, and what is said of where the person is holds for close recordings."
            print(f"Note: {note}", file=sys.stderr)
        if gated and own and presence.there and frames.any():  # else nothing is sure, and what came out is kept
            _silence(out, frames, seconds)
    if file.clipped:
        print(f"Note: {file.clipped} samples were over full scale and are cut off.", file=sys.stderr)
    if presence:
        write_text(out.with_suffix(".rttm"), rttm(presence, Path(mix).stem))
        picture(presence, f"{Path(mix).name}: where the enrolled person was heard").savefig(out.with_suffix(".png"))
    return presence


def _silence(out, frames, seconds):
    """Go through the file `out` once more and silence it where the gate is closed."""
    at = 0
    with streams.Writer(out, SR, seconds) as file:
        for block in streams.blocks(out, SR):
            file.write(gate.apply(block, frames, at))
            at += len(block)


@contextlib.contextmanager
def _threads(count):
    """PyTorch on `count` threads meanwhile; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _bar(seconds, shown):
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s, {elapsed} gone, {remaining} to go"
    if not seconds:
        form = "{desc}: {n:.0f} s, {elapsed} gone"
    return tqdm(total=seconds, desc="extract", bar_format=form, disable=not shown, file=sys.stderr)


def load(name=STARTER):
    """The model of a folder (from here, or from the project's), or of a hub id; on a GPU where there is one."""
    found = next((folder for folder in (Path(name).expanduser(), place(name)) if folder.is_dir()), name)
    return ConVoiFilter.from_pretrained(found).to("cuda" if torch.cuda.is_available() else "cpu")


def check_out(out, inputs, overwrite, timeline=True):
    """ValueError where writing `out` would replace something that nobody asked to replace, or an input."""
    out = Path(out)
    if out.suffix.lower() not in streams.SUFFIXES:
        raise ValueError(f"{out}: the name must end in .wav or .flac.")
    for made in [out, *([out.with_suffix(".rttm"), out.with_suffix(".png")] if timeline else [])]:
        if any(Path(path).exists() and made.exists() and made.samefile(path) for path in inputs):
            raise ValueError(f"{made}: is one of the recordings given; choose another name with -o.")
        if made.exists() and not overwrite:
            raise ValueError(f"{made}: is there already; choose another name with -o, or say --overwrite.")


def arguments():
    parser = argparse.ArgumentParser(
        "extract",
        description="Pull one person's voice out of a recording.",
        epilog="With --everyone in place of the enrollments it finds out who speaks and writes a file for each person.",
    )
    parser.add_argument("mix", metavar="MIX", help="the recording: sound or film, any format, rate and length")
    parser.add_argument("enrollment", metavar="ENROLLMENT", nargs="+", help="clips of the wanted person, alone")
    parser.add_argument("-o", "--out", help="where to: .wav or .flac (default: MIX's name with _voice.wav, here)")
    parser.add_argument("--model", default=STARTER, help="a folder or a hub id (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there under that name")
    parser.add_argument(
        "--require", action="store_true", help=f"exit {NOT_THERE} where the person seems not to be there"
    )
    parser.add_argument("--no-gate", action="store_true", help="leave in what came out where the person is silent")
    parser.add_argument("--no-timeline", action="store_true", help="the sound alone, without the gate, a fifth faster")
    return parser


def main(given=None):
    """The command line; returns the exit status."""
    parser = arguments()
    asked = parser.parse_args(given)
    if asked.require and asked.no_timeline:
        parser.error("--require needs the timeline: leave --no-timeline away")
    out = Path(asked.out).expanduser() if asked.out else Path(f"{Path(asked.mix).stem}_voice.wav")
    started = time.perf_counter()
    try:
        check_out(out, [asked.mix, *asked.enrollment], asked.overwrite, not asked.no_timeline)
        for path in (asked.mix, *asked.enrollment):
            audio.check_file(Path(path).expanduser())
        presence = write_voice(
            asked.mix,
            enrollment(asked.enrollment),
            out,
            load(asked.model),
            timeline=not asked.no_timeline,
            gated=not (asked.no_timeline or asked.no_gate),
        )
    except (ValueError, OSError) as error:  # AudioError, CheckpointError and RunError are ValueErrors
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        return 130
    beside = "" if asked.no_timeline else f", with {out.with_suffix('.rttm').name} and {out.with_suffix('.png').name}"
    print(f"{out}: written{beside}, in {time.perf_counter() - started:.0f} s.")
    if presence:
        print(verdict(presence))
    return NOT_THERE if asked.require and not presence.there else 0


if __name__ == "__main__":
    sys.exit(main())
