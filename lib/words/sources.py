"""Single spoken words: where they come from, who says them, and the pool that overlapped clips are mixed from.

A table of words is a DataFrame with a row a recording: `word, speaker, path, split, language, licence`. Waves are
float32 `(samples,)` in [-1, 1] at 16 kHz.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lib import audio, extras
from lib.data import debian, splits, voice_making, voices
from lib.runs import place

SR = 16000
COLUMNS = ["word", "speaker", "path", "split", "language", "licence"]
SOURCES = ("auto", "debian", "speech_commands")
TELEPHONE = (
    8000  # Hz, the rate of two of the six voices; everything is brought to it and back, so that the band tells nothing
)
LEVEL_DB = -26.0  # dBFS of a single word

DIGITS = {  # what is said, by the file names 0 to 9 of the package
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
}
DIGIT_FOLDERS = {
    "it_IT_f_Menardi": "it",
    "it_IT_m_Carlo": "it",
    "fr_CA_f_June": "fr",
    "fr": "fr",
    "es_MX_f_Allison": "es",
    "es": "es",
}
SPELLING = [
    "alfa",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "x-ray",
    "yankee",
    "zulu",
]
NOT_SPOKEN = {  # folder of the spelling alphabet -> letters for which that voice says another word
    "en_US_f_Allison/phonetic": "",
    "fr_CA_f_June/phonetic": "",
    "it_IT_f_Menardi/phonetic/ICAO": "",
    "es_MX_f_Allison/phonetic": "cfgjmnqsu",
    "ru_RU_f_IvrvoiceRU/phonetic": "nx",
    "fr/phonetic": "",
}
COGNATES = {  # file -> word, and the folders where it is said much like that
    "digits/0": ("zero", ["en_US_f_Allison", "fr_CA_f_June", "it_IT_f_Menardi", "it_IT_m_Carlo", "fr"]),
    "digits/million": (
        "million",
        [
            "en_US_f_Allison",
            "es_MX_f_Allison",
            "fr_CA_f_June",
            "it_IT_f_Menardi",
            "it_IT_m_Carlo",
            "ru_RU_f_IvrvoiceRU",
            "fr",
            "es",
        ],
    ),
    "letters/dollar": (
        "dollar",
        [
            "en_US_f_Allison",
            "es_MX_f_Allison",
            "fr_CA_f_June",
            "it_IT_f_Menardi",
            "it_IT_m_Carlo",
            "ru_RU_f_IvrvoiceRU",
            "fr",
        ],
    ),
    "letters/plus": ("plus", ["en_US_f_Allison", "fr_CA_f_June", "ru_RU_f_IvrvoiceRU", "fr"]),
}
# word -> files of Test people in other packages, by the texts beside them; of Train none, as the room would tell the
# word
ELSEWHERE = {
    "hotel": "ktuberling/sounds/((gl|sl)/moon_hotel|wa/moon_otel)",
    "kilo": "klettres/lt/syllab/kilo",
    "plus": "symbols/math/operators/op0_plus_desc_bg",
    "dollar": "asterisk/sounds/es/dollar",
}
VOCABULARIES = {
    "international": [*SPELLING, *(word for word, _ in COGNATES.values())],
    "digits": [f"{language} {word}" for language, words in DIGITS.items() for word in words.split()],
}
VALIDATES = {"international": "asterisk-ru"}  # a Train voice that teaches nothing here: no Val voice says these words


class WordsError(ValueError):
    """Words cannot be used as asked; the message names the file or word and says what to do."""


# --- where words come from


def load(source="auto", root=None, vocabulary="international", download=False):
    """A table of words (`COLUMNS`), split by speaker; `.attrs["words"]` is the ordered list of classes.

    source: debian (professional speakers of Debian packages; `vocabulary`: international, the 26 words of the spelling
    alphabet and four cognates as five voices say them in four languages, or digits, 0 to 9 in three languages by one
    voice each), speech_commands (Google Speech Commands v0.01, a local copy in `root` or a download), auto:
    speech_commands where `root` is given, else debian. Raises `WordsError`.
    """
    if source not in SOURCES:
        raise WordsError(f"unknown source {source!r}; known are: {', '.join(SOURCES)}")
    if source == "speech_commands" or (source == "auto" and root):
        table = speech_commands(root, download)
        words = sorted(table["word"].unique())
    else:
        table, words = debian_words(vocabulary), VOCABULARIES[vocabulary]
    table = table[table["word"].isin(words)].sort_values(["word", "speaker", "path"]).reset_index(drop=True)
    table.attrs["words"] = words
    check(table)
    return table


def debian_words(vocabulary="international", table=None):
    """The words of a vocabulary out of the decoded voices of the Debian packages (fetched on the first call)."""
    if vocabulary not in VOCABULARIES:
        raise WordsError(f"unknown vocabulary {vocabulary!r}; known are: {', '.join(VOCABULARIES)}")
    table = voices.load("debian") if table is None else table
    table = table.assign(
        word=[{"digits": _digit, "international": _international}[vocabulary](origin) for origin in table["origin"]]
    )
    held_out = table["speaker"] == VALIDATES.get(vocabulary)
    return table.assign(split=table["split"].where(~held_out, "Val")).dropna(subset=["word"])[COLUMNS]


def _digit(origin):
    place = re.search(r"/sounds/([^/]+)/digits/(\d)\.\w+$", origin)
    language = DIGIT_FOLDERS.get(place.group(1)) if place else None
    return f"{language} {DIGITS[language].split()[int(place.group(2))]}" if language else None


def _international(origin):
    """The word of the spelling alphabet or the cognate that a file holds, else None."""
    for word, files in ELSEWHERE.items():
        if re.search(rf"/({files})\.\w+$", origin):
            return word
    inside = origin.partition("/sounds/")[2]
    letter = re.fullmatch(r"(.+)/([a-z])_p\.\w+", inside)
    if letter:
        folder, letter = letter.groups()
        return SPELLING[ord(letter) - ord("a")] if letter not in NOT_SPOKEN.get(folder, letter) else None
    folder, _, file = inside.partition("/")
    word, folders = COGNATES.get(file.rpartition(".")[0], (None, ()))
    return word if folder in folders else None


def speech_commands(root=None, download=False):
    """Google Speech Commands v0.01 (30 words, about 1,900 people) through torchaudio, split by its own lists of files.

    root: the folder with one folder a word, or one above it; where it is missing, `download` fetches it (1.5 GB) into
    `root`. Recordings of your own in the same layout, `<word>/<speaker>_nohash_<number>.wav`, work too: without the
    lists, speakers are split 70 : 15 : 15. Warren, arXiv 1804.03209; CC BY 4.0.
    """
    from torchaudio.datasets import SPEECHCOMMANDS

    if root is None and not download:
        raise WordsError(
            "speech_commands needs root=<folder of a local copy>, or download=True to fetch it (1.5 GB, network)."
        )
    root = place(root) if root else debian.cache_dir()
    folder = _archive(root)
    if folder is None and not download:
        raise WordsError(
            f"{root}: no folders with <speaker>_nohash_<number>.wav files found. Expected Speech Commands' layout, a"
            " folder a word; give the folder that holds them, or download=True."
        )
    if folder is None:
        SPEECHCOMMANDS(root, "speech_commands_v0.01", download=True)
        folder = root / "SpeechCommands" / "speech_commands_v0.01"
    data = SPEECHCOMMANDS(folder.parent.parent, folder.name, folder_in_archive=folder.parent.name)
    rows = [(Path(path), *facts) for path, *facts in map(data.get_metadata, range(len(data)))]
    table = pd.DataFrame(
        [(word, speaker, str(folder.parent / path), "", "en", "CC-BY-4.0") for path, _, word, speaker, _ in rows],
        columns=COLUMNS,
    )
    return _split(table, folder)


def _archive(root):
    for folder in (root, root / "speech_commands_v0.01", root / "SpeechCommands" / "speech_commands_v0.01"):
        if next(iter(folder.glob("*/*_nohash_*.wav")), None):
            return folder.resolve()
    return None


def _split(table, folder):
    """By the lists that come with the data; a speaker of whom they name one file is wholly in that split. Without lists
    by `splits`.
    """
    lists = {"Val": folder / "validation_list.txt", "Test": folder / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return splits.split_by_speaker(table.drop(columns="split").assign(seconds=1.0))[COLUMNS]
    named = {
        split: {Path(line).name.split("_nohash_")[0] for line in path.read_text().split()}
        for split, path in lists.items()
    }
    return table.assign(
        split=[
            next((split for split, people in named.items() if speaker in people), "Train")
            for speaker in table["speaker"]
        ]
    )


def check(table):
    """Raise `WordsError` for a class nobody in Train says, `LeakError` for a speaker in two splits or one recording
    under two names.
    """
    words = table.attrs["words"]
    taught = set(table.loc[table["split"] == "Train", "word"])
    if empty := [word for word in words if word not in taught]:
        raise WordsError(
            f"no Train recording of: {', '.join(empty[:10])}. A class nobody teaches cannot be learned: add recordings,"
            " or take the word out of the list."
        )
    spread = table.groupby("speaker")["split"].nunique()
    if len(twice := spread[spread > 1]):
        raise splits.LeakError(
            f"a speaker stands in two splits: {', '.join(twice.index[:5])}. Give all rows of a speaker the same split."
        )


def voices_a_word(table):
    """How many people say each word, by split: a DataFrame, a row a word in the order of the classes."""
    counts = table.groupby(["word", "split"])["speaker"].nunique().unstack(fill_value=0)
    return counts.reindex(index=table.attrs["words"], columns=["Train", "Val", "Test"], fill_value=0)


# --- the pool


@dataclass
class Pool:
    """Recordings to mix from: `word[k]` is the class of the k-th, `waves(k)` its variants (the first as recorded)."""

    words: list
    word: np.ndarray
    speaker: np.ndarray
    paths: list
    telephone: bool = True
    variants: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.word)

    def waves(self, number):
        """The variants of one recording, trimmed and levelled; read from its file on the first call and kept."""
        if number not in self.variants:
            self.variants[number] = [prepare(audio.read(self.paths[number], SR), self.telephone)]
        return self.variants[number]

    def varied(self, count=12, pitch=5.0, speed=1.5, tract=1.0, seed=0):
        """A pool with `count` more variants a recording: pitch by up to ± `pitch` semitones, faster or slower by up to
        `speed` times.

        tract: the resonances alone up to so many times higher or lower, beside what the pitch does to them (1: not).
        """
        made = {}
        for number in range(len(self)):
            random = np.random.default_rng((seed, number))
            wave = self.waves(number)[0]
            made[number] = [wave] + [
                vary(wave, random.uniform(-pitch, pitch), speed ** random.uniform(-1, 1)) for _ in range(count)
            ]
            if tract > 1:
                made[number][1:] = [
                    voice_making.stretch_envelope(one, tract ** random.uniform(-1, 1)) for one in made[number][1:]
                ]
        return Pool(self.words, self.word, self.speaker, self.paths, self.telephone, made)

    def by(self, keep):
        """The recordings for which the boolean array `keep` is true."""
        places = np.flatnonzero(keep)
        variants = {new: self.variants[old] for new, old in enumerate(places) if old in self.variants}
        return Pool(
            self.words,
            self.word[places],
            self.speaker[places],
            [self.paths[place] for place in places],
            self.telephone,
            variants,
        )


def pool(table, split=None, telephone=True):
    """The recordings of one split (None: all) of a table of words as a `Pool`. Raises `WordsError` where there are
    none.
    """
    words, rows = table.attrs["words"], table if split is None else table[table["split"] == split]
    if not len(rows):
        raise WordsError(f"no word of the split {split}; the table has: {', '.join(sorted(table['split'].unique()))}.")
    return Pool(
        list(words),
        np.array([words.index(word) for word in rows["word"]]),
        rows["speaker"].to_numpy(),
        list(rows["path"]),
        telephone,
    )


def prepare(wave, telephone=True):
    """One word: its pauses at both ends cut, the telephone band if asked for, short fades, a level of -26 dBFS."""
    wave = trim(wave)
    if telephone:
        wave = audio.resample(audio.resample(wave, SR, TELEPHONE), TELEPHONE, SR)
    edge = min(80, len(wave) // 2)  # 5 ms
    wave[:edge] *= np.linspace(0, 1, edge, dtype=np.float32)
    wave[len(wave) - edge :] *= np.linspace(1, 0, edge, dtype=np.float32)
    return (wave * 10 ** ((LEVEL_DB - audio.rms_db(wave)) / 20)).astype(np.float32)


def trim(wave, below=18.0, frame=320, pad=2, click=5):
    """`wave` from its first to its last speech: 20 ms frames less than `below` dB under the loud ones; `click` or fewer
    alone are no speech.
    """
    levels = debian.frame_levels(wave, frame)
    if not len(levels):
        return wave.copy()
    loud = np.concatenate([[False], levels > np.percentile(levels, 95) - below, [False]])
    runs = np.flatnonzero(np.diff(loud.astype(int))).reshape(-1, 2)
    long = runs[np.diff(runs, axis=1)[:, 0] > click]
    runs = long if len(long) else runs
    return wave[max(0, runs[0, 0] - pad) * frame : (runs[-1, 1] + pad) * frame].copy()


def vary(wave, semitones=0.0, speed=1.0):
    """`wave` higher by `semitones` (the whole voice: pitch and resonances) and `speed` times as fast; librosa's phase
    vocoder and soxr.
    """
    with extras():
        import librosa

    factor = 2 ** (semitones / 12)
    stretched = librosa.effects.time_stretch(wave, rate=float(speed / factor), n_fft=512)
    return audio.resample(stretched, round(SR * factor), SR)
