"""What goes wrong in target speaker extraction, each failure as a number: the wrong person, musical noise, dropped
speech, seams between chunks, and somebody asked for who does not speak.

Waves are numpy float32 `(samples,)` at 16 kHz; `(est, ref)` in this order; levels and ratios in dB.
"""

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio, metrics
from lib.evaluation import gate
from lib.evaluation.scores import extract
from lib.evaluation.verification import eer
from lib.losses import SILENT_DB

FRAME = 320  # samples: 20 ms
ACTIVE_DB = 30.0  # a frame counts as speech down to this far under the wave's loud frames
DROP_DB = 15.0  # speech counts as dropped where the estimate lies this far under the reference
AUDIBLE_DB = (
    -40.0
)  # residue further than this under the estimate's own speech is not called musical noise: it is hardly heard
FEWEST_PAUSES = 15  # frames in which the target pauses; with fewer, the residue is not judged


def margin_to_others(est, ref, mix):
    """SI-SDR of `est` towards the target minus that towards all the others (`mix - ref`), in dB: below 0 is the wrong
    person.

    NaN where the target or the others are silent; for a silent estimate 0, because it is nobody.
    """
    return float(metrics.si_sdr(est, ref)) - float(metrics.si_sdr(est, mix - ref))


def dropped_share(est, ref):
    """Share of the target's speech, 0 to 1, that is missing: 20 ms frames where `est` lies 15 dB or more under `ref`.

    The estimate is first brought to the reference's level over all those frames, so that only where it is silent
    counts, not how loud it is. A silent estimate gives 1, a silent reference NaN.
    """
    wanted, made = _frame_power(ref), _frame_power(est)
    active = _active(wanted)
    if not active.any():
        return float("nan")
    if made[active].sum() <= 0:
        return 1.0
    made = made * wanted[active].sum() / made[active].sum()
    return float((made[active] < wanted[active] * 10 ** (-DROP_DB / 10)).mean())


def log_kurtosis_ratio(est, ref, mix, n_fft=512):
    """How much more peaky than the mixture the residue in the target's pauses is: ln(kurtosis of `est` / of `mix`);
    musical noise rings high.

    Kurtosis is E[x^4] / E[x^2]^2 of the power in a frequency bin over the frames in which the target pauses, averaged
    over bins. NaN where the target pauses for less than 0.3 s, or where the residue is over 40 dB under the estimate's
    speech. Source: the idea of Uemura et al., "Automatic optimization scheme of spectral subtraction based on musical
    noise assessment", IWAENC 2008.
    """
    wanted, made = _frame_power(ref), _frame_power(est)
    active, pauses = _active(wanted), _active(wanted, 2 * ACTIVE_DB) == 0
    if pauses.sum() < FEWEST_PAUSES or made[active].mean() <= 0:
        return float("nan")
    if 10 * np.log10(max(made[pauses].mean(), 1e-20) / made[active].mean()) < AUDIBLE_DB:
        return float("nan")
    kurtosis = [_kurtosis(_spectra(wave, n_fft)[: len(pauses)][pauses]) for wave in (est, mix)]
    return float(np.mean(np.log(kurtosis[0]) - np.log(kurtosis[1])))


def look(waves, dataset):
    """The three numbers for each estimate in `waves` (in the dataset's order): `index, margin_db, dropped,
    kurtosis`.
    """
    rows = []
    for place, est in enumerate(waves):
        item = dataset[place]
        mix, ref = item["mix"].numpy(), item["target"].numpy()
        rows.append(
            {
                "index": item["index"],
                "margin_db": margin_to_others(est, ref, mix),
                "dropped": dropped_share(est, ref),
                "kurtosis": log_kurtosis_ratio(est, ref, mix),
            }
        )
    return pd.DataFrame(rows)


def join(dataset, speakers=None, count=12, pieces=3, lead=0.5):
    """Long mixtures, each of `pieces` mixtures of one target joined: a list of dicts `mix, target, enrollment`, numpy.

    The first `lead` of a piece's length is cut away, so that the chunks of the model do not begin where a piece does.
    speakers: the target of each item; without it (a dataset with no manifest) one mixture is repeated.
    """
    groups = {}
    for place in range(len(dataset)):
        groups.setdefault(place if speakers is None else speakers[place], []).append(place)
    long = []
    for turn in range(len(dataset)):
        for places in groups.values():
            if turn * pieces < len(places) and len(long) < count:
                long.append(_joined(dataset, [places[(turn * pieces + n) % len(places)] for n in range(pieces)], lead))
    return long


def _joined(dataset, places, lead):
    items = [dataset[place] for place in places]
    start = int(lead * len(items[0]["mix"]))
    return {
        "mix": np.concatenate([item["mix"].numpy() for item in items])[start:],
        "target": np.concatenate([item["target"].numpy() for item in items])[start:],
        "enrollment": items[0]["enrollment"].numpy(),
    }


def compare_overlaps(model, long, overlaps=(0.0, 0.1, 0.25, 0.5), around=0.25, sr=metrics.SR, progress=True):
    """What a cross-fade between chunks is worth: a row a long mixture and overlap, `si_sdri`, `seam_si_sdr` and
    `seconds`.

    `seam_si_sdr` is taken over the `around` seconds on both sides of each place where, without overlap, two chunks
    meet.
    """
    import time

    rows = []
    for number, item in enumerate(tqdm(long, desc="overlaps", disable=not progress)):
        near = _seams(len(item["mix"]), model.chunk, int(around * sr))
        for overlap in overlaps:
            started = time.perf_counter()
            est = extract(model, item["mix"], item["enrollment"], overlap=overlap)
            rows.append(
                {
                    "long": number,
                    "overlap": overlap,
                    "seconds": time.perf_counter() - started,
                    "si_sdri": float(metrics.si_sdri(est, item["target"], item["mix"])),
                    "seam_si_sdr": float(metrics.si_sdr(est[near], item["target"][near])),
                }
            )
    return pd.DataFrame(rows)


def _seams(samples, chunk, around):
    """True for samples within `around` of a chunk's border inside the wave."""
    near = np.zeros(samples, dtype=bool)
    for border in range(chunk, samples, chunk):
        near[max(0, border - around) : border + around] = True
    return near


def absent(model, dataset, enrolled_by, known=None, progress=True):
    """Ask for somebody who does not speak: a row a mixture and case, `index, case, level_db, fainter_db, similarity`,
    and the estimates.

    enrolled_by: for each item the place in `dataset` whose enrollment is used, or None to leave the item out. `case` is
    "present" for the item's own enrollment, else "absent". level_db: the estimate's level over the mixture's.
    fainter_db: by how much it lies under the reference's (present ones). known: the estimates of the present ones in
    the dataset's order, where they are at hand. similarity: of the estimate to the enrollment that was asked for.
    Returns (DataFrame, dict (index, case) -> wave).
    """
    rows, waves = [], {}
    for place, other in enumerate(tqdm(enrolled_by, desc="absent", disable=not progress)):
        if other is None:
            continue
        item = dataset[place]
        mix = item["mix"].numpy()
        for case, enrollment in (
            ("present", item["enrollment"].numpy()),
            ("absent", dataset[other]["enrollment"].numpy()),
        ):
            made = known[place] if known is not None and case == "present" else extract(model, mix, enrollment)
            est = waves[item["index"], case] = made
            under = audio.rms_db(item["target"].numpy()) - audio.rms_db(est) if case == "present" else np.nan
            rows.append(
                {
                    "index": item["index"],
                    "case": case,
                    "level_db": float(audio.rms_db(est) - audio.rms_db(mix)),
                    "fainter_db": float(under),
                    "similarity": metrics.similarity(est, enrollment),
                }
            )
    return pd.DataFrame(rows), waves


def behind_the_gate(asked, waves, dataset, enrolled_by, found):
    """The table `asked` of `absent` once more, with the levels of the estimates `waves` behind the gate `found`
    (`lib.evaluation.gate`), which may silence whole answers. Returns (DataFrame, dict (index, case) -> wave).
    """
    table, through = asked.copy(), {}
    for row, (key, est, mix, known, _) in zip(asked.index, _answers(asked, waves, dataset, enrolled_by)):
        wave = through[key] = gate.gated(est, mix, known, found, whole=True)[0]
        fainter = float(audio.rms_db(est) - audio.rms_db(wave))
        table.loc[row, ["level_db", "fainter_db"]] += np.array([-fainter, fainter])
    return table, through


def gate_of(asked, waves, dataset, enrolled_by):
    """The `gate.Gate` of a place: calibrated on what `absent` returned of its Val mixtures."""
    return gate.calibrate(answer[1:] for answer in _answers(asked, waves, dataset, enrolled_by))


def _answers(asked, waves, dataset, enrolled_by):
    """`((index, case), est, mix, enrollment, there)` of each row of `asked`."""
    place_of = {dataset[place]["index"]: place for place in range(len(dataset))}
    for index, case in zip(asked["index"], asked["case"]):
        place = place_of[index]
        known = dataset[place if case == "present" else enrolled_by[place]]["enrollment"]
        yield (index, case), waves[index, case], dataset[place]["mix"].numpy(), known.numpy(), case == "present"


def silence(asked, usual=None):
    """What a table of `absent` says, a dict: `silent`, the share of absent people who got silence (20 dB or more under
    the mixture); `too_faint`, the share of present ones 15 dB or more fainter beside their reference than half of them
    are (a device changes the level of all); for `level_db` and
    `similarity` <column>_auc, how often a present one has more of it than an absent one, and <column>_eer, the share of
    errors where both kinds are equal.
    """
    there, gone = (asked[asked["case"] == case] for case in ("present", "absent"))
    usual = there["fainter_db"].median() if usual is None else usual
    row = {
        "absent": len(gone),
        "silent": float((gone["level_db"] <= SILENT_DB).mean()),
        "present": len(there),
        "too_faint": float((there["fainter_db"] - max(0.0, usual) >= DROP_DB).mean()),
    }
    for column in ("level_db", "similarity"):
        row[f"{column}_auc"] = separability(gone[column], there[column])
        row[f"{column}_eer"] = eer(
            np.concatenate([there[column], gone[column]]), np.r_[np.ones(len(there)), np.zeros(len(gone))]
        )[0]
    return row


def activity(est, ref):
    """Precision, recall and F1 of where `est` sounds against where `ref` does, in frames of 20 ms: a dict.

    Both count as sounding within 30 dB of the reference's loud frames. NaN where the reference is silent.
    """
    wanted, made = _frame_power(ref), _frame_power(est)
    loud = np.percentile(wanted, 95)
    if loud <= 0:
        return dict(precision=np.nan, recall=np.nan, f1=np.nan)
    wanted, made = (power > loud * 10 ** (-ACTIVE_DB / 10) for power in (wanted, made))
    both = (wanted & made).sum()
    precision, recall = both / max(1, made.sum()), both / wanted.sum()
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return dict(precision=float(precision), recall=float(recall), f1=float(f1))


def somebody_else(facts, seed=0):
    """For each row of `facts` (`speaker` and `others`, see `mixture_facts`) the place of a row whose speaker is not
    heard in it, or None.
    """
    random, picked = np.random.default_rng(seed), []
    for speaker, others in zip(facts["speaker"], facts["others"]):
        heard = {speaker, *others.split(", ")}
        free = [place for place, name in enumerate(facts["speaker"]) if name not in heard]
        picked.append(int(random.choice(free)) if free else None)
    return picked


def separability(low, high):
    """How often a value of `high` exceeds one of `low` (area under the ROC curve):

    0.5 is chance, 1 a clean threshold.
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return float((high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean())


def _frame_power(wave):
    """Mean power of each 20 ms frame `(frames,)`; the first difference, so that hum and offset do not count as
    sound.
    """
    edges = np.diff(np.asarray(wave, dtype=np.float64), prepend=wave[:1])
    count = len(edges) // FRAME
    return np.square(edges[: count * FRAME].reshape(count, FRAME)).mean(axis=1)


def _active(power, under=ACTIVE_DB):
    """True for frames within `under` dB of the loud ones (95th percentile)."""
    loud = np.percentile(power, 95)
    return (power > loud * 10 ** (-under / 10)) & (power > 0)


def _spectra(wave, n_fft):
    """Power `(frames, bins)`, a frame of `n_fft` every 20 ms, so that it shares the places of `_frame_power`."""
    padded = np.pad(np.asarray(wave, dtype=np.float64), (0, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::FRAME]
    return np.square(np.abs(np.fft.rfft(frames * np.hanning(n_fft), axis=-1)))


def _kurtosis(power):
    """E[x^4] / E[x^2]^2 over frames, a value a bin."""
    power = power / np.maximum(power.mean(axis=0), 1e-30) + 1e-9
    return (power**4).mean(axis=0) / np.square((power**2).mean(axis=0))
