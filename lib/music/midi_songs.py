"""Songs in stems, made offline: scores played by a SoundFont, and people who sing and speak over them (`vocals`).

The layout is the one of `lib.music.layouts`:
`<root>/{train,validation,test}/<song>/{mixture,vocals,drums,bass,other}.wav`, 16-bit stereo at 22,050 Hz, the mixture
the exact sum. The singing is made: recorded words get the notes of the score's leading line (`lib.music.vocals`). What
these songs are not: recorded together, or mastered. Each split has people and scores of its own.
"""

import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir
from lib.music import melody, midi_scores, playing, vocals
from lib.runs import write_json

SR = playing.SR
STEMS = ("vocals", "drums", "bass", "other")
VOICES = {
    "train": "Train",
    "validation": "Val",
    "test": "Test",
}  # the split of the people who speak in each split of the songs
SPEECH = 40.0  # s that a person must have to carry a song
RATIO_DB = (-6.0, 3.0)  # level of the voice where it sounds, re the accompaniment
LEVELS_DB = {"drums": (-6.0, 2.5), "bass": (-8.0, 2.5), "other": (-5.0, 2.5)}  # re their sum: mean and deviation
SUM_DB = -14.0  # dBFS of that sum, about
TAKEN_OVER = 0.6  # share of the songs in which the instrument of the leading line is silent, for it is sung
CHOIR = 2  # people who may join the singer
PEAK = 0.9
SHARES = ((8, 0.1), (12, 0.15))  # scores for validation and for test: so many, of few scores this share
VERSION = 4  # raise when rendering changes, so that songs rendered before are not used


def rendered(
    voices, train=24, validation=4, test=6, seconds=40.0, variants=1, seed=0, midi_root=None, font="", progress=True
):
    """The folder of songs rendered with these settings, in the user's cache; made where it is not there yet, reused
    where it is.

    voices: the table of chapter 1 with its split. train, validation, test: scores of each split (as many as there are,
    where fewer).
    variants: how often each training score is played, each time in another tempo, key and set of instruments, with
    another voice. font: what `playing.soundfont` takes, or several, which the training songs take in turn
    (validation and test songs the first).
    Raises `ScoreError` where no scores can be had.
    """
    settings = dict(
        train=train,
        validation=validation,
        test=test,
        seconds=seconds,
        variants=variants,
        seed=seed,
        midi_root=str(midi_root or ""),
        font=font if isinstance(font, str | list) else [str(one) for one in font],
        version=VERSION,
        people=sorted(voices["speaker"].unique()),
    )
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    root = cache_dir() / "songs" / key
    if not (root / "songs.csv").is_file():
        build(
            root,
            voices,
            progress=progress,
            **{name: value for name, value in settings.items() if name not in ("version", "people")},
        )
    return root


def build(root, voices, train, validation, test, seconds, variants, seed, midi_root=None, font="", progress=True):
    """Render songs below `root`; a song that is there is kept, so an interrupted call goes on. Returns `songs.csv` as a
    table.
    """
    root, fonts = Path(root), [font] if isinstance(font, str) else list(font)
    sounds = {one: playing.soundfont(one) for one in fonts}
    plans = plan(midi_scores.load(midi_root or None), voices, train, validation, test, variants, seed)
    write_json(root / "settings.json", dict(seconds=seconds, seed=seed, variants=variants))
    rows = []
    for number, row in enumerate(tqdm(plans, desc="rendering songs", disable=not progress)):
        folder = root / row["split"] / row["song"]
        if not (folder / "song.json").is_file():
            sound = sounds[fonts[number % len(fonts) if row["varied"] else 0]]
            rng = np.random.default_rng([seed, zlib.crc32(row["song"].encode())])
            _write(folder, _song(row, voices, sound, seconds, rng))
        rows.append(json.loads((folder / "song.json").read_text(encoding="utf-8")))
    table = pd.DataFrame(rows)
    table.to_csv(root / "songs.csv", index=False)
    return table


def plan(scores, voices, train, validation, test, variants, seed):
    """What is rendered: a dict a song with song, split, score, path, score_seconds, variant, speaker. People and scores
    stay in their split.
    """
    validation_scores, test_scores = (
        min(most, max(1, round(len(scores) * share))) for most, share in SHARES
    )  # whatever is asked for, so that
    table = midi_scores.split(
        scores, seed=seed, validation=validation_scores, test=test_scores
    )  # a score is never in another split
    plans = []
    for number, (split, wanted) in enumerate((("train", train), ("validation", validation), ("test", test))):
        rng, people = np.random.default_rng([seed, number]), speakers(voices, split)
        own = table[table["split"] == split]
        own = own.iloc[rng.permutation(len(own))[:wanted]]
        order = []
        for variant in range(variants if split == "train" else 1):
            for name, path, length in own[["name", "path", "seconds"]].itertuples(index=False):
                order = order or list(rng.permutation(people))  # everyone once before anyone twice
                plans.append(
                    dict(
                        song=f"{name}-{variant + 1}" if variant else name,
                        split=split,
                        score=name,
                        path=path,
                        score_seconds=length,
                        variant=variant,
                        varied=split == "train",
                        speaker=str(order.pop()),
                    )
                )
    return plans


def speakers(voices, split):
    """Names of the people of a split who have enough speech to carry a song, sorted.

    Raises `ScoreError` where nobody has.
    """
    seconds = voices[voices["split"] == VOICES[split]].groupby("speaker")["seconds"].sum()
    found = sorted(seconds.index[seconds >= SPEECH])
    if not found:
        raise midi_scores.ScoreError(
            f"nobody among the {VOICES[split]} voices has {SPEECH:g} s of speech to carry a song. Bring longer"
            " recordings."
        )
    return found


def _song(row, voices, sound, seconds, rng):
    """The stems and facts of one song: (dict stem -> `(samples, 2)`, facts)."""
    tempo, key = (float(rng.uniform(0.85, 1.15)), int(rng.integers(-4, 5))) if row["varied"] else (1.0, 0)
    swap = rng if row["varied"] and rng.random() < 0.7 else None
    start = float(rng.uniform(0, max(row["score_seconds"] - seconds * tempo - 5, 1e-3)))
    taken = rng.random() < TAKEN_OVER

    def played(start):
        notes, channel = melody.lead(row["path"], start, seconds, tempo, key)
        without = channel if taken else None
        return notes, playing.render(row["path"], sound, start, seconds, tempo, key, swap, without=without)

    notes, stems = played(start)
    if audio.rms_db(sum(stems.values()).mean(1)) < -60:  # a long pause in the score: from its beginning, then
        start = 0.0
        notes, stems = played(start)
    stems = balanced(stems, rng)
    own, voice, heard, facts = _vocals(row, voices, notes, seconds, rng)
    ratio = float(rng.uniform(*RATIO_DB))
    level = audio.rms_db(sum(stems.values()).mean(1))
    voice = voice * 10 ** ((level + ratio - audio.rms_db(voice.mean(1)[heard])) / 20)
    facts = dict(
        song=row["song"],
        split=row["split"],
        score=row["score"],
        speaker=row["speaker"],
        others=" ".join(own[1:]),
        start=round(start, 2),
        tempo=round(tempo, 3),
        key=key,
        other_instruments=swap is not None,
        ratio_db=round(ratio, 2),
        **facts,
    )
    return {"vocals": voice.astype(np.float32), **stems}, facts


def _vocals(row, voices, notes, seconds, rng):
    """(names, wave, where it sounds, facts) of the singer and, at times, others of the same split."""
    everyone = speakers(voices, row["split"])
    others = rng.permutation([name for name in everyone if name != row["speaker"]])[:CHOIR]
    own = [row["speaker"], *map(str, others)]
    names = voices["speaker"].astype(str)
    wave, heard, facts = vocals.perform(notes, [voices[names == name] for name in own], seconds, rng, row["varied"])
    return own, wave, heard, facts


def balanced(stems, rng):
    """The stems of a score at levels of a mix: `LEVELS_DB` re their sum, drawn; a silent stem stays silent."""
    found = {}
    for name, wave in stems.items():
        loud, wanted = audio.rms_db(wave.mean(1)), rng.normal(*LEVELS_DB[name]) + SUM_DB
        found[name] = wave * np.float32(10 ** ((wanted - loud) / 20)) if loud > -70 else wave
    return found


def _write(folder, song):
    """Write one song, the whole folder at once: the stems on the grid of 16 bit, the mixture their exact sum."""
    stems, facts = song
    gain = PEAK / max(
        float(np.abs(sum(stems.values())).max()), *(float(np.abs(wave).max()) for wave in stems.values()), 1e-6
    )
    whole = {name: np.rint(wave * gain * 32767).astype(np.int16) for name, wave in stems.items()}
    whole["mixture"] = sum(wave.astype(np.int32) for wave in whole.values()).astype(np.int16)
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, wave in whole.items():
        soundfile.write(part / f"{name}.wav", wave, SR, subtype="PCM_16")
    write_json(part / "song.json", facts)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
