"""The frozen-prefix cache: what lies before the first trainable part is computed once and read back in each epoch.

Stages, from the front of a `ConVoiFilter` on: `statistics` (what enters the x-vector's last Linear, of enrollment and
mixture), `embeddings` (both of them), `hidden_<k>` (what leaves the first k Conformer blocks). Stored as float16
`(items, chunks, ...)` in memory-mapped .npy files in the user's cache, under a key made of the frozen weights, the
waves, the stage and the precision: other weights, data or settings are another key, so nothing stale is ever read. A
file appears whole or not at all.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import torch

from lib import runs
from lib.training.freezing import is_held

NEED_MODE = (torch.nn.Dropout, torch.nn.modules.batchnorm._BatchNorm)


class CachedData(torch.utils.data.Dataset):
    """A dataset whose items carry `prefix`: name -> float16 array `(chunks, ...)` out of `files` (name -> path of an
    .npy).
    """

    def __init__(self, data, files):
        self.data, self.files, self._open = data, dict(files), None

    def __len__(self):
        return len(self.data)

    def __getitem__(self, place):
        if self._open is None:  # in each worker process of its own
            self._open = {name: np.load(path, mmap_mode="r") for name, path in self.files.items()}
        return {**self.data[place], "prefix": {name: array[place] for name, array in self._open.items()}}

    def __getstate__(self):
        return {**self.__dict__, "_open": None}


class Collate:
    """`collate` for items of `CachedData`: the prefix is stacked, and takes the enrollment's place."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, items):
        batch = self.collate([{name: value for name, value in item.items() if name != "prefix"} for item in items])
        batch = {name: value for name, value in batch.items() if not name.startswith("enrollment")}
        names = items[0]["prefix"]
        return {
            **batch,
            "prefix": {name: torch.from_numpy(np.stack([item["prefix"][name] for item in items])) for name in names},
        }


def stage_of(model):
    """The furthest stage that lies wholly before the first trainable part and is the same in each epoch; None where
    there is none.
    """
    if not hasattr(model, "separate_from"):
        return None
    conformer, xvector = model.enh_model.separator.conformer, model.xvector_model
    steps = [
        ("statistics", [xvector.sincnet, xvector.tdnns]),
        ("embeddings", [xvector.embedding]),
        ("hidden_0", [model.dropout, model.filter_condition_transform, conformer.embed, conformer.positional_dropout]),
    ]
    steps += [(f"hidden_{number}", [block]) for number, block in enumerate(conformer.encoders, start=1)]
    furthest = None
    for name, parts in steps:
        if not all(_still(part) for part in parts):
            break
        furthest = name
    return furthest


def prepare(model, train, val, collate, limit_gb, precision, device, batch_size=8, folder=None, say=print):
    """Fill the cache and return `(train, val, collate, note)`, the data then carrying the prefix; or all as it was, and
    why.

    limit_gb: what the cache may take on disk in all, 0 for no cache; entries not used for longest go first. Where the
    stage of `model` would not fit, the embeddings alone are cached, and one line says so.
    """
    stage = stage_of(model) if limit_gb else None
    if stage is None:
        return train, val, collate, "off" if not limit_gb else "none: the first part of the model is trainable"
    if made_on_the_fly(train) or made_on_the_fly(val):
        say("Frozen-prefix cache off: the data changes from epoch to epoch (made on the fly).")
        return train, val, collate, "off: data made on the fly"
    folder = Path(folder or _folder())
    seen = [_look_at(data, model.chunk) for data in (train, val)]
    size = sum(len(data) * chunks for data, (_, chunks) in zip((train, val), seen)) * _bytes(model, stage)
    if size > limit_gb * 2**30:
        say(
            f"Frozen-prefix cache: {stage} of {len(train) + len(val)} items takes {size / 2**30:.1f} GB, the limit"
            f" (cache_gb) is {limit_gb:g} GB; the embeddings alone are cached, and the frozen blocks run in each step."
        )
        stage = "embeddings"
    files = [
        fill(model, data, known, stage, collate, folder, precision, device, batch_size)
        for data, known in zip((train, val), seen)
    ]
    _evict(folder, limit_gb * 2**30, keep={path for found in files for path in found.values()})
    return (*(CachedData(data, found) for data, found in zip((train, val), files)), Collate(collate), stage)


@torch.no_grad()
def fill(model, data, known, stage, collate, folder, precision, device, batch_size):
    """Compute what is missing of `stage` for all items of `data` in one pass: name -> path of its .npy.

    known: the hash of the waves, and the chunks of the longest mixture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waves, chunks = known
    own = key(model, stage, waves, precision)
    places = {name: folder / f"{own}-{name}.npy" for name in names_of(stage)}
    missing = {name: path for name, path in places.items() if not path.is_file()}
    for path in set(places.values()) - set(missing.values()):
        os.utime(path)  # used now, so not the first to go
    if not missing:
        return places
    from tqdm.auto import tqdm

    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    parts = {name: path.with_name(f".{os.getpid()}-{path.name}") for name, path in missing.items()}
    stores, first = {}, 0
    try:
        for batch in tqdm(
            torch.utils.data.DataLoader(data, batch_size, collate_fn=collate),
            desc="frozen prefix",
            leave=False,
            disable=len(data) < 200,
        ):
            batch = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
            }
            with (
                torch.autocast(torch.device(device).type, kinds[precision])
                if precision in kinds
                else contextlib.nullcontext()
            ):
                found = compute(model, batch, set(missing), chunks)
            for name, value in found.items():
                if name not in stores:
                    shape = (len(data), *value.shape[1:])
                    stores[name] = np.lib.format.open_memmap(parts[name], "w+", np.float16, shape)
                stores[name][first : first + len(value)] = value.to(torch.float16).cpu().numpy()
            first += len(batch["mix"])
        for name, store in stores.items():
            store.flush()
            os.replace(parts[name], missing[name])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
        for module, mode in modes.items():
            module.training = mode
    runs.hand_back_memory()  # so that what filling took is not on top of what training takes
    return places


def compute(model, batch, names, chunks):
    """The tensors called `names` of a batch, each `(batch, chunks, ...)`, from one pass through the model's front."""
    (pieces, _), items, conformer = (
        model.cut(batch["mix"], batch.get("lengths"), chunks),
        len(batch["mix"]),
        model.enh_model.separator.conformer,
    )
    statistics = {
        "enrolled": (
            model.enrollment_statistics(batch["enrollment"], batch.get("enrollment_lengths")).repeat_interleave(
                chunks, 0
            )
        ),
        "heard": model.xvector_model.statistics(pieces),
    }
    embeddings = {name: model.xvector_model.embedding(value) for name, value in statistics.items()}
    found = {**{f"{name}_statistics": value for name, value in statistics.items()}, **embeddings}
    deepest = max((int(name.removeprefix("hidden_")) for name in names if name.startswith("hidden_")), default=-1)
    x = None
    for k in range(deepest + 1):
        x = (
            conformer.run(x, k - 1, k)
            if k
            else conformer.enter(model.features(model.stft(pieces).abs(), model.condition(**embeddings)))
        )
        if f"hidden_{k}" in names:  # the others are not kept: memory stays under that of a plain step
            found[f"hidden_{k}"] = x
    return {name: found[name].unflatten(0, (items, chunks)) for name in names}


def names_of(stage):
    """The tensors of a stage."""
    return {"statistics": ("enrolled_statistics", "heard_statistics"), "embeddings": ("enrolled", "heard")}.get(
        stage, (stage,)
    )


def _still(part):
    """Whether `part` has nothing to train and no dropout or statistics that run in training."""
    return not any(p.requires_grad for p in part.parameters()) and all(
        is_held(m) for m in part.modules() if isinstance(m, NEED_MODE)
    )


def made_on_the_fly(data):
    """Whether items differ from one reading to the next, or say that they do (`set_epoch`)."""
    data = data.data if isinstance(data, CachedData) else data
    if hasattr(data, "set_epoch"):
        return True
    one, two = data[0], data[0]
    waves = [name for name, value in one.items() if isinstance(value, (torch.Tensor, np.ndarray))]
    return any(not torch.equal(torch.as_tensor(one[name]), torch.as_tensor(two[name])) for name in waves)


def _look_at(data, chunk):
    """A hash of all waves of `data`, so that a file changed in place makes another key; and the chunks of its longest
    mixture.
    """
    digest, longest = hashlib.sha256(), 0
    for place in range(len(data)):
        item = data[place]
        for name in ("mix", "enrollment"):
            wave = np.ascontiguousarray(torch.as_tensor(item[name]).numpy())
            digest.update(str(wave.shape).encode() + wave.tobytes())
        longest = max(longest, len(item["mix"]))
    return digest.hexdigest(), max(1, -(-longest // chunk))


def key(model, stage, waves, precision):
    """A hash of the weights that make `stage`, and of what they are applied to."""
    conformer = model.enh_model.separator.conformer
    parts = [model.xvector_model.sincnet, model.xvector_model.tdnns]
    parts += [model.xvector_model.embedding] if stage != "statistics" else []
    if stage.startswith("hidden_"):
        parts += [
            model.filter_condition_transform,
            conformer.embed,
            *conformer.encoders[: int(stage.removeprefix("hidden_"))],
        ]
    config = model.config  # what the shapes of the weights do not tell
    digest = hashlib.sha256(
        f"{stage} {waves} {precision} {model.chunk} {config.hop_length} {config.aheads} {config.magnitude_power} "
        f"{config.xvector_front} {config.fill}".encode()
    )
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(
                name.encode() + tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()
            )  # of any dtype
    return digest.hexdigest()[:24]


def _bytes(model, stage):
    """Bytes a chunk of `stage` takes."""
    config = model.config
    frames = model.chunk // config.hop_length + 1
    return 2 * {"statistics": 4 * config.xvector_pool, "embeddings": 2 * config.xvector_dim}.get(
        stage, frames * config.adim
    )


def _folder():
    from lib.data import cache_dir

    return cache_dir() / "prefix"


def _evict(folder, limit, keep):
    """Delete what was not used for longest until the folder fits into `limit` bytes; leftovers of killed runs after a
    day.
    """
    files = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    for path in folder.glob(".*.npy"):
        if time.time() - path.stat().st_mtime > 86400:
            path.unlink(missing_ok=True)
    total = sum(path.stat().st_size for path in files if not path.name.startswith("."))
    for path in files:
        if total > limit and path not in keep and not path.name.startswith("."):
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
