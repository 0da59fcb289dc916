"""How the curated voices are looked over: `python -m lib.data.curation` prints what `data/README.md` reports (some
minutes).

Four questions: is a recording there under two names, is a person there under two labels, in two splits, or are several
people there under one label? Hashes and a fingerprint answer the first, a speaker encoder the others.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from lib import audio
from lib.data import splits

SR = 16000
COPY = 0.996  # correlation of two fingerprints above which two recordings are taken for copies
ALIKE = 0.6  # cosine to the rest of the speaker's speech under which 3 s of speech may be another person's


def summary(voices):
    """What each split holds: speakers, hours, recordings, sexes, languages."""
    people = voices.drop_duplicates("speaker")
    rows = voices.groupby("split").agg(
        speakers=("speaker", "nunique"),
        hours=("seconds", lambda s: s.sum() / 3600),
        recordings=("path", "size"),
        languages=("language", "nunique"),
    )
    sexes = people.groupby(["split", "sex"]).size().unstack(fill_value=0)
    return rows.join(sexes).reindex([name for name in splits.SPLITS if name in rows.index])


def fingerprint(wave, times=16, bands=12):
    """Where the energy of a recording lies, `(times * bands,)`, unit length: blind to level, little changed by a
    codec.
    """
    power = np.abs(np.fft.rfft(_frames(wave) * np.hanning(400), axis=1)) ** 2  # (frames, bins)
    edges = np.geomspace(4, power.shape[1], bands + 1).astype(int)
    energies = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-9)  # (frames, bands)
    parts = np.array_split(energies, times) if len(energies) >= times else [energies] * times
    flat = np.concatenate([part.mean(axis=0) for part in parts])
    flat = flat - flat.mean()
    return flat / max(np.linalg.norm(flat), 1e-9)


def _frames(wave, size=400, hop=160):
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]


def near_copies(voices, threshold=COPY):
    """Pairs of recordings that sound like one under two names: path, speaker, other, other_speaker, correlation.

    Only recordings whose lengths differ by less than 2 % are compared.
    """
    voices = voices.sort_values("seconds", ignore_index=True)
    with ThreadPoolExecutor() as pool:
        prints = np.stack(list(pool.map(lambda path: fingerprint(audio.read(path, SR)), voices["path"])))
    seconds, rows = voices["seconds"].to_numpy(), []
    ends = np.searchsorted(seconds, seconds * 1.02, side="right")
    for first, end in enumerate(ends):
        for offset in np.flatnonzero(prints[first + 1 : end] @ prints[first] > threshold):
            rows.append((first, first + 1 + offset, float(prints[first] @ prints[first + 1 + offset])))
    first, second, correlation = (list(column) for column in zip(*rows)) if rows else ([], [], [])
    return pd.DataFrame(
        dict(
            path=voices["path"].iloc[first].to_numpy(),
            speaker=voices["speaker"].iloc[first].to_numpy(),
            other=voices["path"].iloc[second].to_numpy(),
            other_speaker=voices["speaker"].iloc[second].to_numpy(),
            correlation=correlation,
        )
    )


def halves(voices, encoder, seconds=splits.SECONDS):
    """How alike one person sounds to themselves: the cosine of two stretches of `seconds`, for each speaker who has
    both.
    """
    rows = []
    for speaker, own in voices.groupby("speaker"):
        if own["seconds"].sum() >= 2.2 * seconds:
            first, second = (_unit(encoder(splits.speech_of(own, seconds, skip))) for skip in (0.0, seconds))
            rows.append((speaker, float(first @ second)))
    return pd.DataFrame(rows, columns=["speaker", "similarity"]).sort_values("similarity", ignore_index=True)


def strangers(voices, encoder, piece=3.0, at_most=40, alike=ALIKE):
    """Does one label hold several people? Of each speaker, pieces of `piece` s in the order of the files (which groups
    sessions),
    each compared with the mean of the others: pieces, the lowest and the median cosine, the share under `alike`."""
    rows = []
    for speaker, own in voices.groupby("speaker"):
        pieces = _pieces(own.sort_values("path"), piece, at_most)
        if len(pieces) >= 4:
            vectors = np.stack([_unit(encoder(wave)) for wave in pieces])
            others = vectors.sum(axis=0) - vectors
            cosine = (vectors * others).sum(axis=1) / np.linalg.norm(others, axis=1)
            rows.append((speaker, len(pieces), cosine.min(), np.median(cosine), (cosine < alike).mean()))
    table = pd.DataFrame(rows, columns=["speaker", "pieces", "lowest", "median", "share_unlike"])
    return table.sort_values("share_unlike", ascending=False, ignore_index=True)


def _pieces(own, piece, at_most):
    """Up to `at_most` stretches of about `piece` s, evenly over the files: neighbouring recordings joined until long
    enough.
    """
    groups, length, group = [], 0.0, []
    for path, seconds in zip(own["path"], own["seconds"]):
        group.append(path)
        length += seconds
        if length >= piece:
            groups.append(group)
            length, group = 0.0, []
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(at_most, len(groups))).astype(int)) if groups else []
    return [
        np.concatenate([audio.set_level(audio.read(path, SR), -30.0) for path in groups[k]])[: int(2 * piece * SR)]
        for k in chosen
    ]


def _unit(vector):
    return np.asarray(vector) / max(np.linalg.norm(vector), 1e-9)


def same_language(pairs, voices):
    """Those of `pairs` (of `splits.check_leaks`) whose speakers share a language: likelier one person than others."""
    spoken = voices.groupby("speaker")["language"].agg(set)
    return pairs[[bool(spoken[row.speaker] & spoken[row.other]) for row in pairs.itertuples()]]


def main():
    from lib.data import voices as sources

    voices = sources.load("debian")
    encoder = splits.resemblyzer_encoder()
    speakers = (
        voices.groupby("speaker")
        .agg(
            split=("split", "first"),
            sex=("sex", "first"),
            language=("language", lambda column: "+".join(sorted(set(column)))),
            recordings=("path", "size"),
            seconds=("seconds", "sum"),
        )
        .sort_values(["split", "seconds"])
    )
    print(summary(voices).round(2).to_string(), "\n", speakers.round(0).to_string(), sep="\n")
    copies = near_copies(voices)
    print(f"\nRecordings that sound like copies (of {len(voices)}): {len(copies)}\n{copies.head(20).to_string()}")
    pairs = splits.check_leaks(voices, encoder)
    print("\nClosest voices in different splits:", pairs.head(10).round(3).to_string(), sep="\n")
    print(
        "\nOf one language in different splits:", same_language(pairs, voices).head(10).round(3).to_string(), sep="\n"
    )
    every = (
        splits.speaker_similarity(voices, encoder)
        .where(lambda table: np.triu(np.ones(table.shape, dtype=bool), 1))
        .stack()
    )
    print("\nClosest voices of all:", every.sort_values(ascending=False).head(10).round(3).to_string(), sep="\n")
    print("\nOne person, 20 s against another 20 s:", halves(voices, encoder).head(10).round(3).to_string(), sep="\n")
    print("\nSeveral people under one label?", strangers(voices, encoder).head(12).round(3).to_string(), sep="\n")


if __name__ == "__main__":
    main()
