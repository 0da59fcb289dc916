"""What each choice in the starter is worth: extractors trained alike but for one thing. `python -m
lib.pretraining.study OUT`.

Each variant begins with a random extractor beside the starter's x-vector, which stays as it is, hears the same mixtures
of the Train people of the Debian voices, and is scored on the same plain mixtures of Val people and of Train people. A
short training: it says what is learned sooner, not what is better in the end. Variants that are complete in OUT are not
trained again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

import lib  # noqa: F401  (makes torchaudio importable)
from lib import runs
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.pretraining import stage, starter, tasks
from lib.pretraining.streaming import EndlessMixtures

SAME = "as the starter"
# what differs from the starter: sizes and options of `ConVoiFilterConfig`, `spectral` (weight in the loss), `seed`
VARIANTS = {
    SAME: {},
    "another seed": {"seed": 1},
    "width 128": {"adim": 128, "linear_units": 128},
    "width 384": {"adim": 384, "aheads": 6, "linear_units": 384},
    "SI-SNR alone": {"spectral": 0.0},
    "magnitudes to the power 0.5": {"magnitude_power": 0.5},
    "magnitudes as they are": {"magnitude_power": 1.0},
    "as they are, 64 ms": {"magnitude_power": 1.0, "n_fft": 1024},
}


def build(name, start, seed=0):
    """The variant `name` as a module to train: a random extractor, and the x-vector of the model in the folder `start`,
    frozen.
    """
    settings = dict(VARIANTS[name])
    spectral = settings.pop("spectral", tasks.SPECTRAL)
    torch.manual_seed(seed + settings.pop("seed", 0))
    model = ConVoiFilter(ConVoiFilterConfig(**{**starter.SIZES, **settings}))
    model.xvector_model.load_state_dict(ConVoiFilter.from_pretrained(start).float().xvector_model.state_dict())
    module = tasks.Extract(model, spectral=spectral)
    model.xvector_model.requires_grad_(False)
    for part in (model.enh_model.separator.conformer, model.xvector_model):
        part.compile(dynamic=False)
    return module


@torch.no_grad()
def measure(module, voices, items):
    """SI-SDRi in dB of both answers to `items` plain mixtures of `voices`, `(2 * items,)`; the same mixtures each
    time.
    """
    data = EndlessMixtures(voices, items, 7, 5.0, 4.0, augment=False, noise_share=0.0, second_interferer=0.0, both=True)
    module.eval()
    return np.concatenate([module(**batch)["score"].flatten().numpy() for batch in DataLoader(data, batch_size=8)])


def study(name, voices, music, out, start, steps, seconds=2.4, items=96):
    """Train one variant and keep its scores in `out/<name>/scores.npz`, unless they are there."""
    folder = Path(out) / name.replace(" ", "_")
    if (folder / "scores.npz").is_file():
        return
    parts = {split: voices[voices.split == split] for split in ("Train", "Val")}
    module = build(name, start)
    heard = EndlessMixtures(
        parts["Train"], steps * 8, 0, seconds, 3.2, music=music, both=True, plain=starter.PLAIN, gentle=False
    )
    val = EndlessMixtures(parts["Val"], 16, 7, 5.0, 4.0, augment=False, noise_share=0.0, second_interferer=0.0)
    begun = time.time()
    stage.train(module, heard, val, folder, steps, starter.STAGES["extract"][0], 8, 0.8, 0, steps)
    took = (time.time() - begun) / steps
    scores = {split: measure(module, part, items) for split, part in parts.items()}
    size = sum(p.numel() for p in module.parameters() if p.requires_grad)
    np.savez(folder / "scores.npz", size=size, seconds=took, answers=steps * 16, **scores)


def table(out):
    """A row a complete variant: SI-SDRi in dB on Val and Train people, and what it gained over `SAME` (paired; half of
    the 95 % interval).
    """
    found = {
        name: np.load(file)
        for name in VARIANTS
        if (file := Path(out) / name.replace(" ", "_") / "scores.npz").is_file()
    }
    rows = []
    for name, scores in found.items():
        row = {
            "variant": name,
            "extractor_parameters": int(scores["size"]),
            "answers": int(scores["answers"]),
            "seconds_a_step": float(scores["seconds"]),
        }
        for split in ("Val", "Train"):
            row[f"{split}_si_sdri"] = scores[split].mean()
            if SAME in found:
                gain = (
                    (scores[split] - found[SAME][split]).reshape(-1, 2).mean(1)
                )  # both answers of a mixture are one draw
                row |= {f"{split}_gain": gain.mean(), f"{split}_half": 1.96 * gain.std(ddof=1) / len(gain) ** 0.5}
        rows.append(row)
    return pd.DataFrame(rows)


def main(arguments=None):
    """Train the variants that are asked for and write the table of all that are complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--variants",
        nargs="+",
        default=list(VARIANTS),
        choices=list(VARIANTS),
        metavar="NAME",
        help=f"of {', '.join(VARIANTS)}",
    )
    parser.add_argument("--start", type=Path, default=runs.ROOT / "pretrained/starter", help="whose x-vector is taken")
    parser.add_argument("--steps", type=int, default=400, help="of 8 mixtures with two answers each")
    options = parser.parse_args(arguments)
    from lib.data import voices as sources

    voices, music = sources.load("debian"), sources.background_music()
    for name in options.variants:
        study(name, voices, music, options.out, options.start, options.steps)
        found = table(options.out)
        print(found.round(3).to_string(index=False), flush=True)
        runs.write_text(options.out / "study.csv", found.to_csv(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
