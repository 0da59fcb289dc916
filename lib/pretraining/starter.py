"""How the starter in `pretrained/starter` was made: `python -m lib.pretraining.starter OUT`. One resumable command, one
seed.

Three stages, all on mixtures made on the fly (`lib.pretraining.streaming`) of Train speakers, of actors in two games
(`debian.ACTED`), of synthesised voices (`lib.pretraining.spoken`, `lib.pretraining.kokoro`; where asked for
`lib.pretraining.silero`) and of voices made of all theirs (`lib.data.voice_making`):
1. distil: the x-vector learns to say of a wave what Resemblyzer's speaker encoder says (its wheel carries the weights).
  Few
   speakers teach an encoder to classify them and no more; a teacher that has heard thousands teaches how voices differ.
2. joint: the extractor learns to separate, by negative SI-SNR and a spectral term, and the x-vector learns on beside
  it.
3. extract: of the x-vector all but the front learns on, without the teacher, which makes a step nearly twice as fast
  (the front's
   backward pass works on the wave itself); the learning rate falls to its end. By AdamW, or by Muon
   (`lib.pretraining.muon`), which keeps more
   of a `--start` while the rate is high.
A second call goes on from the last checkpoint; with fewer steps the learning rate falls sooner. Several processes
(`python -m torch.distributed.run --nproc_per_node=2 --module lib.pretraining.starter -- OUT`, once the synthesised
voices are there) share each step: as many batches at once, the learning rate times the root of their number. A GPU
consumes more than cores can mix: `--batches` makes the mixtures on it (`lib.pretraining.batches`), and `--compact`
hears the voices of a folder that travels (`lib.pretraining.compact`).
"""

import argparse
import os
import time
from pathlib import Path

import torch

import lib  # noqa: F401  (before transformers' Trainer: makes torchaudio importable)
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.pretraining.batches import MixtureBatches
from lib.pretraining.scores import score
from lib.pretraining.sources import COPIES, SOURCES, heard
from lib.pretraining.stage import ByTheClock, train
from lib.pretraining.streaming import EndlessMixtures
from lib.pretraining.tasks import ALIKE, Distil, Extract, solve
from lib.pretraining.teacher import Teacher

SIZES = dict(
    adim=256,
    aheads=4,
    layers=4,
    linear_units=256,
    hop_length=256,
    xvector_channels=256,
    xvector_pool=768,
    xvector_front="log",
    magnitude_power=0.3,
    fill="repeat",
    dropout=0.0,
    positional_dropout=0.0,
    attention_dropout=0.0,
    condition_dropout=0.2,
)
STAGES = {
    "distil": (1.5e-3, 0.5),
    "joint": (5e-4, 0.0),
    "extract": (5e-4, 0.8),
}  # learning rate, and over which last part of the steps it falls
PLAIN = 0.3  # share of mixtures without augmentation: close to what is measured, and where fine detail can be learned


def main(arguments=None):
    """Distil, extract, save the model in half precision into OUT/model, and score it."""
    parser = argparse.ArgumentParser(description="Pretrain the starter on the Train speakers of the Debian voices.")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--steps", type=int, nargs=3, default=(3000, 3000, 9000), metavar=("DISTIL", "JOINT", "EXTRACT")
    )
    parser.add_argument("--batch-size", type=int, default=8, help="mixtures a step; each gives two answers")
    parser.add_argument("--seconds", type=float, nargs=2, default=(2.4, 3.2), metavar=("MIXTURE", "ENROLLMENT"))
    parser.add_argument(
        "--compact",
        type=Path,
        metavar="FOLDER",
        help=(
            "hear the voices of this folder (`python -m lib.pretraining.compact`) in place of --voices; no network is"
            " asked"
        ),
    )
    parser.add_argument(
        "--batches",
        action="store_true",
        help=(
            "make mixtures a batch at a time where the model computes (`lib.pretraining.batches`): for a GPU; voices"
            " are made up anew for each, in place of --copies"
        ),
    )
    parser.add_argument(
        "--voices",
        nargs="+",
        default=SOURCES,
        choices=[*SOURCES, "silero"],
        help=(
            "who is heard: Train people of the Debian voices, actors in two games, synthesisers built from real people,"
            " one neural one's own voices and blends, and (if asked for) another's"
        ),
    )
    parser.add_argument(
        "--copies",
        type=int,
        default=4,
        help="made-up voices a recorded one (pitch and vocal tract changed); synthesised ones get one or two",
    )
    parser.add_argument(
        "--start", type=Path, metavar="FOLDER", help="begin with the weights of this model, of the same sizes"
    )
    parser.add_argument(
        "--learning-rate", type=float, default=STAGES["extract"][0], help="of stage extract, at its highest"
    )
    parser.add_argument(
        "--fall",
        type=float,
        default=STAGES["extract"][1],
        help="over which last part of stage extract the learning rate falls",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="stage extract ends so long after the command began, its rate fallen, if its steps last that long",
    )
    parser.add_argument(
        "--optimizer", choices=("adamw", "muon"), default="adamw", help="of stage extract (`lib.pretraining.muon`)"
    )
    parser.add_argument(
        "--one-line",
        type=float,
        default=0.0,
        help="share of mixtures in which all speak over one microphone, mostly out of one package",
    )
    parser.add_argument(
        "--noise",
        type=float,
        nargs=3,
        default=(0.3, 5.0, 20.0),
        metavar=("SHARE", "FROM", "TO"),
        help="share of mixtures with noise, and its signal-to-noise ratio in dB",
    )
    parser.add_argument(
        "--room",
        type=float,
        nargs=3,
        default=(0.12, 0.0, 12.0),
        metavar=("SHARE", "FROM", "TO"),
        help="with --batches, share of mixtures in one room, and by how many dB its tail is weaker than direct sound",
    )
    parser.add_argument(
        "--absent",
        type=float,
        default=0.0,
        help="of stage extract, share of questions about somebody who is not in the mixture: the answer is silence",
    )
    parser.add_argument(
        "--absent-alike",
        type=float,
        default=ALIKE,
        help="share of those questions about somebody of the sex of the mixture's first speaker: the harder ones",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=300, help="steps between validations and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.room != parser.get_default("room") and not options.batches:
        parser.error("--room is for mixtures made with --batches")
    if options.minutes and int(os.environ.get("WORLD_SIZE", 1)) > 1:  # whose clocks differ
        parser.error("--minutes is for one process; give several processes --steps")
    import pandas as pd

    from lib.data import voices as sources
    from lib.data.voice_making import make_voices
    from lib.pretraining import compact

    start = time.monotonic()
    torch.manual_seed(options.seed)
    voices, music = (
        compact.load(options.compact) if options.compact else (sources.load("debian"), sources.background_music())
    )
    found = dict(list(voices[voices.split == "Train"].groupby("source"))) if options.compact else heard(options.voices)
    made = (
        []
        if options.batches
        else [
            make_voices(table, COPIES.get(source, options.copies), seed=options.seed) for source, table in found.items()
        ]
    )
    people, unheard = pd.concat([*found.values(), *made], ignore_index=True), voices[voices.split == "Val"]
    model = ConVoiFilter(ConVoiFilterConfig(**SIZES))
    if options.start:
        model.load_state_dict(
            ConVoiFilter.from_pretrained(options.start, xvector_front=SIZES["xvector_front"]).float().state_dict()
        )
    for part in (model.enh_model.separator.conformer, model.xvector_model):
        part.compile(dynamic=False)
    steps = dict(zip(STAGES, options.steps))
    distil = steps["distil"] or steps["joint"]
    few = EndlessMixtures(people, 2000, options.seed, *options.seconds, music=music, both=True) if distil else None
    teacher = Teacher().whiten(few) if distil else None
    for number, stage in enumerate(STAGES):
        if not steps[stage]:
            continue
        count, seed = steps[stage] * int(os.environ.get("WORLD_SIZE", 1)), options.seed + 1000 * number
        how = dict(music=music, plain=PLAIN, same_sex=0.6 if options.start else 0.5, one_line=options.one_line)
        how |= dict(noise_share=options.noise[0], noise_snr_db=tuple(options.noise[1:]))
        if options.batches:
            data = MixtureBatches(
                people,
                count,
                options.batch_size,
                seed,
                *options.seconds,
                device="cuda" if torch.cuda.is_available() else "cpu",
                room=options.room[0],
                direct_db=tuple(options.room[1:]),
                **how,
            )
        else:
            data = EndlessMixtures(
                people, count * options.batch_size, seed, *options.seconds, both=True, gentle=not options.start, **how
            )
        val = EndlessMixtures(unheard, 96, 7, 5.0, 4.0, augment=False, noise_share=0.0, second_interferer=0.0)
        module = (
            Distil(model, teacher)
            if stage == "distil"
            else Extract(
                model,
                teacher if stage == "joint" else None,
                absent=options.absent * (stage == "extract"),
                alike=options.absent_alike,
            )
        )
        rate = options.learning_rate if stage == "extract" else STAGES[stage][0]
        left = options.minutes and 60 * options.minutes - (time.monotonic() - start)
        fall = options.fall if stage == "extract" else STAGES[stage][1]
        train(
            module,
            data,
            val,
            options.out / stage,
            steps[stage],
            rate,
            options.batch_size,
            fall,
            options.workers,
            options.every,
            muon=stage == "extract" and options.optimizer == "muon",
            clock=ByTheClock(left, rate) if left and stage == "extract" else None,
        )
        if stage == "distil":
            solve(model.xvector_model.eval(), teacher, few)
    if int(os.environ.get("RANK", 0)):
        return
    model.half().save_pretrained(options.out / "model")
    if not options.compact:  # whose voices went through Opus, Test's not among them
        score(options.out / "model", voices, music).to_csv(options.out / "scores.csv", index=False)
    print(f"saved {options.out / 'model'} after {(time.monotonic() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
