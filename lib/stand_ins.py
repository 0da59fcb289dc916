"""So that each chapter runs alone: what an earlier one would have made and is missing is made in small on the spot, and
said.

Paths are given relative to the project's root, or absolute; messages print them as they were given.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.runs import place, read_json

SMALL = dict(train=96, val=16, test=24)  # mixtures: enough to see every plot, not to compare models
PLACE = "office"  # where chapter 1 mixes unless told otherwise
QUICK = dict(epochs=1, batch_size=4, learning_rate=1e-3, progress="none")
SMALLEST = dict(adim=64, aheads=4, layers=2, linear_units=96, xvector_channels=64, xvector_pool=128)


def dataset(folder="data/Dataset", small="data/Dataset_small", source="auto", root=None, **counts):
    """The Dataset folder to use: `folder` where chapter 1 made it or a user brought it, else a small one made in
    `small`.

    counts: mixtures as `train`, `val`, `test`, default `SMALL`. Raises `VoicesError` where no voices can be had.
    """
    if place(folder).is_dir() and any(place(folder).glob("*_Dataset")):
        return place(folder)
    from lib.data import mixtures, splits, voices

    counts = {**SMALL, **counts}
    print(
        f"{folder} is not there (chapter 1 makes it), so {' + '.join(map(str, counts.values()))} mixtures are made in"
        f" {small}, which takes seconds where the voices are cached and minutes where they are fetched first."
    )
    table = splits.split_by_speaker(voices.load(source, root=root))
    mixtures.build(table, place(small), place=PLACE, overwrite=True, progress=False, **counts)
    return place(small)


def fresh(train, folder, source="auto", root=None, record=None):
    """Train mixtures of the Dataset `folder`, as many as `train` holds, new in each epoch; where they cannot be made,
    `train` itself, and it is said why.

    record: file that says what was made (`lib.data.fresh`).
    """
    from lib.data import splits, voices
    from lib.data.fresh import FreshMixtures

    try:
        table = splits.split_by_speaker(voices.load(source, root=root))
        return FreshMixtures(table, folder, len(train), record)
    except (voices.VoicesError, ValueError) as error:  # no voices, or a data set that was not made of them
        print(f"The mixtures on disk are heard in each epoch: {error}")
        return train


def starter(pretrained="pretrained/starter", seed=0):
    """The model to start from: the checkpoint folder or hub id `pretrained`; without the committed starter, random
    weights.
    """
    import torch

    from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig

    if place(pretrained).is_dir() and any(place(pretrained).glob("*.json")):
        return ConVoiFilter.from_pretrained(place(pretrained))
    if pretrained != "pretrained/starter":
        return ConVoiFilter.from_pretrained(pretrained)
    print(
        f"{pretrained} is not there, so this is a very small model with random weights: the numbers below mean nothing"
        " yet."
    )
    torch.manual_seed(seed)
    return ConVoiFilter(ConVoiFilterConfig(**SMALLEST)).eval()


def fine_tuned(run, start, data, strategy="attention of last 2", items=64):
    """The fine-tuned model: `run`/kept or /best where chapter 2 made it, else `start` trained for a moment on `data` by
    `strategy`.

    start: a function that returns the model to start from. items: mixtures of Train used on the spot, out of an even
    spread.
    """
    from lib.models.convoifilter import ConVoiFilter

    for name in ("kept", "best"):  # what chapter 2 kept of it, else the epoch with the lowest loss
        if (place(run) / name / "config.json").is_file():
            print(_state_of(run))
            return ConVoiFilter.from_pretrained(place(run) / name)
    from transformers.utils import logging

    from lib.data.dataset import part
    from lib.training import strategies
    from lib.training.equaliser import fit_equaliser
    from lib.training.fit import fit

    train, val = part(data, "Train", items), part(data, "Val", items // 4)
    model = fit_equaliser(start(), train)
    strategies.freeze_as(model, strategy)
    print(
        f"{run}/best is not there (chapter 2 makes it), so the starter is fine-tuned here for a moment: {strategy}, "
        f"{len(train)} mixtures, {QUICK['epochs']} epoch."
    )
    logging.disable_progress_bar()  # one for each file saved
    with tempfile.TemporaryDirectory() as folder:
        history = fit(model, train, val, Path(folder) / "run", **QUICK)
    print(
        f"validation SI-SDRi {history['val_si_sdri'].iloc[0]:.2f} dB before, {history['val_si_sdri'].max():.2f} dB"
        f" after, {history['seconds'].sum():.0f} s."
    )
    return model.eval()


def _state_of(run):
    """Whether the run has finished, and whether fine-tuning was better than the starter as it is: a sentence."""
    record = read_json(place(run) / "settings.json") if (place(run) / "settings.json").is_file() else {}
    if not record.get("finished", True):
        return f"{run} has not finished: these are its best weights so far. Run chapter 2 to the end."
    if record.get("best_epoch") == 0:
        return (
            f"{run}: no epoch was better than the model it started from, so starter and fine-tuned are the same here."
        )
    return (
        f"{run}: what chapter 2 kept of epoch {record['best_epoch']}, its best."
        if "best_epoch" in record
        else f"{run}: its best weights."
    )


def recordings(mixture, enrollment, example):
    """The user's two files as 16 kHz mono waves, or where neither is named, `example()`, which returns two waves.

    Raises ValueError where only one is named, `AudioError` where one cannot be read.
    """
    if bool(mixture) != bool(enrollment):
        raise ValueError("name both a mixture and an enrollment (3 s or more of the person wanted, alone), or neither.")
    if not mixture:
        print("No recording is named, so this is one of the test mixtures.")
        return example()
    from lib import audio

    return audio.read(place(mixture)), audio.read(place(enrollment))


class Talk(NamedTuple):
    """Two people: stretches of each alone, one in which they talk to each other, and where all that is from. Waves are
    float32 `(samples,)` at 16 kHz.
    """

    wanted: list
    other: list
    together: np.ndarray
    source: str


SAMPLE = {  # s of pyannote's packaged talk, by its labels: speaker91 alone, speaker90 alone, both
    "wanted": [(24.8, 27.8), (14.75, 17.9), (21.85, 24.7)],
    "other": [(11.1, 14.4), (18.65, 21.45)],
    "together": (13.5, 22.0),
}


def two_people(seed=0):
    """Two real people to begin with: the telephone talk that pyannote.audio ships, where that package is installed (it
    is not imported), else two voices of the cache. Raises `VoicesError` where there are none either.
    """
    from lib import audio

    found = importlib.util.find_spec("pyannote")
    for folder in found.submodule_search_locations if found else []:
        path = Path(folder) / "audio" / "sample" / "sample.wav"
        if path.is_file():
            wave = audio.read(path)
            cut = {
                name: [wave[round(start * 16000) : round(end * 16000)] for start, end in np.atleast_2d(times)]
                for name, times in SAMPLE.items()
            }
            return Talk(cut["wanted"], cut["other"], cut["together"][0], "a telephone talk that pyannote.audio ships")
    print("pyannote.audio, which ships a real talk, is not installed here, so these are two voices of the cache.")
    return _two_voices(seed)


def _two_voices(seed):
    from lib import audio
    from lib.data import splits, voices

    table = splits.split_by_speaker(voices.load("auto"))
    table, rng = table[(table["split"] == "Test") & table["seconds"].between(3.0, 8.0)], np.random.default_rng(seed)
    names = table["speaker"].value_counts().index[:2]
    paths = {name: rng.permutation(table.loc[table["speaker"] == name, "path"].to_numpy())[:4] for name in names}
    wanted, other = ([audio.set_level(audio.read(path), -25.0) for path in paths[name]] for name in names)
    both = min(len(wanted[3]), len(other[3]))
    together = np.concatenate([wanted[3], (wanted[3][:both] + other[3][:both]) / 2, other[3]])
    return Talk(wanted[:3], other[:2], together, f"two voices of the cache, {' and '.join(names)}")
