"""Training data that lies on the device: read and collated once, each batch gathered there by index.

A GPU that waits in every step for files, for a worker and for a copy idles. 450 mixtures of 5 s take half a gigabyte
with their enrollments, and what the frozen front says of them (`lib.training.prefix`) about as much again, so both fit
beside a model. A batch is the one that `collate` would have made, to the bit. Where data cannot lie there (too large,
made anew in each epoch, shared by several processes) one line says so, and it is read in each step as before.
"""

import numpy as np
import torch

from lib.training.prefix import CachedData, made_on_the_fly
from lib.training.replay import alone

SHARE = 0.5  # of the device's free memory that data may take
SLICE = 64  # items of a cached prefix copied at a time


class Resident(torch.utils.data.Dataset):
    """All items of `data` as tables on `device`: name -> `(items, ...)`, waves zero-padded to the longest.

    A `DataLoader` asks it for whole batches (`__getitems__`), so its `collate_fn` is `as_it_is`.
    """

    def __init__(self, data, collate, device):
        cached = isinstance(data, CachedData)
        waves, files = (data.data, data.files) if cached else (data, {})
        pack = _without_enrollment(collate.collate) if cached else collate
        items = [waves[place] for place in range(len(waves))]
        self.count, batch, alone = len(items), pack(items), pack(items[:1])
        self.optional = set(batch) - set(alone)  # the lengths that items of one length do not need
        self.sizes = {
            name: np.array([len(item[name]) for item in items])
            for name in batch
            if getattr(items[0].get(name), "ndim", 0)
        }
        self.tables = {name: values.to(device) for name, values in batch.items()}
        self.prefix = {name: _to_device(path, device) for name, path in files.items()}

    def __len__(self):
        return self.count

    def __getitems__(self, places):
        """The batch of the items at `places`, on the device."""
        index = torch.tensor(places, device=next(iter(self.tables.values())).device)
        batch = {name: table.index_select(0, index) for name, table in self.tables.items()}
        for name, sizes in self.sizes.items():
            own = sizes[places]
            if own.max() < batch[name].shape[1]:
                batch[name] = batch[name][:, : own.max()].contiguous()
            lengths = "lengths" if name == "mix" else f"{name}_lengths"
            if lengths in self.optional and own.min() == own.max():
                batch.pop(lengths, None)
        if self.prefix:
            batch["prefix"] = {name: table.index_select(0, index) for name, table in self.prefix.items()}
        return batch


def as_it_is(batch):
    """What a `DataLoader` over `Resident` collates with: nothing is left to do."""
    return batch


def prepare(train, val, collate, setting, device, batch_size, say=print):
    """`(train, val, collate, note)`, with both sets on `device` where they can lie there, else as they came and why.

    setting: "auto" (on a GPU), "on" (on any device), "off". A reason other than "off" or the device is said in a line.
    """
    if setting == "off" or (setting == "auto" and device.type != "cuda"):
        return train, val, collate, "off"
    why = _why_not(train, val, collate, device)
    if not why:
        placed = [Resident(data, collate, device) for data in (train, val)]
        if all(_alike(data, one, collate, batch_size) for data, one in zip((train, val), placed)):
            return *placed, as_it_is, "on"
        why = "what collates it does more than pad"
    say(f"The data is read in each step and does not stay on the device: {why}.")
    return train, val, collate, f"off: {why}"


def _why_not(train, val, collate, device):
    """A reason for which the data cannot lie on the device, in words; "" where there is none."""
    if not alone():
        return "several processes share it"
    if made_on_the_fly(train) or made_on_the_fly(val):
        return "it changes from epoch to epoch"
    if not all(isinstance(values, torch.Tensor) for values in _flat(collate([train[0]])).values()):
        return "its items hold more than numbers"
    needed, free = sum(_bytes(data, collate) for data in (train, val)), room(device)
    if needed > SHARE * free:
        return f"it takes {needed / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free, of which it may take half"
    return ""


def room(device):
    """Bytes free on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # accelerate brings it

    return psutil.virtual_memory().available


def _bytes(data, collate, looked_at=8):
    """About how many bytes the tables of `data` take, by some of its items."""
    places = np.unique(np.linspace(0, len(data) - 1, min(looked_at, len(data))).astype(int))
    batch = _flat(collate([data[int(place)] for place in places]))
    return sum(values.nbytes for values in batch.values()) / len(places) * len(data)


def _alike(data, placed, collate, batch_size):
    """Whether the first and the last batch are those that `collate` makes."""
    for first in {0, (len(data) - 1) // batch_size * batch_size}:
        places = list(range(first, min(first + batch_size, len(data))))
        one, two = _flat(collate([data[place] for place in places])), _flat(placed.__getitems__(places))
        if set(one) != set(two) or not all(torch.equal(one[name], two[name].cpu()) for name in one):
            return False
    return True


def _flat(batch):
    """A batch with what lies in dicts inside it beside the rest."""
    inner = {f"{name}.{n}": v for name, value in batch.items() if isinstance(value, dict) for n, v in value.items()}
    return {**{name: value for name, value in batch.items() if not isinstance(value, dict)}, **inner}


def _without_enrollment(collate):
    """As `prefix.Collate`, of items that carry no prefix yet."""

    def pack(items):
        return {name: value for name, value in collate(items).items() if not name.startswith("enrollment")}

    return pack


def _to_device(path, device):
    """The array in an .npy file as a tensor on `device`, copied in slices: it is never in memory twice."""
    array = np.load(path, mmap_mode="r")
    table = torch.empty(array.shape, dtype=torch.from_numpy(array[:1].copy()).dtype, device=device)
    for first in range(0, len(array), SLICE):
        table[first : first + SLICE] = torch.from_numpy(array[first : first + SLICE].copy())
    return table
