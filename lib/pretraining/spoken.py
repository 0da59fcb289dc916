"""Speech of synthesisers that were built from real people's recordings: many more voices for pretraining, and for it
alone.

MBROLA's diphone voices (spoken through espeak-ng) and RHVoice's: Debian packages of the component non-free, to be
installed with
    apt-get install espeak-ng iso-codes rhvoice 'mbrola-*' 'rhvoice-*'
What they say are names of languages and places in their own language, from iso-codes. Waves are float32 `(samples,)` at
16 kHz in [-1, 1], each voice in a folder of the cache.
"""

import gettext
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio
from lib.data import cache_dir
from lib.data.debian import VoicesError, trim, write_table

SR, VERSION = 16000, 1
MBROLA, RHVOICE, NAMES = Path("/usr/share/mbrola"), Path("/usr/share/RHVoice/voices"), Path("/usr/share/locale")
LANGUAGES = {
    "br": "pt_BR",
    "bz": "br",
    "ca": "fr",
    "cn": "zh_CN",
    "cr": "hr",
    "cz": "cs",
    "ee": "et",
    "gr": "el",
    "hb": "he",
    "hn": "ko",
    "ic": "is",
    "in": "hi",
    "ir": "fa",
    "jp": "ja",
    "la": "it",
    "ma": "ms",
    "mx": "es",
    "nz": "mi",
    "sw": "sv",
    "tl": "te",
    "vz": "es",
}  # how MBROLA's two letters are called in iso-codes, where they differ
SPOKEN = {
    "Russian": "ru",
    "Ukrainian": "uk",
    "Polish": "pl",
    "Brazilian-Portuguese": "pt_BR",
    "Esperanto": "eo",
    "Albanian": "sq",
    "Kyrgyz": "ky",
    "Macedonian": "mk",
    "Tatar": "tt",
    "Georgian": "ka",
    "Czech": "cs",
    "Slovak": "sk",
}


def load(seconds=240.0, seed=0):
    """The synthesised voices as a table like `voices.load`'s (speaker, path, seconds, sex, split), some `seconds` a
    voice.

    Made once; an interrupted call goes on with the next voice. `VoicesError` says what to install.
    """
    missing = [name for name in ("espeak-ng", "mbrola", "RHVoice-test") if not shutil.which(name)]
    if missing or not (NAMES / "de/LC_MESSAGES/iso_639-3.mo").is_file():
        raise VoicesError(
            f"synthesised voices need programs that are not here ({', '.join(missing) or 'iso-codes'}). As root, with"
            " contrib and non-free enabled: apt-get install espeak-ng iso-codes rhvoice 'mbrola-*' 'rhvoice-*'. Or"
            " pretrain without them: --voices debian acted."
        )
    folder, tables, voices = cache_dir() / f"spoken-{VERSION}", [], available()
    for name, say, language in tqdm(voices, unit="voice", desc="synthesised voices"):
        marker = folder / f"{name}.csv"
        if not marker.is_file():
            write_table(_speak(folder / name, say, _names(language), seconds, seed), marker)
        tables.append(pd.read_csv(marker).assign(speaker=name))
    if mute := [name for (name, *_), table in zip(voices, tables) if table.empty]:
        warnings.warn(f"{', '.join(mute)}: said nothing of the names in its language and is left out.", stacklevel=2)
    voices = pd.concat(tables, ignore_index=True)
    return voices.assign(
        path=[str(folder / s / p) for s, p in zip(voices.speaker, voices.path)], split="Train", source="synthesised"
    )


def available():
    """(name, function (text, wav file, rng) -> None, language) of each voice that is installed."""
    listed = {line.split()[4].removeprefix("mb/mb-") for line in _run("espeak-ng", "--voices=mb").splitlines()[1:]}
    found = []
    for folder in sorted(MBROLA.iterdir()) if MBROLA.is_dir() else ():
        if folder.name in listed:
            found.append(
                (f"mbrola-{folder.name}", _espeak(folder.name), LANGUAGES.get(folder.name[:2], folder.name[:2]))
            )
    for info in sorted(RHVOICE.glob("*/voice.info")):
        settings = dict(line.split("=", 1) for line in info.read_text().splitlines() if "=" in line)
        found.append(
            (f"rhvoice-{info.parent.name}", _rhvoice(settings["name"]), SPOKEN.get(settings["language"], "en"))
        )
    return found


def _espeak(voice):
    return lambda text, wav, rng: _run(
        "espeak-ng",
        "-v",
        f"mb-{voice}",
        "-s",
        str(rng.integers(110, 180)),
        "-p",
        str(rng.integers(25, 75)),
        "-w",
        str(wav),
        "--stdin",
        text=text,
    )


def _rhvoice(voice):
    return lambda text, wav, rng: _run(
        "RHVoice-test",
        "-p",
        voice,
        "-r",
        str(rng.integers(80, 125)),
        "-t",
        str(rng.integers(90, 111)),
        "-o",
        str(wav),
        text=text,
    )


def _run(*command, text=None):
    """What `command` prints. A voice that cannot say a text writes no file, which `_speak` sees."""
    return subprocess.run(command, input=text, capture_output=True, text=True).stdout


def _names(language, english=False):
    """Names of languages and places in `language`, or in English; in German where iso-codes has few of them."""
    said = set()
    for domain in ("iso_639-3", "iso_3166-1", "iso_3166-2", "iso_4217"):
        file = NAMES / language / "LC_MESSAGES" / f"{domain}.mo"
        if file.is_file():
            with file.open("rb") as stream:
                catalogue = gettext.GNUTranslations(stream)._catalog
            pairs = [
                (key, text) for key, text in catalogue.items() if key and isinstance(key, str) and isinstance(text, str)
            ]
            said |= {text for text in (pair[not english] for pair in pairs) if 3 < len(text) < 40}
    return sorted(said) if len(said) > 200 or language == "de" else _names("de", english)


def _speak(folder, say, names, seconds, seed):
    """Let a voice say sentences of names until there are `seconds` of speech; its table: path, seconds, sex (by its
    pitch).
    """
    rng, rows, pitches = np.random.default_rng(seed), [], []
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wav, tries = Path(temporary) / "said.wav", 0
        while sum(row[1] for row in rows) < seconds and tries < 2 * seconds:
            tries += 1
            wav.unlink(missing_ok=True)
            say(", ".join(rng.choice(names, 6)) + ".", wav, rng)
            wave = trim(audio.read(wav, SR)) if wav.is_file() and wav.stat().st_size > 100 else np.zeros(0, np.float32)
            if len(wave) > SR:
                path = f"{len(rows) + 1:03d}.flac"
                audio.write(folder / path, wave / max(1.0, np.abs(wave).max()), SR)
                rows.append((path, len(wave) / SR))
                if len(pitches) < 5:
                    pitches.append(np.median(librosa.yin(wave, fmin=60, fmax=400, sr=SR, frame_length=1024)))
            elif tries > 20 and not rows:
                break
    return pd.DataFrame(rows, columns=["path", "seconds"]).assign(
        sex="F" if pitches and np.median(pitches) > 160 else "M"
    )
