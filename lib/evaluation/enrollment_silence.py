"""What silence and the noise of a room in an enrollment cost: `python -m lib.evaluation.enrollment_silence`.

Mixtures of two Val people, and enrollments with ten seconds of no speech before, behind or in the midst of their four
to eight seconds of speech. Three decisions on what counts are compared: all of the file, the rule in use
(`lib.models.enrollment.speech`, by energy), and webrtcvad. Written is `results/enrollment_silence.csv`, a row a
decision, noise and place: the mean SI-SDRi (dB), and its change against the same enrollment without the ten seconds.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from lib import runs
from lib.data import noises, splits, voices
from lib.evaluation.extract import SR, STARTER, load
from lib.evaluation.thresholds import stock
from lib.metrics import si_sdri
from lib.models.enrollment import speech

OUT = "results/enrollment_silence.csv"
SPOKEN = (4.0, 8.0)  # s of an enrollment, drawn between these
MIXED, QUIET = 5, 10  # s of a mixture, and of what is put into the enrollment
LEVELS = (None, -60.0, -50.0, -40.0, -30.0)  # dBFS; None is digital silence. The speech lies at -25 dBFS
PLACES = ("before", "behind", "between")
FRAME = SR // 50  # samples that webrtcvad judges at once


def webrtc(wave, mode=2):
    """`wave` without the 20 ms that webrtcvad does not take for speech; all of it where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its use of pkg_resources
        import webrtcvad

    vad, frames = webrtcvad.Vad(mode), wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    frames = np.clip(frames, -1, 32767 / 32768)
    spoken = [vad.is_speech((one * 32768).astype(np.int16).tobytes(), SR) for one in frames]
    return frames[spoken].reshape(-1) if any(spoken) else wave


DECISIONS = {"all of it": lambda wave: wave, "energy": lambda wave: speech(wave, SR)[0], "webrtcvad": webrtc}


def put_in(said, quiet, place):
    """The enrollment `said` with `quiet` at `place`, one of `PLACES`."""
    half = len(said) // 2
    parts = {"before": (quiet, said), "behind": (said, quiet), "between": (said[:half], quiet, said[half:])}
    return np.concatenate(parts[place])


def enrollments(said, rng):
    """(dBFS, place) -> enrollment; (None, "alone") is the speech as it is."""
    found = {(None, "alone"): said}
    for level in LEVELS:
        gain = 0.0 if level is None else 10 ** (level / 20)
        quiet = (gain * noises.coloured(rng, QUIET * SR)).astype(np.float32)
        found |= {(level, place): put_in(said, quiet, place) for place in PLACES}
    return found


@torch.inference_mode()
def improvements(model, mix, ref, given):
    """SI-SDRi (dB) of the mixture `(samples,)` with each of the enrollments `given`."""
    embeddings = torch.cat([model.embed(torch.from_numpy(wave)[None]) for wave in given])
    est = [model(mix[None], embedding=one).est[0].numpy() for one in embeddings.split(1)]
    return [float(si_sdri(one, ref, mix.numpy())) for one in est]


def measure(model, table, count=24, seed=0, progress=True):
    """The table that is written, over `count` mixtures of the people in `table`."""
    rng, rows = np.random.default_rng(seed), []
    people = {name: own for name, own in table.groupby("speaker") if own["seconds"].sum() >= 15}
    for _ in tqdm(range(count), disable=not progress):
        pair = rng.choice(list(people), 2, replace=False)
        wanted, other = (stock(people[name], SPOKEN[1] + MIXED, rng) for name in pair)
        ref = wanted[-MIXED * SR :]
        mix = torch.from_numpy(ref + other[: len(ref)])
        given = enrollments(wanted[: round(rng.uniform(*SPOKEN) * SR)], rng)
        for name, decide in DECISIONS.items():
            gains = improvements(model, mix, ref, [decide(wave) for wave in given.values()])
            rows += [(name, *at, gain, gain - gains[0]) for at, gain in zip(given, gains)]
    rows = pd.DataFrame(rows, columns=["decision", "noise_dbfs", "place", "si_sdri", "change"])
    rows["noise_dbfs"] = rows["noise_dbfs"].map(lambda level: "silence" if pd.isna(level) else f"{level:g}")
    by = rows.groupby(["decision", "noise_dbfs", "place"], sort=False)
    return by.agg(si_sdri=("si_sdri", "mean"), change=("change", "mean"), se=("change", "sem")).reset_index()


def main(given=None):
    parser = argparse.ArgumentParser(description="Measure what silence and noise in an enrollment cost, on Val.")
    parser.add_argument("--model", default=STARTER)
    parser.add_argument("--mixtures", type=int, default=24)
    parser.add_argument("--out", default=OUT)
    given = parser.parse_args(given)
    table = splits.split_by_speaker(voices.load("auto"))
    found = measure(load(given.model), table[table["split"] == "Val"], given.mixtures)
    runs.write_text(runs.place(given.out), found.round(3).to_csv(index=False))
    print(found.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
