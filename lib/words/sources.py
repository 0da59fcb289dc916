"""Where single spoken words come from, who says them, and in which split.

A table of words is a DataFrame with a row a recording: `word, speaker, path, split, language, licence`, with the list
of classes in `.attrs["words"]`.
"""

from pathlib import Path

import pandas as pd

from lib.data import debian, splits, voices
from lib.runs import place
from lib.words.vocabularies import VOCABULARIES, WordsError, word_in

COLUMNS = ["word", "speaker", "path", "split", "language", "licence"]
SOURCES = ("auto", "debian", "speech_commands")
VALIDATES = {"international": "asterisk-ru"}  # a Train voice that teaches nothing here: no Val voice says these words


def load(source="auto", root=None, vocabulary="international", download=False):
    """A table of words (`COLUMNS`), split by speaker; `.attrs["words"]` is the ordered list of classes.

    source: debian (people in Debian packages, by `vocabulary`), speech_commands (Google Speech Commands v0.01, a local
    copy in `root` or a download), auto: speech_commands where `root` is given, else debian. vocabulary: international,
    the 26 words of the spelling alphabet and four cognates as five voices say them in four languages; letters, the
    names of 18 letters that sound alike in most languages, by sixteen people; digits, 0 to 9 in three languages by one
    voice each. Raises `WordsError`.
    """
    if source not in SOURCES:
        raise WordsError(f"unknown source {source!r}; known are: {', '.join(SOURCES)}")
    if source == "speech_commands" or (source == "auto" and root):
        table = speech_commands(root, download)
        words = sorted(table["word"].unique())
    else:
        table, words = debian_words(vocabulary), VOCABULARIES[vocabulary]
    table = table[table["word"].isin(words)].sort_values(["word", "speaker", "path"]).reset_index(drop=True)
    table.attrs["words"] = words
    check(table)
    return table


def debian_words(vocabulary="international", table=None):
    """The words of a vocabulary out of the decoded voices of the Debian packages (fetched on the first call)."""
    if vocabulary not in VOCABULARIES:
        raise WordsError(f"unknown vocabulary {vocabulary!r}; known are: {', '.join(VOCABULARIES)}")
    table = voices.load("debian") if table is None else table
    table = table.assign(word=[word_in(vocabulary, origin) for origin in table["origin"]])
    held_out = table["speaker"] == VALIDATES.get(vocabulary)
    return table.assign(split=table["split"].where(~held_out, "Val")).dropna(subset=["word"])[COLUMNS]


def speech_commands(root=None, download=False):
    """Google Speech Commands v0.01 (30 words, about 1,900 people) through torchaudio, split by its own lists of files.

    root: the folder with one folder a word, or one above it; where it is missing, `download` fetches it (1.5 GB) into
    `root`. Recordings of your own in the same layout, `<word>/<speaker>_nohash_<number>.wav`, work too: without the
    lists, speakers are split 70 : 15 : 15. Warren, arXiv 1804.03209; CC BY 4.0.
    """
    from torchaudio.datasets import SPEECHCOMMANDS

    if root is None and not download:
        raise WordsError(
            "speech_commands needs root=<folder of a local copy>, or download=True to fetch it (1.5 GB, network)."
        )
    root = place(root) if root else debian.cache_dir()
    folder = _archive(root)
    if folder is None and not download:
        raise WordsError(
            f"{root}: no folders with <speaker>_nohash_<number>.wav files found. Expected Speech Commands' layout, a"
            " folder a word; give the folder that holds them, or download=True."
        )
    if folder is None:
        SPEECHCOMMANDS(root, "speech_commands_v0.01", download=True)
        folder = root / "SpeechCommands" / "speech_commands_v0.01"
    data = SPEECHCOMMANDS(folder.parent.parent, folder.name, folder_in_archive=folder.parent.name)
    rows = [(Path(path), *facts) for path, *facts in map(data.get_metadata, range(len(data)))]
    table = pd.DataFrame(
        [(word, speaker, str(folder.parent / path), "", "en", "CC-BY-4.0") for path, _, word, speaker, _ in rows],
        columns=COLUMNS,
    )
    return _split(table, folder)


def _archive(root):
    for folder in (root, root / "speech_commands_v0.01", root / "SpeechCommands" / "speech_commands_v0.01"):
        if next(iter(folder.glob("*/*_nohash_*.wav")), None):
            return folder.resolve()
    return None


def _split(table, folder):
    """By the lists that come with the data; a speaker of whom they name one file is wholly in that split. Without lists
    by `splits`.
    """
    lists = {"Val": folder / "validation_list.txt", "Test": folder / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return splits.split_by_speaker(table.drop(columns="split").assign(seconds=1.0))[COLUMNS]
    named = {
        split: {Path(line).name.split("_nohash_")[0] for line in path.read_text().split()}
        for split, path in lists.items()
    }
    return table.assign(
        split=[
            next((split for split, people in named.items() if speaker in people), "Train")
            for speaker in table["speaker"]
        ]
    )


def check(table):
    """Raise `WordsError` for a class nobody in Train says, `LeakError` for a speaker in two splits or one recording
    under two names.
    """
    words = table.attrs["words"]
    taught = set(table.loc[table["split"] == "Train", "word"])
    if empty := [word for word in words if word not in taught]:
        raise WordsError(
            f"no Train recording of: {', '.join(empty[:10])}. A class nobody teaches cannot be learned: add recordings,"
            " or take the word out of the list."
        )
    spread = table.groupby("speaker")["split"].nunique()
    if len(twice := spread[spread > 1]):
        raise splits.LeakError(
            f"a speaker stands in two splits: {', '.join(twice.index[:5])}. Give all rows of a speaker the same split."
        )


def voices_a_word(table):
    """How many people say each word, by split: a DataFrame, a row a word in the order of the classes."""
    counts = table.groupby(["word", "split"])["speaker"].nunique().unstack(fill_value=0)
    return counts.reindex(index=table.attrs["words"], columns=["Train", "Val", "Test"], fill_value=0)
