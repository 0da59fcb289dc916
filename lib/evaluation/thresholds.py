"""From which similarity on the wanted person counts as heard: `python -m lib.evaluation.thresholds` (about 8 minutes).

Talks of a minute are made of two people of a split, who take turns and sometimes talk at once, in faint noise. Each is
extracted for both people and for a third one who is not there. A window's threshold is about where misses and false
alarms are equal on Val (`eer_threshold`); that of a recording lies 0.03 under the lowest of those who are there
(`lowest_yes`), because a voice called absent is the worse error. How often both err is counted on Test. Written is
`results/extract_thresholds.csv`; the two thresholds stand in `lib.evaluation.presence`.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from lib import audio, runs
from lib.data import splits, voices
from lib.evaluation import gate, verification
from lib.evaluation.extract import SR, STARTER, estimates, load
from lib.evaluation.presence import FALL, FRAME, HOP, SOMEWHERE, WINDOW, Presence

OUT = "results/extract_thresholds.csv"
ENROLLED, SECONDS = 5.0, 60.0  # of an enrollment, of a talk
SPEAKS_DB = -50.0  # dBFS: a frame of a voice over this is speech


def stock(table, seconds, rng):
    """Recordings of one person, joined, `(samples,)` at 16 kHz and -25 dBFS."""
    clips, found = [], 0
    for path in rng.permutation(table["path"].to_numpy()):
        clips.append(audio.set_level(audio.read(path), -25.0))
        found += len(clips[-1])
        if found >= seconds * SR:
            break
    return np.concatenate(clips)[: round(seconds * SR)]


def talk(stocks, seconds, rng):
    """Two people taking turns of 1 to 6 s: `(2, samples)`, each voice on its own. Two turns of five begin before the
    other's end.
    """
    waves, used, at, turn = np.zeros((2, round(seconds * SR)), np.float32), [0, 0], 0, int(rng.integers(2))
    while at < waves.shape[1] - SR:
        gap = -rng.uniform(0.0, 1.5) if rng.random() < 0.4 else rng.uniform(0.0, 0.8)
        start, samples = max(0, at + int(gap * SR)), int(rng.uniform(1.0, 6.0) * SR)
        said = np.take(stocks[turn], np.arange(used[turn], used[turn] + samples), mode="wrap")
        used[turn] += samples
        end = min(start + samples, waves.shape[1])
        waves[turn, start:end] += said[: end - start]
        at, turn = end, 1 - turn
    return waves


def asked(table, count, rng):
    """`(number, voices, mix, enrollment, place)` for `count` talks and three people each: place is 0 or 1, or None for
    who is absent.
    """
    people = dict(list(table.groupby("speaker")))
    names = [name for name in people if people[name]["seconds"].sum() >= 45.0]
    for number in range(count):
        stocks = [stock(people[name], ENROLLED + 45.0, rng) for name in _trio(names, number)]
        enrolled = [one[: round(ENROLLED * SR)] for one in stocks]
        waves = talk([one[round(ENROLLED * SR) :] for one in stocks[:2]], SECONDS, rng)
        waves[1] *= 10 ** (rng.uniform(-5.0, 5.0) / 20)
        noise = rng.standard_normal(waves.shape[1]).astype(np.float32) * 10 ** (rng.uniform(-70.0, -45.0) / 20)
        for place in (0, 1, None):
            yield number, waves, waves.sum(0) + noise, enrolled[2 if place is None else place], place


def _trio(names, number):
    """Three different people, each pair of neighbours and each distance in turn."""
    step = 1 + number // len(names)
    return [names[(number + turn * step) % len(names)] for turn in range(3)]


def look(model, table, count, seed=0, progress=True):
    """Two tables. Of windows: `similarity` less that of the best ones, `own` and `other`, the shares with their speech,
    `cosine`, the similarity itself, and `level_db`, the estimate's level over the mixture's.
    Of recordings: `there`, `best`, `missed` and `alarms`, the shares of the speech and of the rest that the turns get
    wrong.
    """
    windows, whole = [], []
    for number, waves, mix, enrolled, place in tqdm(
        asked(table, count, np.random.default_rng(seed)), total=3 * count, disable=not progress
    ):
        presence = Presence(enrolled)
        with torch.inference_mode():
            embedding = model.embed(torch.from_numpy(enrolled).to(next(model.parameters()).device))
            for heard, est in estimates(model, [mix], embedding):
                presence.hear(heard, est)
        presence.hear(np.zeros(0, np.float32), np.zeros(0, np.float32), last=True)
        speaks = audio.rms_db(waves[:, : waves.shape[1] // FRAME * FRAME].reshape(2, -1, FRAME)) > SPEAKS_DB
        levels = presence.levels
        own = speaks[place] if place is not None else np.zeros(speaks.shape[1], dtype=bool)
        other = speaks.any(0) if place is None else speaks[1 - place]
        for window, found in enumerate(presence.similarities):
            at = slice(window * HOP // FRAME, (window * HOP + WINDOW) // FRAME)
            windows.append(
                (
                    number,
                    place is not None,
                    found - presence.best,
                    own[at].mean(),
                    other[at].mean(),
                    found,
                    levels[window],
                )
            )
        said = presence.frames()[: len(own)] if presence.there else np.zeros(len(own), dtype=bool)
        missed = (own & ~said).sum() / own.sum() if own.any() else np.nan
        whole.append((number, place is not None, presence.best, missed, (said & ~own).sum() / max(1, (~own).sum())))
    return (
        pd.DataFrame(windows, columns=["talk", "there", "similarity", "own", "other", "cosine", "level_db"]),
        pd.DataFrame(whole, columns=["talk", "there", "best", "missed", "alarms"]),
    )


def measure(model, table, count=16, seed=0, progress=True):
    """The table that is written: a row a decision and split, with the equal error rate's threshold there, and the
    shares that the thresholds in use get wrong.
    """
    rows = []
    for split in ("Val", "Test"):
        windows, whole = look(model, table[table["split"] == split], count, seed, progress)
        judged = windows[windows["there"]]
        judged = judged[(judged["own"] >= 0.5) | ((judged["own"] == 0) & (judged["other"] >= 0.3))]
        for name, scores, same, used in (
            ("window holds the person", judged["similarity"], judged["own"] > 0, -FALL),
            ("person is in the recording", whole["best"], whole["there"], SOMEWHERE),
        ):
            rate, threshold = verification.eer(scores.to_numpy(), same.to_numpy())
            accepted = scores >= used
            rows.append(
                {
                    "split": split,
                    "decision": name,
                    "yes": int(same.sum()),
                    "no": int((~same).sum()),
                    "eer": rate,
                    "eer_threshold": threshold,
                    "lowest_yes": float(scores[same].min()),
                    "threshold_used": used,
                    "missed": float((~accepted[same]).mean()),
                    "false_alarms": float(accepted[~same].mean()),
                }
            )
        rows.append(_of_gate(windows, split))
        there = whole[whole["there"]]
        rows.append(
            {
                "split": split,
                "decision": "frames of the timeline, where the person is there",
                "yes": len(there),
                "no": 0,
                "missed": there["missed"].mean(),
                "false_alarms": there["alarms"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _of_gate(windows, split):
    """The row of the gate: windows with the person's speech against those without any, of all three who are asked for.
    `eer_threshold` is here the one that loses 5 % of the windows with speech.
    """
    own, empty = windows[windows["own"] >= 0.5], windows[windows["own"] == 0]
    yes, no = (gate.evidence(part["cosine"], part["level_db"]) for part in (own, empty))
    return {
        "split": split,
        "decision": "gate lets a window through",
        "yes": len(yes),
        "no": len(no),
        "eer": verification.eer(np.concatenate([yes, no]), np.r_[np.ones(len(yes)), np.zeros(len(no))])[0],
        "eer_threshold": float(np.quantile(yes, gate.LOST)),
        "lowest_yes": float(yes.min()),
        "threshold_used": gate.STUDIO.threshold,
        "missed": float((yes < gate.STUDIO.threshold).mean()),
        "false_alarms": float((no >= gate.STUDIO.threshold).mean()),
    }


def main(given=None):
    parser = argparse.ArgumentParser(description="Measure the thresholds of the timeline on Val, their errors on Test.")
    parser.add_argument("--model", default=STARTER)
    parser.add_argument("--talks", type=int, default=24, help="of each split; each is extracted three times")
    parser.add_argument("--out", default=OUT)
    given = parser.parse_args(given)
    table = measure(load(given.model), splits.split_by_speaker(voices.load("auto")), given.talks)
    runs.write_text(runs.place(given.out), table.round(4).to_csv(index=False))
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
