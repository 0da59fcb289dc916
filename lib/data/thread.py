"""The thread of chapters 1 to 3: one Test mixture that is made in 1, worked on in 2 and judged in 3."""

from lib.data import inspection
from lib.data.dataset import open_dataset
from lib.data.folders import DatasetError


def thread(folder, split="Test"):
    """The mixture that chapter 1 takes apart, as an item of the data set: `mix`, `target`, `enrollment`, `index`.

    It is the one with the most others, and of those the one with the least SNR, so the hardest to hear; of a data set
    without a manifest the first. Raises `DatasetError` where the split holds nothing.
    """
    data, table = open_dataset(folder, split), inspection.facts(folder)
    if not len(data):
        raise DatasetError(f"{folder} holds no {split} mixture.")
    if "speaks" in table:
        table = table[table["speaks"] != "no"]
    rows = table[table["split"] == split].sort_values(["others", "snr_db", "index"], ascending=[False, True, True])
    index = int(rows["index"].iloc[0]) if len(rows) else None
    return next((item for item in (data[place] for place in range(len(data))) if item["index"] == index), data[0])
