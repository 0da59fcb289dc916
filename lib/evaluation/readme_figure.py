"""The README's picture: `python -m lib.evaluation.readme_figure` (half a minute, needs the voices).

Forty mixtures of two Test people are made in a temporary folder and given to the committed starter. Shown is the one in
the middle of their ranking by SI-SDRi, so neither a lucky nor an unlucky one. Waves are float32 `(samples,)` at 16 kHz.
"""

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd

from lib import listening
from lib.data import mixtures, splits, voices
from lib.data.dataset import open_dataset
from lib.metrics import si_sdri
from lib.models.convoifilter import ConVoiFilter

ROOT = Path(__file__).resolve().parents[2]
COUNT, SEED = 40, 1
TWO_PEOPLE = dict(interferers=(1, 1), sir_db=(-5.0, 5.0), background_share=0.0)


def middle_mixture(model, table, count=COUNT, seed=SEED):
    """The mixture of `count` whose estimate is the middle one by SI-SDRi: its waves, its SI-SDRi in dB and who speaks.

    The waves are a dict: `mixture`, `enrollment`, `voice` (what came out) and `truth`.
    """
    with tempfile.TemporaryDirectory() as folder:
        mixtures.build(
            table, Path(folder) / "data", progress=False, train=0, val=0, test=count, seed=seed, **TWO_PEOPLE
        )
        data = Path(folder) / "data"
        items = [_waves(item) for item in open_dataset(data, "Test")]
        manifest = pd.read_csv(mixtures.split_folder(data, "Test") / "manifest.csv").sort_values("index")
    for item in items:
        item["voice"] = model.extract(item["mixture"], item["enrollment"])
    gains = [float(si_sdri(item["voice"], item["truth"], item["mixture"])) for item in items]
    middle = sorted(range(len(items)), key=gains.__getitem__)[len(items) // 2]
    row = manifest.iloc[middle]
    people = " and ".join([row["speaker"], *json.loads(row["interferers"])])
    return items[middle], gains[middle], people


def _waves(item):
    names = {"mixture": "mix", "enrollment": "enrollment", "truth": "target"}
    return {ours: item[theirs].numpy() for ours, theirs in names.items()}


def save(waves, folder):
    """`readme.png`, the three spectrograms, in `folder`."""
    shown = {"the mixture": "mixture", "what came out": "voice", "the truth": "truth"}
    picture = listening.spectrograms(
        {title: waves[name] for title, name in shown.items()}, width=11.0, row_height=2.9, floor_db=-75.0
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "readme.png").write_bytes(picture.data)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=ROOT / "pretrained/starter", type=Path)
    parser.add_argument("--out", default=ROOT / "results", type=Path, help="folder of the picture")
    options = parser.parse_args(arguments)
    table = splits.split_by_speaker(voices.load("debian"))
    waves, gain, people = middle_mixture(ConVoiFilter.from_pretrained(options.model), table)
    save(waves, options.out)
    print(f"{options.out / 'readme.png'}: {people}, SI-SDRi {gain:.1f} dB, the middle one of {COUNT} mixtures.")


if __name__ == "__main__":
    main()
