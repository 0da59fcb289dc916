"""Replayed steps: the numbers of ordinary ones, the last smaller batch as usual, one sentence where it cannot be.

No GPU is at hand for tests, so what a CUDA graph does is played: the step runs again and writes into the same tensors.
"""

import numpy as np
import pytest
import torch

from lib import runs
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import freezing, replay
from lib.training.fit import fit
from lib.training.settings import Settings

CPU = torch.device("cpu")
QUIET = dict(precision="fp32", device="cpu", progress="none", learning_rate=1e-3, cache_gb=0.0)


def tiny(fill="zeros"):
    torch.manual_seed(0)
    sizes = dict(adim=16, aheads=2, layers=2, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)
    return ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=0.5, hop_length=256, fill=fill))


def mixtures(count=7, seed=1, samples=8000):
    generator = torch.Generator().manual_seed(seed)
    items = []
    for i in range(count):
        target = 0.3 * torch.sin(torch.arange(samples) * (0.1 + 0.02 * i))
        mix = target + 0.1 * torch.randn(samples, generator=generator)
        items.append(dict(mix=mix, target=target, enrollment=0.1 * torch.randn(9000 + 90 * i, generator=generator)))
    return items


def tensors(found):
    if isinstance(found, torch.Tensor):
        return [found]
    found = found.values() if isinstance(found, dict) else found
    return [tensor for part in found if part is not None for tensor in tensors(part)]


class Played:
    """Stands for `replay.capture`: counts, and runs the step again into the tensors that it returned first."""

    def __init__(self):
        self.captures = self.replays = 0

    def __call__(self, function, device, pool=None):
        self.captures += 1
        result = function()

        def again():
            self.replays += 1
            fresh = [tensor.clone() for tensor in tensors(function())]
            with torch.no_grad():
                for kept, new in zip(tensors(result), fresh, strict=True):
                    kept.copy_(new)

        return result, again, pool


@pytest.fixture
def played(monkeypatch):
    capture = Played()
    monkeypatch.setattr(replay, "capture", capture)
    monkeypatch.setattr(replay, "wanted", lambda setting, *rest: setting != "off")
    return capture


@pytest.mark.parametrize("opens", [dict(depth=1), dict(depth=1, hold_norms=0), dict(depth=2, open_spk_ffn=1)], ids=str)
def test_a_replayed_run_has_the_history_of_an_ordinary_one(opens, played, tmp_path):
    histories, weights = [], []
    for setting in ("off", "auto"):
        model = tiny()
        freezing.freeze(model, **opens)
        how = {**QUIET, "epochs": 3, "batch_size": 3, "graphs": setting}
        histories.append(fit(model, mixtures(), mixtures(4, seed=2), tmp_path / setting, **how))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    for name in ("train_loss", "val_loss", "val_si_sdri"):
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-5)
    told = [runs.read_json(tmp_path / name / "settings.json")["graphs"] for name in ("off", "auto")]
    assert told == ["off", "on"]
    assert played.captures == 2, "one for training, one for validation"
    assert played.replays == 3 * 2 + 4 * 1, (
        "two full batches an epoch and one of validation; the smaller ones run as usual"
    )


def test_shapes_repeat_and_nothing_else_changes():
    """Unequal waves become one shape, with their lengths beside them, and the loss is the same."""
    model, shapes = tiny("repeat").eval(), set()
    for samples, enrolled in ((8000, 9000), (6000, 12000), (7000, 15999)):
        mix, target, enrollment = torch.randn(3, 2, 16000)
        plain = dict(mix=mix[:, :samples], target=target[:, :samples], enrollment=enrollment[:, :enrolled])
        fixed = replay.steady(plain, model.chunk)
        shapes.add(tuple((name, value.shape) for name, value in sorted(fixed.items())))
        with torch.no_grad():
            one, two = model(**plain), model(**fixed)
        assert one.loss.item() == pytest.approx(two.loss.item(), abs=1e-3)
        torch.testing.assert_close(two.est[:, :samples], one.est, rtol=1e-3, atol=1e-5)
    assert len(shapes) == 1


def test_what_cannot_be_captured_is_said_once_and_runs_as_usual(played, tmp_path, monkeypatch, capsys):
    def refuses(function, device, pool=None):
        function()
        raise RuntimeError("called a synchronizing CUDA operation\nand more lines")

    histories = []
    for setting in ("off", "auto"):
        model = tiny()
        freezing.freeze(model, 1)
        monkeypatch.setattr(replay, "capture", refuses)
        how = {**QUIET, "epochs": 2, "batch_size": 3, "graphs": setting}
        histories.append(fit(model, mixtures(), mixtures(4, seed=2), tmp_path / setting, **how))
    off, on = (history.drop(columns="seconds") for history in histories)
    np.testing.assert_array_equal(on.to_numpy(), off.to_numpy())
    assert runs.read_json(tmp_path / "auto" / "settings.json")["graphs"].startswith("off: called")
    said = [line for line in capsys.readouterr().out.splitlines() if "CUDA graph" in line]
    assert said == [
        "Steps run one kernel after the other, not as one CUDA graph: called a synchronizing CUDA operation"
    ]


def test_on_a_cpu_and_among_several_processes_nothing_is_replayed(monkeypatch):
    model, gpu = tiny(), torch.device("cuda")
    assert replay.wanted("auto", model, gpu, "bf16") and replay.wanted("compile", model, gpu, "fp32")
    assert not replay.wanted("auto", model, CPU, "fp32") and not replay.wanted("off", model, gpu, "bf16")
    assert not replay.wanted("auto", model, gpu, "fp16") and not replay.wanted(
        "auto", torch.nn.Linear(1, 1), gpu, "fp32"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = []
    assert replay.prepare(Settings(), model, None, gpu, "bf16", said.append) is None
    assert len(said) == 1 and "several processes" in said[0]


def test_more_shapes_than_are_kept_run_as_usual(played):
    model = tiny()
    steps = replay.Replay(model, lambda given: ((output := model(**given)).loss, output), CPU, 2)
    batches = [
        dict(mix=torch.randn(2, n), target=torch.randn(2, n), enrollment=torch.randn(2, 8000))
        for n in range(8000, 8000 * (replay.MOST + 2), 8000)
    ]
    assert [steps.train(batch) is None for batch in batches] == [False] * replay.MOST + [True]
    assert steps.train({name: value[:1] for name, value in batches[0].items()}) is None


def test_nothing_in_a_step_asks_the_device(monkeypatch):
    """`.item()` and a copy from the CPU would end a capture; on the CPU they are watched for by name."""
    model = tiny("repeat")
    model.config.equaliser = [[1.0, 0.0]] * 257
    batch = replay.steady({name: torch.randn(2, 8000) for name in ("mix", "target", "enrollment")}, model.chunk)
    model(**batch).loss.backward()  # tables are made in the first call
    asked = []
    with watching(asked):
        model(**batch).loss.backward()
    assert not asked


class watching(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes operations that make the CPU wait for a GPU, or that copy from the CPU to one."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function.__name__.split(".")[0] in ("_local_scalar_dense", "nonzero", "is_nonzero", "lift_fresh", "equal"):
            self.asked.append(function.__name__)
        return function(*arguments, **(named or {}))
