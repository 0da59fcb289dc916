"""Endless mixtures made on the fly for pretraining: item `i` is a function of the seed, `i` and the number of items
alone.

Waves are float32 `(samples,)` at 16 kHz in [-1, 1]. All voices lie in one 16-bit memory-mapped file in the cache, so
that worker processes share it. Augmentation is there so that nothing leans on a package's own noise floor, codec or
level.
"""

import copy
import hashlib
import io
import itertools
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import soundfile
import soxr
from scipy.signal import fftconvolve
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir, voice_making

SR = 16000
SPEEDS = (
    0.84,
    0.88,
    0.92,
    0.96,
    1.0,
    1.0,
    1.04,
    1.08,
    1.13,
    1.18,
)  # of augmented persons; one sped up is another voice
GAP = int(0.15 * SR)  # silence between two recordings of one person that follow each other in a segment


def pack(voices):
    """Write the recordings of `voices` one after another into a 16-bit file in the cache; return it with its index.

    The index has a row a recording: speaker, sex, first (sample), samples. Made once for one list of files.
    """
    voices = voices.sort_values(["speaker", "path"]).reset_index(drop=True)
    made = [f"{p}{t}" for p, t in zip(voices.pitch, voices.tract)] if "pitch" in voices else [""] * len(voices)
    key = hashlib.sha256(
        "\n".join(Path(p).name + s + m for p, s, m in zip(voices.path, voices.speaker, made)).encode()
    ).hexdigest()[:16]
    file, table = cache_dir() / f"packed_{key}.i16", cache_dir() / f"packed_{key}.csv"
    if not table.is_file():
        part, rows, first = file.with_suffix(f".part{os.getpid()}"), [], 0  # another process may be at it too
        wanted = voices[[name for name in ("speaker", "sex", "path", "pitch", "tract") if name in voices]]
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with part.open("wb") as out, ProcessPoolExecutor(mp_context=context) as pool:
            waves = pool.map(
                _packed, wanted.itertuples(index=False, name=None), itertools.repeat(tuple(wanted)), chunksize=64
            )
            for row, wave in zip(wanted.itertuples(), tqdm(waves, total=len(wanted), desc="pack voices")):
                out.write(wave.tobytes())
                rows.append((row.speaker, row.sex, first, len(wave)))
                first += len(wave)
        os.replace(part, file)
        pd.DataFrame(rows, columns=["speaker", "sex", "first", "samples"]).to_csv(part, index=False)
        os.replace(part, table)
    return np.memmap(file, dtype="<i2", mode="r"), pd.read_csv(table, dtype={"speaker": str, "sex": str})


def _packed(values, names):
    wave = voice_making.read(SimpleNamespace(**dict(zip(names, values))))
    return (wave.clip(-1, 1) * 32767).round().astype("<i2")


class EndlessMixtures(Dataset):
    """`items` mixtures of `seconds` with an enrollment of `enrollment_seconds`, from the speakers of one split.

    Item: dict(mix, target, enrollment), float32 `(samples,)`; with `both`, target and enrollment are `(2, samples)`,
    each of the first two persons being the target once: one mixture, two answers, so that the enrollment cannot be
    ignored; and who speaks is said: people `(3,)`, a number a real person, -1 for none, and sex `(2,)`, 0 a woman, 2 a
    man, 1 unknown. A target is a woman as often as a man, an interferer is of the target's sex with `same_sex` chance
    (with `gentle` half of that at first, all of it from the middle on: whom to follow is learned sooner where voices
    differ more); SIR is uniform in `sir_db`. With `augment`, persons are sped up or slowed down (which makes new
    voices), waves are filtered, band-limited, put into rooms and coded, and background is added, but for a share of
    `plain` items, which are as they would be without it. In a share of `one_line` items all speak over one microphone,
    in one room or none, and the others come from the target's package where they can: nothing but the voice tells them
    apart there.
    """

    def __init__(
        self,
        voices,
        items,
        seed=0,
        seconds=3.0,
        enrollment_seconds=3.0,
        sir_db=(-5.0, 5.0),
        same_sex=0.5,
        second_interferer=0.1,
        noise_share=0.3,
        noise_snr_db=(5.0, 20.0),
        augment=True,
        music=(),
        both=False,
        plain=0.0,
        gentle=True,
        one_line=0.0,
    ):
        self.samples, self.index = pack(voices)
        self.items, self.seed, self.augment, self.both = items, seed, augment, both
        self.length, self.enrollment_length = int(seconds * SR), int(enrollment_seconds * SR)
        self.sir_db, self.same_sex, self.second = sir_db, same_sex, second_interferer
        self.noise_share, self.noise_snr_db, self.gentle, self.one_line = (
            noise_share,
            noise_snr_db,
            gentle and augment,
            one_line * augment,
        )
        enough = self.index.groupby("speaker").samples.sum() > 1.5 * (self.length + self.enrollment_length)
        self.rows = {name: group for name, group in self.index.groupby("speaker") if enough[name]}
        if len(self.rows) < 2:
            raise ValueError(
                "fewer than two speakers have enough speech for a mixture with an enrollment; bring more voices"
            )
        self.sex = {name: str(group.sex.iloc[0]) for name, group in self.rows.items()}
        self.by_sex = {
            sex: [n for n in self.rows if self.sex[n] == sex] for sex in ("F", "M") if sex in self.sex.values()
        }
        if not self.by_sex:  # voices without that label: all alike
            self.by_sex, self.sex = {"?": list(self.rows)}, dict.fromkeys(self.rows, "?")
        self.numbers = {name: number for number, name in enumerate(sorted({person(name) for name in self.rows}))}
        self.weight = {name: float(group.samples.sum()) ** 0.5 for name, group in self.rows.items()}
        self.plain_share, self.plain = plain, copy.copy(self)
        self.plain.augment = self.plain.gentle = self.plain.one_line = False
        self.music = self.plain.music = [(audio.read(path) * 32767).astype("<i2") for path in music]

    def __len__(self):
        return self.items

    def __getitem__(self, i):
        return self.named(i)[0]

    def named(self, i):
        """Item `i`, and the names of those who speak in it, the target (with `both`: both targets) first."""
        rng = np.random.default_rng([self.seed, int(i)])
        line = self._response(rng) if self.one_line and rng.random() < self.one_line else None
        if self.augment and line is None and rng.random() < self.plain_share:
            return self.plain.named(i)
        room = self._room(rng, 0.12)  # all in one room, or each in none or an own one, as recordings from homes are
        name = self._speaker(rng, self.by_sex[rng.choice(list(self.by_sex))])
        persons, names = [self._person(rng, name, room, line)], [name]
        for _ in range(1 + (rng.random() < self.second)):
            same = [n for n in self.by_sex[self.sex[name]] if person(n) != person(name)]
            rest = [n for n in self.rows if self.sex[n] != self.sex[name]]
            alike = self.same_sex * min(1.0, 0.5 + i / self.items) if self.gentle else self.same_sex
            pool = same if same and (rng.random() < alike or not rest) else rest
            near = [n for n in pool if n.split("-")[0] == name.split("-")[0]] if line else []
            names.append(self._speaker(rng, near or pool))
            persons.append(self._person(rng, names[-1], room, line))
        waves = [_unit(wave) * 10 ** (-rng.uniform(*self.sir_db) / 20 * (k > 0)) for k, (wave, _) in enumerate(persons)]
        mix = self._floor(rng, sum(waves)) if line else sum(waves)
        if rng.random() < self.noise_share:
            mix = mix + _unit(self._noise(rng, name)) * 10 ** (-rng.uniform(*self.noise_snr_db) / 20)
        mix, *targets = self._channel(rng, mix, *waves[: 1 + self.both])
        gain = 10 ** (rng.uniform(-32, -14) / 20) if self.augment else 0.1
        gain = min(gain / (np.sqrt(np.mean(mix**2)) + 1e-9), 0.95 / (np.abs(mix).max() + 1e-9))
        line = (
            line if line and rng.random() < 0.5 else None
        )  # the enrollments over the same microphone too, or each over its own
        enrollments = [self._enrollment(rng, wave, name, line) for _, wave in persons[: 1 + self.both]]
        first = slice(None) if self.both else 0
        item = {
            "mix": (mix * gain).astype(np.float32),
            "target": (np.stack(targets) * gain).astype(np.float32)[first],
            "enrollment": np.stack(enrollments).astype(np.float32)[first],
        }
        if self.both:
            item["people"] = np.array([*(self.numbers[person(name)] for name in names), -1])[:3]
            item["sex"] = np.array([{"F": 0, "M": 2}.get(self.sex[name], 1) for name in names[:2]])
        return item, names

    def _person(self, rng, name, room, line):
        """What one person says in the mixture, and says elsewhere, at one speed (a voice sped up is another voice)."""
        speed = self._speed(rng)
        wave, used = self._speech(rng, name, self.length, speed)
        room = self._room(rng) if room is None and line is None else room
        return self._shape(rng, wave, room, line), self._speech(rng, name, self.enrollment_length, speed, avoid=used)[0]

    def _enrollment(self, rng, wave, name, line):
        wave = _unit(self._shape(rng, wave, self._room(rng), line))
        if self.augment and rng.random() < 0.25:
            noise = np.resize(_unit(self._noise(rng, name)), len(wave))
            wave = wave + noise * 10 ** (-rng.uniform(10, 25) / 20)
        (wave,) = self._channel(rng, wave)
        level = 10 ** (rng.uniform(-32, -14) / 20) if self.augment else 0.1
        return np.clip(_unit(wave) * level, -1, 1)

    def _speaker(self, rng, names):
        weight = np.array([self.weight[n] for n in names])
        return names[rng.choice(len(names), p=weight / weight.sum())]

    def _speed(self, rng):
        return float(rng.choice(SPEEDS)) if self.augment else 1.0

    def _speech(self, rng, name, length, speed, avoid=()):
        """`length` samples of one person's recordings in a row, none of them in `avoid`; returns them with their
        rows.
        """
        rows = self.rows[name]
        need, first, starts = int(length * speed) + 64, rows["first"].to_numpy(), rows["samples"].to_numpy()
        order = np.roll(np.arange(len(rows)), -int(rng.integers(len(rows))))
        order = [k for k in order if k not in avoid] or list(order)
        parts, used, have = [], set(), 0
        for k in order:
            offset = int(rng.integers(max(1, starts[k] - need // 2))) if not parts else 0
            take = int(min(starts[k] - offset, need - have))
            parts += [self.samples[first[k] + offset : first[k] + offset + take], np.zeros(GAP, "<i2")]
            used.add(int(k))
            have += take + GAP
            if have >= need:
                break
        wave = np.concatenate(parts).astype(np.float32) / 32768
        if speed != 1.0:
            wave = soxr.resample(wave[:need], SR * speed, SR, quality="MQ")
        wave = wave[:length]
        return np.pad(wave, (0, length - len(wave))), used

    def _shape(self, rng, wave, room, line=None):
        """One person's microphone: a response, a noise floor, a telephone, or the response `line` that all share; and
        where given, a room.
        """
        if not self.augment:
            return wave
        response = self._response(rng) if line is None else line
        wave = np.fft.irfft(np.fft.rfft(wave) * response(np.fft.rfftfreq(len(wave), 1 / SR)), len(wave))
        if line is None:
            wave = self._floor(rng, wave)
            if rng.random() < 0.06:
                wave = through_gsm(wave)
        return wave if room is None else fftconvolve(wave, room)[: len(wave)]

    def _response(self, rng):
        """What a microphone does to each frequency (Hz), a function: in seven of ten a random smooth equaliser, with
        band limits now and then.
        """
        knots, top, bottom = np.zeros(8), np.inf, 0.0
        if rng.random() < 0.7:
            knots = rng.uniform(-9, 9, 8)
            top = rng.uniform(3200, 7500) if rng.random() < 0.4 else top
            bottom = rng.uniform(60, 350) if rng.random() < 0.3 else bottom
        return lambda hz: (
            10 ** (np.interp(hz, np.linspace(0, SR / 2, 8), knots) / 20)
            / (1 + (hz / top) ** 24)
            / (1 + (bottom / np.maximum(hz, 1)) ** 8)
        )

    def _floor(self, rng, wave):
        """`wave` with a noise floor 18 to 40 dB below it, in three of ten."""
        if rng.random() > 0.3:
            return wave
        return wave + _unit(_coloured(rng, len(wave))) * np.sqrt(np.mean(wave**2)) * 10 ** (-rng.uniform(18, 40) / 20)

    def _room(self, rng, chance=0.25):
        """With that chance the impulse response of a made-up room: direct sound and an exponentially falling tail."""
        if not self.augment or rng.random() > chance:
            return None
        t = np.arange(int(rng.uniform(0.12, 0.5) * SR))
        tail = rng.standard_normal(len(t)) * np.exp(-6.9 * t / len(t)) * (t > 0.002 * SR)
        tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        return tail

    def _noise(self, rng, name):
        """Music, babble of five people other than `name`, or noise whose spectrum falls by 0 to 6 dB an octave."""
        kind = rng.random()
        if self.music and kind < 0.35:
            song = self.music[rng.integers(len(self.music))]
            start = int(rng.integers(max(1, len(song) - self.length)))
            return np.resize(song[start : start + self.length], self.length).astype(np.float32)
        if kind < 0.55:
            names = [n for n in self.rows if n != name]
            return sum(_unit(self._speech(rng, n, self.length, 1.0)[0]) for n in rng.choice(names, 5))
        return _coloured(rng, self.length)

    def _channel(self, rng, mix, *targets):
        """Band limit and coarse quantisation, as telephones and codecs do; the targets get the same filter."""
        if self.augment and rng.random() < 0.2:
            top = rng.uniform(3300, 7000)
            response = 1 / (1 + (np.fft.rfftfreq(len(mix), 1 / SR) / top) ** 24)
            mix, *targets = (np.fft.irfft(np.fft.rfft(wave) * response, len(mix)) for wave in (mix, *targets))
        if self.augment and rng.random() < 0.1:
            peak = np.abs(mix).max() + 1e-9
            coded = np.sign(mix) * np.log1p(255 * np.abs(mix) / peak) / np.log(256)  # mu-law, 8 bit
            coded = np.round(coded * 127) / 127
            mix = np.sign(coded) * (256 ** np.abs(coded) - 1) / 255 * peak
        return mix, *targets


def through_gsm(wave):
    """`wave` `(samples,)` as a GSM 06.10 telephone hands it on: 8 kHz, 13 kbit/s; same length and peak."""
    peak, coded = np.abs(wave).max() + 1e-9, io.BytesIO()
    soundfile.write(
        coded, soxr.resample(wave * (0.9 / peak), SR, SR // 2).clip(-1, 1), SR // 2, format="WAV", subtype="GSM610"
    )
    coded.seek(0)
    heard = soxr.resample(soundfile.read(coded)[0], SR // 2, SR)[: len(wave)] * (
        peak / 0.9
    )  # whole frames of 20 ms, so never shorter
    return np.pad(heard, (0, len(wave) - len(heard)))


def person(name):
    """The person behind a made-up voice (`voice_making.make_voices`): two voices of one person are never in one
    mixture.
    """
    return name.split("~")[0]


def _coloured(rng, length):
    """Noise whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** rng.uniform(0, 1), length)


def _unit(wave):
    return wave / (np.sqrt(np.mean(np.square(wave))) + 1e-6)
