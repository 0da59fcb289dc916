"""What pretraining hears as one small folder, to take to a GPU that has no network: `python -m lib.pretraining.compact
FOLDER`.

Speech in Opus at some 16 kbit/s, a file a recording, and `voices.csv` beside it (columns as `voices.load`'s, `path`
relative to the folder): Train people of the Debian voices, those whom pretraining adds
(`lib.pretraining.sources.heard`), Val people to validate on, and music.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import audio
from lib.data import voices as voice_sources
from lib.data.debian import VoicesError, write_table
from lib.pretraining import sources

SR, BITS = 16000, 16000  # Hz, bits a second
MOST = {
    "val": 200.0,
    "debian": 360.0,
    "acted": 290.0,
    "synthesised": 120.0,
}  # seconds a voice that travel; of other sources all
COLUMNS = ["speaker", "path", "seconds", "sex", "split", "source"]


def write(tables, music, folder, workers=None):
    """Encode `tables`, source -> voices, and `music`, paths, into `folder`; a file that is there already is kept.
    Returns the table.

    Raises `VoicesError` where two recordings of one person have one file name, for they would have one here too.
    """
    folder, parts = Path(folder), []
    for source, voices in tables.items():
        chosen = voices.astype({"seconds": float}).sample(frac=1.0, random_state=0)
        before = chosen.groupby("speaker").seconds.cumsum() - chosen.seconds
        parts.append(chosen[before < MOST.get(source, np.inf)].sort_index().assign(source=source))
    table = pd.concat(
        [
            *parts,
            pd.DataFrame(
                [
                    dict(speaker="music", path=str(path), seconds=0.0, sex="?", split="Music", source="music")
                    for path in music
                ]
            ),
        ],
        ignore_index=True,
    )
    goals = [f"{row.source}/{row.speaker}/{Path(row.path).stem}.opus" for row in table.itertuples()]
    if twice := [path for path, again in zip(table.path, pd.Series(goals).duplicated()) if again]:
        raise VoicesError(
            f"{twice[0]}: another recording of this person has the same file name ({len(twice)} such files). Rename"
            " one."
        )
    with ProcessPoolExecutor(workers) as pool:
        for _ in tqdm(
            pool.map(partial(encode, folder=folder), table.path, goals, chunksize=32),
            total=len(table),
            desc="encode",
            unit="file",
        ):
            pass
    table = table.assign(path=goals)[COLUMNS]
    write_table(table, folder / "voices.csv")
    return table


def encode(path, goal, folder):
    """One recording as Opus into `folder / goal`, whole or not at all."""
    out = folder / goal
    if out.is_file():
        return
    import av

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with av.open(str(part), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SR, bit_rate=BITS, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(
            (audio.read(path).clip(-1, 1) * 32767).round().astype("<i2")[None], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = SR, 0
        for packets in (stream.encode(frame), stream.encode(None)):
            container.mux(packets)
    part.replace(out)


def load(folder):
    """`(voices, music)` of a folder from `write`: a table with whole paths, and paths. `VoicesError` where it is
    none.
    """
    folder = Path(folder)
    try:
        table = pd.read_csv(folder / "voices.csv", dtype={"speaker": str, "sex": str})
    except (OSError, ValueError) as error:
        raise VoicesError(
            f"{folder}: no voices.csv to be read ({error}). Make the folder with `python -m lib.pretraining.compact"
            f" {folder}`."
        ) from None
    table["path"] = [str(folder / path) for path in table.path]
    if missing := [path for path in table.path if not Path(path).is_file()]:
        raise VoicesError(f"{missing[0]} is missing ({len(missing)} files in all). Copy {folder} again, whole.")
    return table[table.split != "Music"].reset_index(drop=True), list(table.path[table.split == "Music"])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--voices",
        nargs="+",
        default=sources.SOURCES,
        choices=[*sources.SOURCES, "silero"],
        help="as in `lib.pretraining.starter`",
    )
    options = parser.parse_args(arguments)

    debian = voice_sources.load("debian")
    table = write(
        {"val": debian[debian.split == "Val"]} | sources.heard(options.voices),
        voice_sources.background_music(),
        options.folder,
    )
    size = sum(path.stat().st_size for path in options.folder.rglob("*.opus")) / 1e6
    print(
        f"{options.folder}: {len(table)} recordings of {table.speaker.nunique() - 1} voices,"
        f" {table.seconds.sum() / 3600:.1f} h of speech, {size:.0f} MB"
    )


if __name__ == "__main__":
    main()
