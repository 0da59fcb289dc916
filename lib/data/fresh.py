"""Mixtures made while a model trains: new ones in each epoch, of the same people, place and kinds.

An epoch goes on where the one before stopped. What the data set on disk holds is read there, and what comes after is
made, as if more had been asked of it. Whatever was made stands in a manifest, as the data set's mixtures do, by which
it can be made again. Waves are float32 `(samples,)` at 16 kHz.
"""

import contextlib
import json
from pathlib import Path

import torch

from lib.data import manifest, mixture_settings, recipes, rendering
from lib.data.dataset import open_dataset
from lib.data.pools import MixtureError, make_pools

ROUNDS = 10  # a mixture that cannot be made is replaced by one of the next round, so many times


class FreshMixtures(torch.utils.data.Dataset):
    """`items` Train mixtures of an epoch: first those of the Dataset `folder`, then others made as they were; items as
    of `dataset.open_dataset`. None is heard twice.

    voices: the table that the folder was built from. record: file to which a line of JSON is added for each mixture
    that is made. `lib.training.fit` calls `set_epoch`; with one worker process mixtures are made beside the training.
    Raises `MixtureError` where the folder was not built here, or of other voices, and `DatasetError` as `open_dataset`.
    """

    def __init__(self, voices, folder, items=None, record=None):
        path = Path(folder) / "settings.json"
        if not path.is_file():
            raise MixtureError(
                f"{folder}: was brought ready-made, so nothing says how to make more mixtures. Train on what is there:"
                " fresh=0."
            )
        told = json.loads(path.read_text(encoding="utf-8"))
        self.settings = mixture_settings.make_settings(**told["settings"])
        with contextlib.redirect_stdout(None):  # chapter 1 has said what it has to say
            self.pools = make_pools(voices, self.settings)
        if manifest.fingerprint(self.settings, self.pools) != told["hash"]:
            raise MixtureError(
                f"{folder}: was made of other voices than these. Build it again in chapter 1, or train on what is"
                " there: fresh=0."
            )
        self.items = items or self.settings.count("Train", len(self.pools.targets["Train"]))
        self.record, self.epoch, self.library = record, 0, None
        self.stored = open_dataset(folder, "Train")
        self.places = {int(index): place for place, index in enumerate(self.stored.pairs["index"])}

    def __len__(self):
        return self.items

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, place):
        if not 0 <= place < self.items:
            raise IndexError(place)
        index = self.epoch * self.items + place + 1
        if index in self.places:
            return self.stored[self.places[index]]
        if self.library is None:  # in each process its own
            self.library = recipes.Library(self.pools.roots, place=self.settings.place)
        for turn in range(ROUNDS):
            made = self._made(index + 10**6 * turn)
            if made:
                return {**made, "index": index}
        raise MixtureError(f"mixture {index} could not be made in {ROUNDS} tries. Check the levels of the voices.")

    def _made(self, index):
        try:
            recipe = recipes.draw(self.settings, self.pools, self.library, "Train", index)
        except recipes.NotEnough:
            return None
        parts, facts = rendering.render(recipe, self.library)
        if facts["mix_level_db"] < self.settings.skip_below_dbfs:
            return None
        if self.record:
            row = manifest.encode({**recipe, **facts, "seed": self.settings.seed})
            with open(self.record, "a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "epoch": self.epoch}) + "\n")
        return {name: torch.from_numpy(parts[name]) for name in ("mix", "target", "enrollment")}

    def __getstate__(self):
        return {**self.__dict__, "library": None}
