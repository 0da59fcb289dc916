"""C code in a process of its own: an input that ends it ends nothing else."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lib import metrics
from lib.metrics import apart

SR = 16000


def too_many_pauses():
    """80 s of 75 bursts of noise: more utterances than PESQ's code has room for, and it ends with a segmentation
    fault."""
    rng, ref = np.random.default_rng(0), np.zeros(80 * SR, np.float32)
    for second in range(75):
        ref[second * SR :][: SR // 2] = 0.1 * rng.standard_normal(SR // 2)
    return ref + 0.01 * rng.standard_normal(len(ref)).astype(np.float32), ref


def test_what_ends_the_worker_is_an_error_and_the_next_call_is_answered():
    before = apart.call("os.getpid")
    with pytest.raises(apart.Ended, match=r"os\.abort ended its process \(exit status -?\d+\)"):
        apart.call("os.abort")
    assert before != apart.call("os.getpid") == apart.call("os.getpid") != os.getpid()


def test_pesq_has_no_value_where_its_code_ended_and_says_so(monkeypatch):
    est, ref = too_many_pauses()
    assert np.isfinite(metrics.pesq_wb(est[: 16 * SR], ref[: 16 * SR]))
    monkeypatch.setattr(metrics, "PESQ_WINDOW", 80)
    with pytest.warns(UserWarning, match=r"PESQ has no value for a pair of 80\.0 s"):
        assert np.isnan(metrics.pesq_wb(est, ref))


def test_an_error_of_the_function_is_raised_here_and_printing_does_not_disturb():
    with pytest.raises(ZeroDivisionError):
        apart.call("operator.truediv", 1, 0)
    apart.call("builtins.print", "between the answers")
    assert apart.call("operator.add", 1, 2) == 3


def test_a_call_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(apart, "PATIENCE", 0.5)
    with pytest.raises(apart.Ended, match="time.sleep"):
        apart.call("time.sleep", 60)


def test_threads_have_a_worker_each():
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda n: apart.call("operator.mul", n, n), range(20))) == [n * n for n in range(20)]
    assert len(apart._idle) <= 3


@pytest.mark.parametrize("seed", range(4))
def test_no_wave_ends_the_other_metrics_of_c_code(seed):
    """Lengths around the borders of frames and windows, and samples from rounding noise to far over full scale."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([1, 2, 399, 400, 4000, 25000, 144160, 160001]))
    level = 10.0 ** rng.uniform(-9, 4)
    est, ref = (level * rng.standard_normal((2, size))).astype(np.float32)
    for metric in ("estoi", "similarity", "dnsmos", "pesq_wb"):
        arguments = (est,) if metric == "dnsmos" else (est, ref)
        try:
            apart.call(f"lib.metrics.{metric}", *arguments)
        except ValueError as error:
            assert "PESQ needs at least 0.25 s" in str(error)
