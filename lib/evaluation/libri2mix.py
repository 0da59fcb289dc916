"""A yardstick that the field knows: Libri2Mix's test set, made from a local LibriSpeech, and a model's scores on it.

    python -m lib.evaluation.libri2mix LIBRISPEECH METADATA [--wham FOLDER] [--enrollments MAP] [--rate 8000]

    LIBRISPEECH  folder that holds test-clean/
    METADATA     libri2mix_test-clean.csv of github.com/JorisCos/LibriMix (Cosentino et al., arXiv 2005.11262)
    --wham       folder of WHAM!'s noise (wham_noise), for the noisy set; without it the clean set is made
    --enrollments  map_mixture2enrollment of github.com/BUTSpeechFIT/speakerbeam, which ESPnet and WeSep use as well

Mixtures are those of the mode "min": sources times their published gains, cut to the shortest, added up. Each mixture
asks two questions, one a person. Nothing is written but the table. This project's models were not trained on
LibriSpeech. Waves are float32 `(samples,)`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from lib import audio, metrics, runs
from lib.data.tables import TableError, read_table
from lib.evaluation import failures

RATE = 16000  # Hz, of LibriSpeech and of the model
NEEDED = ("mixture_ID", "source_1_path", "source_1_gain", "source_2_path", "source_2_gain")


class Libri2Mix:
    """The questions of the test set, in order: `len()`, and `[k]` a dict of mix, target, enrollment `(samples,)` at 16
    kHz, `name` and `person`.

    wham: folder of the noise, or None for the clean set. enrollments: path of the map, or None: then the enrollment is
    another utterance of the person out of the metadata, drawn by a seed, and the scores are not the published test's.
    rate: 8000 makes the set at 8 kHz, as much of the literature uses it, and brings it to 16 kHz for the model.
    """

    def __init__(self, librispeech, metadata, wham=None, enrollments=None, rate=RATE, seed=0):
        self.librispeech, self.wham, self.rate = Path(librispeech), wham and Path(wham), rate
        table = read_table(metadata, plain_header=False)
        needed = NEEDED + (("noise_path", "noise_gain") if wham else ())
        if lacking := [name for name in needed if name not in table]:
            raise TableError(f"{metadata}: lacks {', '.join(lacking)}. Give LibriMix's own libri2mix_test-clean.csv.")
        self.rows = {row["mixture_ID"]: row for row in table.to_dict("records")}
        self.questions = [(name, person) for name in self.rows for person in (0, 1)]
        self.known = self._map(enrollments) if enrollments else self._drawn(seed)

    def _map(self, path):
        known = {}
        for line, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            fields = text.split()
            if len(fields) != 3 and fields:
                raise TableError(
                    f"{path}, line {line}: expected a mixture, an utterance and an enrollment, such as s1/NAME, found"
                    f" {text[:60]!r}."
                )
            if fields and fields[0] in self.rows:
                mixture, utterance, enrollment = fields
                place, _, other = enrollment.partition("/")
                if place not in ("s1", "s2") or other not in self.rows or utterance not in mixture.split("_"):
                    raise TableError(f"{path}, line {line}: {enrollment} is no source of a mixture of the metadata.")
                known[mixture, mixture.split("_").index(utterance)] = other, int(place[1]) - 1
        if missing := [question for question in self.questions if question not in known]:
            raise TableError(f"{path}: has no enrollment for {missing[0][0]} and {len(missing) - 1} other questions.")
        return known

    def _drawn(self, seed):
        said = {}
        for name, row in self.rows.items():
            for person in (0, 1):
                said.setdefault(_speaker(row, person), []).append((name, person))
        rng, known = np.random.default_rng(seed), {}
        for name, person in self.questions:
            own = self.rows[name][f"source_{person + 1}_path"]
            free = [
                (other, place)
                for other, place in said[_speaker(self.rows[name], person)]
                if self.rows[other][f"source_{place + 1}_path"] != own
            ]
            if not free:
                raise TableError(f"{name}: nothing else is said by one of its people. Give --enrollments.")
            known[name, person] = free[rng.integers(len(free))]
        return known

    def __len__(self):
        return len(self.questions)

    def __getitem__(self, k):
        name, person = self.questions[k]
        sources = self._sources(name)
        enrollment = self._sources(self.known[name, person][0])[self.known[name, person][1]]
        return {
            "name": name,
            "person": person,
            "mix": self._heard(sum(sources)),
            "target": self._heard(sources[person]),
            "enrollment": self._heard(enrollment),
        }

    def _sources(self, name):
        """The two people and, where there is noise, the noise, scaled, at `self.rate` and of one length."""
        row = self.rows[name]
        waves = [_read(self.librispeech / row[f"source_{one}_path"]) for one in (1, 2)]
        gains = [float(row[f"source_{one}_gain"]) for one in (1, 2)]
        if self.wham:
            longest = max(map(len, waves))
            waves.append(_longer(_read(self.wham / row["noise_path"], first=True), longest))
            gains.append(float(row["noise_gain"]))
        waves = [gain * wave for gain, wave in zip(gains, waves)]
        if self.rate != RATE:
            waves = [resample_poly(wave, self.rate, RATE) for wave in waves]
        shortest = min(map(len, waves))
        return [wave[:shortest].astype(np.float32) for wave in waves]

    def _heard(self, wave):
        return audio.resample(wave, self.rate, RATE)


def _speaker(row, person):
    return Path(row[f"source_{person + 1}_path"]).name.split("-")[0]


def _read(path, first=False):
    if not path.is_file():
        raise audio.AudioError(f"{path}: is not there. Is the folder given the one that holds test-clean (WHAM: tt)?")
    wave, rate = audio.read_channels(path)
    wave = wave[:, 0] if first else wave.mean(1)
    return audio.resample(np.ascontiguousarray(wave), rate, RATE)


def _longer(noise, samples):
    """`noise` cut to `samples`, or repeated with a cross-fade of half a second until it is so long."""
    whole, half = noise, RATE // 2
    rise = np.hanning(RATE + 1)[: half + 1]
    while len(whole) < samples:
        joint = whole[-half - 1 :] * rise[::-1] + noise[: half + 1] * rise
        whole = np.concatenate([whole[: -half - 1], joint, noise[half + 1 :]])
    return whole[:samples]


def score(model, data, limit=None, progress=True):
    """A row a question: name, person, si_sdr, si_sdri (dB, at the set's own rate), margin_db (below 0: the wrong
    person).
    """
    rows = []
    for k in tqdm(range(min(limit or len(data), len(data))), disable=not progress, desc="Libri2Mix"):
        item = data[k]
        est = model.extract(item["mix"], item["enrollment"])
        waves = [audio.resample(wave, RATE, data.rate) for wave in (est, item["target"], item["mix"])]
        shortest = min(map(len, waves))
        est, target, mix = (wave[:shortest] for wave in waves)
        rows.append(
            {
                "name": item["name"],
                "person": item["person"],
                "si_sdr": float(metrics.si_sdr(est, target)),
                "si_sdri": float(metrics.si_sdri(est, target, mix)),
                "margin_db": failures.margin_to_others(est, target, mix),
            }
        )
    return pd.DataFrame(rows)


def main(given=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Score a model on Libri2Mix's test set.")
    parser.add_argument("librispeech")
    parser.add_argument("metadata")
    parser.add_argument("--wham")
    parser.add_argument("--enrollments")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=RATE)
    parser.add_argument("--model", default="pretrained/starter", help="a folder or a hub id (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="score the first so many questions only")
    parser.add_argument("-o", "--out", help="a CSV for the row of each question")
    asked = parser.parse_args(given)
    from lib.evaluation.extract import load

    try:
        data = Libri2Mix(asked.librispeech, asked.metadata, asked.wham, asked.enrollments, asked.rate)
        table = score(load(asked.model), data, asked.limit)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if asked.out:
        runs.write_text(Path(asked.out), table.to_csv(index=False))
    mean, low, high = metrics.bootstrap_interval(table["si_sdri"])
    print(
        f"Libri2Mix test, {'noisy' if asked.wham else 'clean'}, min, {asked.rate} Hz, {len(table)} questions,"
        f" enrollments {'of the map' if asked.enrollments else 'drawn here'}: SI-SDR {table['si_sdr'].mean():.2f} dB,"
        f" SI-SDRi {mean:.2f} dB ({low:.2f} to {high:.2f}), over 1 dB {(table['si_sdri'] > 1).mean():.1%}, right person"
        f" {(table['margin_db'] > 0).mean():.1%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
