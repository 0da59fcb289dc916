"""Training: settings, history, best weights, resuming to the bit, and what happens when something fails."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from lib import runs
from lib.metrics import si_sdr
from lib.models import precision
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training import trainer
from lib.training.fit import fit, measure, pad
from lib.training.freezing import freeze, freeze_groups
from lib.training.settings import Settings, SettingsError, TrainingError, pick_precision

QUIET = dict(progress="none", device="cpu", precision="fp32")
SAME = ["epoch", "train_loss", "val_loss", "val_error", "learning_rate"]  # all columns but the seconds


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny tensors on a busy machine: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Small(nn.Module):
    """A regression with a BatchNorm and a Dropout, so that statistics and random numbers matter.

    `index` is not its business.
    """

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(4, 8),
            nn.BatchNorm1d(8),
            nn.Dropout(0.3),
            nn.Linear(8, 1),
        )

    def forward(self, x, y=None):
        out = self.last(self.drop(self.norm(torch.tanh(self.first(x)))))[:, 0]
        return ModelOutput(loss=(out - y).square().mean(), out=out)


def small(seed=0):
    torch.manual_seed(seed)
    return Small()


class Items(torch.utils.data.Dataset):
    """`count` items of a fixed random regression; reading stops with an error at the `fail_at`-th read."""

    def __init__(self, count, seed, fail_at=None):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 4, generator=generator)
        self.y = self.x.sum(1) + 0.1 * torch.randn(count, generator=generator)
        self.reads, self.fail_at, self.order = 0, fail_at, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.reads += 1
        self.order.append(i)
        if self.reads == self.fail_at:
            raise KeyboardInterrupt
        return {"x": self.x[i], "y": self.y[i], "index": i}


def error(output, batch):
    return {"error": (output.out - batch["y"]).abs()}


def run(model, out, train=None, **settings):
    settings = {**QUIET, "epochs": 4, "batch_size": 4, "learning_rate": 1e-2, "score": error, **settings}
    return fit(model, Items(18, 1) if train is None else train, Items(7, 2), out, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One uninterrupted run, shared by the tests that compare with it: (model, history, folder)."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    model = small()
    return model, run(model, out), out


def test_history_and_record(whole):
    model, history, out = whole
    assert list(history.columns) == ["epoch", "train_loss", "val_loss", "val_error", "learning_rate", "seconds"]
    assert history["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert history["train_loss"].isna().tolist() == [True, False, False, False, False]
    assert history["val_loss"].iloc[-1] < 0.7 * history["val_loss"].iloc[0]
    assert history["learning_rate"].iloc[-1] < 1e-3 < history["learning_rate"].iloc[1]  # the cosine has come down
    pd.testing.assert_frame_equal(runs.read_history(out / "history.csv"), history)
    record = json.loads((out / "settings.json").read_text())
    assert record["settings"]["learning_rate"] == 1e-2 and record["settings"]["seed"] == 0 and record["finished"]
    assert (
        record["versions"]["torch"] == torch.__version__ and "commit" in record and record["device"].startswith("cpu")
    )
    assert record["run"]["trainable"] == sum(p.numel() for p in model.parameters())
    assert (
        record["seconds"] == pytest.approx(history["seconds"].sum(), abs=0.01) and history.attrs["peak_memory_mb"] >= 0
    )
    assert sorted(file.name for file in out.iterdir()) == ["best", "history.csv", "settings.json"]


def test_validation_is_the_mean_over_items_in_eval_mode(whole):
    _, history, _ = whole
    model, val = small().eval(), Items(7, 2)  # 7 items in batches of 4: the last batch is smaller and must weigh less
    with torch.no_grad():
        losses = [model(val.x[i : i + 1], val.y[i : i + 1]).loss.item() for i in range(7)]
    assert history["val_loss"].iloc[0] == pytest.approx(sum(losses) / 7, rel=1e-5)
    scores = measure(small(), val, score=error, batch_size=4, device="cpu")
    assert scores["index"].tolist() == list(range(7)) and history["val_error"].iloc[0] == pytest.approx(
        scores["error"].mean(), rel=1e-5
    )


def test_the_best_weights_are_kept_and_restored(whole, tmp_path):
    model = small()
    history = run(model, tmp_path / "run", scheduler="constant", learning_rate=0.3, epochs=6, patience=0)
    best = int(history["val_loss"].idxmin())
    assert 0 < best < 6  # otherwise this test would show nothing
    assert history.attrs["best_epoch"] == best
    again = small(1)
    runs.load_weights(again, tmp_path / "run" / "best")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    val = Items(7, 2)
    with torch.no_grad():
        assert model.eval()(val.x, val.y).loss.item() == pytest.approx(history["val_loss"][best], rel=1e-5)


def test_a_model_that_only_gets_worse_comes_back_as_it_was(tmp_path):
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history = run(model, tmp_path / "run", learning_rate=100.0, scheduler="constant", epochs=20, patience=2)
    assert (
        history["epoch"].tolist() == [0, 1, 2] and history.attrs["best_epoch"] == 0
    )  # stopped after `patience` epochs
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("fail_at", [5, 18 + 9, 3 * 18 + 2], ids=["epoch 1", "epoch 2", "epoch 4"])
def test_a_resumed_run_is_the_uninterrupted_one(whole, tmp_path, fail_at):
    model, history, _ = whole
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(small(), out, Items(18, 1, fail_at))
    assert not json.loads((out / "settings.json").read_text())["finished"]
    torch.manual_seed(99)  # whatever happened to the random numbers in between
    again = small()
    resumed = run(again, out, resume=True)
    pd.testing.assert_frame_equal(resumed[SAME], history[SAME], check_exact=True)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values()))


def test_resuming_between_epochs_goes_on_in_the_same_order(whole, tmp_path, monkeypatch):
    _, _history, _ = whole
    train, write = Items(18, 1), runs.write_history

    def stop_after_two(path, rows):
        write(path, rows)
        if len(rows) == 3 and path.parent.name.startswith("checkpoint"):
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_history", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(small(), tmp_path / "run", train, scheduler="plateau", optimizer="RAdam")
    monkeypatch.undo()
    rest = Items(18, 1)
    resumed = run(small(), tmp_path / "run", rest, scheduler="plateau", optimizer="RAdam", resume=True)
    unbroken_data = Items(18, 1)
    unbroken = run(small(), tmp_path / "other", unbroken_data, scheduler="plateau", optimizer="RAdam")
    pd.testing.assert_frame_equal(resumed[SAME], unbroken[SAME], check_exact=True)
    assert rest.order == unbroken_data.order[-len(rest.order) :] and sorted(rest.order[:18]) == list(range(18))
    assert unbroken_data.order[:18] != unbroken_data.order[18:36]  # each epoch has an order of its own


def test_a_finished_run_resumes_to_its_result(whole):
    model, history, out = whole
    again = small(1)
    pd.testing.assert_frame_equal(run(again, out, resume=True), history)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values()))


def test_a_run_from_before_a_setting_came_resumes(whole, tmp_path):
    _, history, out = whole
    older = shutil.copytree(out, tmp_path / "older")
    record = json.loads((older / "settings.json").read_text())
    del record["settings"]["perceptual"]
    (older / "settings.json").write_text(json.dumps(record))
    pd.testing.assert_frame_equal(run(small(1), older, resume=True), history)
    with pytest.raises(runs.RunError, match="perceptual was 0.0 and is 1.0"):
        run(small(), older, resume=True, perceptual=1.0)
    for broken in ({**record, "settings": None}, {name: record[name] for name in ("settings", "run")}):
        (older / "settings.json").write_text(json.dumps(broken))
        with pytest.raises(runs.RunError, match=r"settings.json: not a run's settings"):
            run(small(), older, resume=True)


def test_an_earlier_run_is_never_overwritten(whole):
    out = whole[2]
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(runs.RunError, match="already a run here.*resume=True"):
        run(small(), out)
    with pytest.raises(runs.RunError, match="learning_rate was 0.01 and is 0.02"):
        run(small(), out, learning_rate=0.02, resume=True)
    with pytest.raises(runs.RunError, match="train_items was 18 and is 17"):
        run(small(), out, Items(17, 1), resume=True)
    frozen = small()
    frozen.first.requires_grad_(False)
    with pytest.raises(runs.RunError, match="trainable was 65 and is 25"):
        run(frozen, out, resume=True)
    assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    aside = runs.set_aside(out)
    assert not out.exists() and (aside / "history.csv").is_file()
    aside.rename(out)


def test_a_failing_writer_leaves_the_earlier_best_whole(tmp_path, monkeypatch):
    import transformers.modeling_utils as writer

    model = tiny_extractor()
    runs.save_model(model, tmp_path / "best")
    before = {file.name: file.read_bytes() for file in (tmp_path / "best").iterdir()}

    def half(tensors, filename, **kwargs):
        with open(filename, "wb") as file:
            file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "safe_save_file", half)
    with torch.no_grad():
        model.filter_condition_transform.weight.add_(1)
    with pytest.raises(runs.RunError, match="best: the weights could not be written.*No space left"):
        runs.save_model(model, tmp_path / "best")
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "best").iterdir()}
    assert [file.name for file in tmp_path.iterdir()] == ["best"]  # nothing half-written stays behind


def test_a_kill_while_a_checkpoint_is_written_is_survived(whole, tmp_path, monkeypatch):
    _, history, _ = whole
    save, calls = torch.save, []

    def stop(data, file, *args, **kwargs):
        calls.append(file)
        if len(calls) == 6:  # in the middle of the second epoch's checkpoint
            raise KeyboardInterrupt
        save(data, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        run(small(), tmp_path / "run")
    monkeypatch.undo()
    assert len(runs.read_history(tmp_path / "run" / "history.csv")) == 3  # epoch 2 was over, but not kept
    pd.testing.assert_frame_equal(run(small(), tmp_path / "run", resume=True)[SAME], history[SAME], check_exact=True)


def test_a_fast_device_writes_seldom_and_loses_nothing(whole, tmp_path, monkeypatch):
    """Where epochs are short, checkpoints take a tenth of the time at most; the best weights are there at the end, also
    after an error, and a resumed run is the uninterrupted one.
    """
    monkeypatch.setattr(trainer, "THRIFTY", ("cpu",))
    written = []
    usual = runs.save_model
    monkeypatch.setattr(runs, "save_model", lambda *given: written.append(given) or usual(*given))
    model = small()
    history = run(model, tmp_path / "run")
    pd.testing.assert_frame_equal(history[SAME], whole[1][SAME])
    assert len(written) == 1 and not list((tmp_path / "run").glob("checkpoint-*"))
    for one, two in zip(model.parameters(), whole[0].parameters()):
        assert torch.equal(one, two)
    with pytest.raises(KeyboardInterrupt):
        run(small(), tmp_path / "broken", Items(18, 1, fail_at=50))
    assert (tmp_path / "broken" / "best" / "model.safetensors").is_file()
    again = run(small(), tmp_path / "broken", resume=True)
    pd.testing.assert_frame_equal(again[SAME], whole[1][SAME])


def test_frozen_parts_do_not_move_under_the_trainer(tmp_path):
    model = small()
    freeze_groups(model, {"body": [model.first, model.norm, model.drop], "head": model.last}, {"head"})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(model, tmp_path / "run", epochs=2)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"last.weight", "last.bias"}


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "RAdam", "NAdam"])
def test_optimizers_and_warmup(tmp_path, optimizer):
    history = run(
        small(),
        tmp_path / "run",
        optimizer=optimizer,
        epochs=1,
        warmup_steps=100,
        scheduler="constant",
        weight_decay=0.01,
    )
    assert history["learning_rate"].iloc[1] == pytest.approx(
        1e-2 * 4 / 100
    )  # the fifth of the hundred steps starts at four


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(learnig_rate=1), ["learnig_rate", "learning_rate", "batch_size", "patience"]),
        (dict(optimizer="SGD"), ["SGD", "Adam, AdamW, RAdam, NAdam"]),
        (dict(scheduler="linear"), ["linear", "cosine, constant, plateau"]),
        (dict(precision="int8"), ["int8", "auto, fp32, bf16, fp16"]),
        (dict(precision="fp16"), ["needs a GPU"]),
        (dict(epochs=0), ["epochs is 0", "from 1 on"]),
        (dict(epochs=2.5), ["epochs is 2.5"]),
        (dict(learning_rate=-1.0), ["learning_rate is -1.0"]),
        (dict(scheduler="plateau", warmup_steps=5), ["warmup_steps"]),
    ],
)
def test_settings_that_cannot_be_list_those_that_can(tmp_path, settings, words):
    with pytest.raises(SettingsError) as failure:
        run(small(), tmp_path / "run", **settings)
    assert all(word in str(failure.value) for word in words)
    assert not (tmp_path / "run").exists()


def test_reporting_that_is_not_installed_says_so_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs the package tensorboard"):
        run(small(), tmp_path / "run", report_to="tensorboard")
    assert not (tmp_path / "run").exists()


def test_a_start_that_failed_before_measuring_takes_no_place(tmp_path):
    class Broken(Small):
        def forward(self, x, y=None):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run(Broken(), tmp_path / "run")
    assert run(small(), tmp_path / "run", epochs=1)["epoch"].tolist() == [0, 1]


def test_what_cannot_be_trained_says_so(tmp_path):
    frozen = small().requires_grad_(False)
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        run(frozen, tmp_path / "run")
    with pytest.raises(TrainingError, match="0 items to train on"):
        run(small(), tmp_path / "run", Items(0, 1))
    bad = Items(18, 1)
    bad.y[3] = float("nan")
    with pytest.raises(TrainingError, match="training loss became nan in epoch 1.*learning_rate"):
        run(small(), tmp_path / "run", bad)
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()  # the model as it came in


def tiny_extractor(**settings):
    torch.manual_seed(0)
    return ConVoiFilter(
        ConVoiFilterConfig(
            **{
                **dict(
                    adim=48,
                    aheads=2,
                    layers=1,
                    linear_units=64,
                    xvector_dim=16,
                    xvector_channels=16,
                    xvector_pool=24,
                    enh_chunk_size=0.5,
                ),
                **settings,
            }
        )
    )


def voices(count, seconds=0.5, sr=16000):
    """`count` mixtures of two harmonic "voices" with pitches of their own, each with an enrollment of the target."""
    generator = torch.Generator().manual_seed(3)
    t = torch.arange(int(seconds * sr)) / sr

    def voice(pitch):
        partials = sum(
            torch.sin(2 * torch.pi * pitch * k * t + 6 * torch.rand(1, generator=generator)) / k for k in range(1, 8)
        )
        return 0.1 * partials * (1 + 0.5 * torch.sin(2 * torch.pi * 3 * t + 6 * torch.rand(1, generator=generator)))

    items = []
    for i in range(count):
        pitches = (110 + 7 * i, 190 + 11 * i)
        target, other = voice(pitches[0]), voice(pitches[1])
        items.append({"mix": target + other, "target": target, "enrollment": voice(pitches[0]), "index": i})
    return items


def test_overfits_one_batch(tmp_path):
    model, batch = (
        tiny_extractor(dropout=0.0, positional_dropout=0.0, attention_dropout=0.0, condition_dropout=0.0),
        voices(2),
    )
    history = fit(
        model,
        batch * 20,
        batch,
        tmp_path / "run",
        epochs=2,
        batch_size=2,
        learning_rate=3e-3,
        scheduler="constant",
        patience=0,
        **QUIET,
    )
    with torch.no_grad():
        together = pad(batch)
        est = model.eval()(together["mix"], enrollment=together["enrollment"]).est
    assert si_sdr(together["mix"], together["target"]).mean() < 1
    assert si_sdr(est, together["target"]).min() > 10
    assert history["val_si_sdri"].iloc[-1] - history["val_si_sdri"].iloc[0] > 10
    assert measure(model, batch, device="cpu")["si_sdri"].mean() == pytest.approx(
        history["val_si_sdri"].max(), abs=0.05
    )


@pytest.mark.parametrize(
    "amx, avx512, pays, picked",
    [
        (True, True, False, "bf16"),
        (False, True, True, "bf16"),
        (False, True, False, "fp32"),
        (False, False, True, "fp32"),
    ],
)
def test_auto_precision_is_what_this_cpu_is_faster_with(monkeypatch, amx, avx512, pays, picked):
    for name, has in (("_is_amx_tile_supported", amx), ("_is_avx512_bf16_supported", avx512)):
        monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)
    monkeypatch.setattr(precision, "bf16_pays", lambda: pays)
    assert pick_precision("auto", torch.device("cpu")) == picked
    assert pick_precision("bf16", torch.device("cpu")) == "bf16"


def test_a_fast_and_a_slow_bf16_are_told_apart_by_the_clock(monkeypatch):
    for slower in (torch.bfloat16, torch.float32):
        now, steps = [0.0], {torch.bfloat16: 1.0, torch.float32: 1.0, slower: 2.0}
        monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
        monkeypatch.setattr(torch.Tensor, "__matmul__", lambda one, _: now.__setitem__(0, now[0] + steps[one.dtype]))
        precision.bf16_pays.cache_clear()
        assert precision.bf16_pays() == (slower == torch.float32)
    precision.bf16_pays.cache_clear()


def test_other_work_during_the_first_trials_of_bf16_does_not_decide_them(monkeypatch):
    now, calls = [0.0], []

    def multiply(one, _):
        calls.append(one.dtype)
        disturbed = one.dtype == torch.bfloat16 and len(calls) <= 40
        now[0] += 9.0 if disturbed else 0.5 if one.dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(precision.time, "sleep", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "__matmul__", multiply)
    precision.bf16_pays.cache_clear()
    assert precision.bf16_pays() and len(calls) == 48
    precision.bf16_pays.cache_clear()


def test_bf16_leaves_no_trace_in_the_model(tmp_path):
    model = tiny_extractor()
    freeze(model, depth=1, type="attn")
    fit(model, voices(2), voices(2), tmp_path / "run", epochs=1, batch_size=2, **{**QUIET, "precision": "bf16"})
    assert "forward" not in model.__dict__ and "use_cache" not in model.config.to_dict()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    again = ConVoiFilter.from_pretrained(tmp_path / "run" / "best")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values()))


BARE = """
import sys
from importlib.machinery import PathFinder

MISSING = set("soundfile soxr av librosa matplotlib IPython platformdirs scipy ipywidgets torchaudio mlflow".split())

class Bare(PathFinder):  # finds all but what a bare GPU machine does not have
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""

IMPORTS = """
import torch
import lib.models.convoifilter
assert "pandas" not in sys.modules
import lib.models.chunks, lib.training, lib.training.__main__, lib.training.comparison, lib.training.benchmark
import lib.data.dataset
try:
    lib.audio.write(sys.argv[1], 0.1 * torch.ones(100).numpy())
except ModuleNotFoundError as error:
    print(error)
"""

TRAINING = """
import torch
torch.set_num_threads(1)
from lib.training.freezing import freeze
from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
from lib.training.fit import fit
sizes = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_dim=8, xvector_channels=8, xvector_pool=8)
model = ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=0.5))
freeze(model, depth=1)
wave = 0.1 * torch.randn(3, 8000)
item = dict(mix=wave[0], target=wave[1], enrollment=wave[2])
history = fit(model, [item, item], [item], sys.argv[1], epochs=1, batch_size=2, device="cpu")
print("rows", len(history), "si_sdri" in history.columns[3])
"""


def test_it_runs_on_a_bare_machine(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BARE + TRAINING, str(tmp_path / "run")], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rows 2 True" in done.stdout and (tmp_path / "run" / "best" / "config.json").is_file()


def test_models_training_and_data_import_on_a_bare_machine(tmp_path):
    """Without IPython, librosa, PyAV, matplotlib, soundfile; reading a file then says what to install."""
    command = [sys.executable, "-c", BARE + IMPORTS, str(tmp_path / "voice.wav")]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().startswith("Audio files are read") and "pip install" in done.stdout


def test_a_log_gets_a_line_an_epoch(tmp_path, capsys):
    model = small()
    run(model, tmp_path / "run", epochs=2, progress="auto")
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if line]
    assert [line.split(",")[0] for line in lines] == ["epoch 0", "epoch 1", "epoch 2"] and "shards" not in said.err
    assert "train loss" not in lines[0] and "train loss" in lines[1] and "val error" in lines[1] and not model.training


def test_items_of_unequal_length_are_padded_with_their_lengths():
    items = [{"mix": torch.ones(n), "target": torch.ones(n), "enrollment": torch.ones(5), "index": n} for n in (3, 4)]
    batch = pad(items)
    assert batch["mix"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]] and batch["lengths"].tolist() == [3, 4]
    assert (
        batch["enrollment"].shape == (2, 5) and "enrollment_lengths" not in batch and batch["index"].tolist() == [3, 4]
    )


def test_unknown_settings_are_refused_by_name():
    assert Settings.of({"epochs": 3}).epochs == 3
    with pytest.raises(SettingsError, match="unknown setting epoch; known are: epochs"):
        Settings.of({"epoch": 3})


def test_a_model_that_was_measured_can_be_trained(tmp_path):
    """What a model keeps from inference (windows, positions) is of use in training: no inference tensors."""
    model = tiny_extractor(layers=2)
    before = measure(model, voices(2), device="cpu")["si_sdri"].mean()
    kept = [
        tensor
        for module in model.modules()
        for table in vars(module).values()
        if isinstance(table, dict)
        for tensor in table.values()
        if isinstance(tensor, torch.Tensor)
    ]
    assert len(kept) > 100 and not any(tensor.is_inference() for tensor in kept)  # parameters are among them
    history = fit(model, voices(2), voices(2), tmp_path / "run", epochs=1, batch_size=2, **QUIET)
    assert history["val_si_sdri"].iloc[0] == pytest.approx(before, abs=1e-3)


def test_padding_of_a_batch_changes_nobody():
    model = tiny_extractor().eval()
    generator = torch.Generator().manual_seed(5)
    items = [
        {name: 0.1 * torch.randn(n, generator=generator) for name, n in zip(("mix", "target", "enrollment"), sizes)}
        for sizes in ((8000, 8000, 9000), (20000, 20000, 30000))
    ]
    together = measure(model, items, batch_size=2, device="cpu")["si_sdri"]
    alone = pd.concat([measure(model, [item], device="cpu")["si_sdri"] for item in items])
    assert together.tolist() == pytest.approx(alone.tolist(), abs=1e-3)
