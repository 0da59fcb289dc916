"""The conversations that the last stages of chapter 4's starter learn from: four styles, drawn on all cores.

Train people's voices are played faster or slower and their vocal tracts scaled; Val people's are left as they are, so
that a dev set is the same whoever is in train.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from lib.data import debian
from lib.diarization import conversations, protocols, styles
from lib.pretraining import compact, sources
from lib.runs import write_text

SPEED, TRACT = (0.84, 1.19), (0.88, 1.14)  # of Train voices: makes new ones out of few
DEV = {styles.MEETING: 6, styles.PHONE: 4, styles.TALK: 4, styles.STUDIO: 4}  # conversations of a minute
MORE_DEV = {style: 3 * count for style, count in DEV.items()}  # to choose encoder and thresholds on
SEED = 14
MORE = ["acted", "kokoro"]  # sources beside the Debian voices of which something is free for any use


def people(folder=None):
    """Who may be heard in training beside the Train people of the Debian voices, as `voices.load`'s table: those of
    `MORE` whose licence does not rule out commercial use.

    folder: one that `lib.pretraining.compact` wrote; None: the sources themselves. Raises `VoicesError`.
    """
    if folder:
        table, _ = compact.load(folder)
        table = table[table["source"].isin(MORE) & (table["split"] == "Train")]
    else:
        table = pd.concat(sources.heard(MORE).values())
    known = pd.read_csv(debian.ACTED, comment="#").drop_duplicates("speaker").set_index("speaker")["licence"]
    licences = table["speaker"].map(known).fillna("")
    return table[~licences.str.contains("NC")].assign(split="Train")


def make(table, root, train, least, seed=SEED, dev=None, workers=None):
    """Write into `root` conversations in the styles of `train`, style -> how many, and of `dev` (None: `DEV`).

    table: voices with `split`. least: s of recordings a Train person needs to take part. seed: of train; dev is always
    the same. A conversation that is there already is kept, so an interrupted call goes on.
    """
    root = Path(root)
    if (root / "database.yml").is_file():
        return
    wanted = [("train", style, k) for style, count in train.items() for k in range(count)]
    wanted += [("dev", style, k) for style, count in (dev or DEV).items() for k in range(count)]
    root.mkdir(parents=True, exist_ok=True)
    table.to_csv(root / "voices.csv", index=False)
    with ProcessPoolExecutor(workers) as pool:
        names = list(
            tqdm(
                pool.map(partial(_one, root, least, seed), *zip(*wanted), chunksize=4),
                total=len(wanted),
                desc="conversations",
            )
        )
    for part in ("train", "dev"):
        write_text(root / f"{part}.txt", "".join(f"{uri}\n" for uri, (of, *_) in zip(names, wanted) if of == part))
    protocols.write_database(root)


def _one(root, least, seed, part, style, k):
    """Draw and write the `k`-th conversation of a style, unless it is there; returns its uri."""
    uri = f"{style.name}_{part}_{k:03d}"
    if not (root / part / "uem" / f"{uri}.uem").is_file():  # written last
        drawn = conversations.conversation_seed(seed if part == "train" else SEED, part, k)
        drawn_as = replace(style, speed=SPEED, tract=TRACT) if part == "train" else style
        conversations.write(
            root, part, uri, conversations.simulate(drawn_as, _voices(root, part, least), [*drawn, len(style.name)])
        )
    return uri


@cache
def _voices(root, part, least):
    table = pd.read_csv(root / "voices.csv", dtype={"speaker": str})
    table = table[table["split"] == conversations.SETS[part]]
    return conversations.Voices(table, least if part == "train" else conversations.LEAST_SECONDS)
