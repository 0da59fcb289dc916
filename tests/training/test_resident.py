"""Data on the device: the same batches to the bit, and one line where it cannot lie there. The CPU is a device too."""

import numpy as np
import pytest
import torch

from lib.data.dataset import collate as collate_mixtures
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing, prefix, resident
from lib.training.fit import fit, pad

CPU = torch.device("cpu")


def tiny():
    torch.manual_seed(0)
    sizes = dict(adim=16, aheads=2, layers=2, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)
    return ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=0.5, hop_length=256))


def mixtures(count=7, equal=False, seed=1):
    generator = torch.Generator().manual_seed(seed)
    items = []
    for i in range(count):
        samples = 8000 if equal or i % 3 else 6000
        target = 0.3 * torch.sin(torch.arange(samples) * (0.1 + 0.02 * i))
        mix = target + 0.1 * torch.randn(samples, generator=generator)
        enrollment = 0.1 * torch.randn(9000 if equal else 9000 + 500 * (i % 4), generator=generator)
        items.append(dict(mix=mix, target=target, enrollment=enrollment, index=i))
    return items


class Moving(torch.utils.data.Dataset):
    """Other waves at each reading."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return dict(mix=torch.randn(8000), target=torch.randn(8000), enrollment=torch.randn(8000))


def flat(batch):
    return resident._flat(batch)


@pytest.mark.parametrize("collate", [pad, collate_mixtures], ids=["pad", "mixtures"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "waves"])
def test_batches_are_those_of_collate_to_the_bit(collate, equal, cached, tmp_path):
    data, pack = mixtures(equal=equal), collate
    if cached:
        model = tiny()
        freezing.freeze(model, 1)
        data, _, pack, _ = prefix.prepare(model, data, data, collate, 1, "fp32", "cpu", folder=tmp_path)
    placed = resident.Resident(data, pack, CPU)
    assert len(placed) == 7
    for places in ([0, 1, 2, 3], [1, 2], [6], [5, 0, 3], [4, 4]):
        one, two = flat(pack([data[place] for place in places])), flat(placed.__getitems__(places))
        assert set(one) == set(two)
        assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)


def test_the_history_is_that_of_data_read_in_each_step(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    histories = []
    for name in ("off", "on"):
        model = tiny()
        freezing.freeze(model, 1)
        how = dict(epochs=2, batch_size=3, precision="fp32", device="cpu", progress="none", learning_rate=1e-3)
        histories.append(fit(model, mixtures(), mixtures(3, seed=2), tmp_path / name, resident=name, **how))
    off, on = (history.drop(columns="seconds") for history in histories)
    np.testing.assert_array_equal(on.to_numpy(), off.to_numpy())
    assert off["train_loss"].iloc[-1] < off["train_loss"].iloc[1]


def prepared(train, val=None, collate=pad, setting="on"):
    said = []
    found = resident.prepare(train, val or train, collate, setting, CPU, 3, say=said.append)
    return found, said


def test_off_and_auto_on_a_cpu_leave_all_as_it_is():
    data = mixtures()
    for setting in ("off", "auto"):
        (train, val, collate, note), said = prepared(data, setting=setting)
        assert train is data and val is data and collate is pad and note == "off" and not said


def with_names(items):
    return {**pad(items), "name": ["somebody"] * len(items)}


def louder(items):
    batch = pad(items)
    return {**batch, "mix": batch["mix"] / batch["mix"].abs().max()}


@pytest.mark.parametrize(
    "spoil, words",
    [
        (dict(train=Moving()), "it changes from epoch to epoch"),
        (dict(collate=with_names), "more than numbers"),
        (dict(collate=louder), "more than pad"),
        (dict(room=1e5), "GB are free"),
        (dict(processes=2), "several processes"),
    ],
    ids=["moving", "names", "own collate", "too large", "processes"],
)
def test_it_steps_aside_with_one_line(spoil, words, monkeypatch):
    monkeypatch.setattr(resident, "room", lambda device: spoil.get("room", 1e12))
    monkeypatch.setenv("WORLD_SIZE", str(spoil.get("processes", 1)))
    data, collate = spoil.get("train", mixtures()), spoil.get("collate", pad)
    (train, _val, packs, note), said = prepared(data, collate=collate)
    assert train is data and packs is collate and note.startswith("off: ")
    assert len(said) == 1 and words in said[0] and "does not stay on the device" in said[0]
