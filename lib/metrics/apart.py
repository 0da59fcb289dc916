"""Call C code in a process of its own, so that an input it cannot take ends that process and not the notebook's.

A worker is started at the first call (0.1 to 0.2 s), kept for the next ones, and ends with the process that started it.
It runs this very file, which imports nothing of lib.
"""

import atexit
import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

PATIENCE = 120.0  # s; no call takes this long unless it never ends
_idle, _lock = [], threading.Lock()  # `(process id of its starter, worker)`


class Ended(RuntimeError):
    """The worker came to its end over an input: the message says how."""


def call(name, *arguments):
    """What the function `name` ("package.function") returns for `arguments`; both are pickled, so arrays fit.

    An exception of the function is raised here. Raises `Ended` where the process was killed or never answered. Threads
    that call at the same time have a worker each.
    """
    worker = _worker()
    timer = threading.Timer(PATIENCE, worker.kill)
    timer.start()
    try:
        pickle.dump((name, arguments), worker.stdin, pickle.HIGHEST_PROTOCOL)
        worker.stdin.flush()
        good, answer = pickle.load(worker.stdout)
    except (OSError, EOFError, pickle.UnpicklingError):
        worker.kill()
        raise Ended(f"{name} ended its process (exit status {worker.wait()}) over this input") from None
    except BaseException:  # an interrupt: what comes out of this worker next would be the answer to this call
        worker.kill()
        raise
    finally:
        timer.cancel()
    with _lock:
        _idle.append((os.getpid(), worker))
    if good:
        return answer
    raise answer


def _worker():
    """An idle one that this very process started (a fork has its parent's pipes, not its workers), or a new one."""
    with _lock:
        while _idle:
            owner, worker = _idle.pop()
            if owner == os.getpid() and worker.poll() is None:
                return worker
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **threads},
    )


@atexit.register
def _end():
    for owner, worker in _idle:
        if owner == os.getpid():
            worker.communicate()  # closes its pipes, at which it ends


def serve(calls, answers):
    """Answer one call after the other until the pipe is closed."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            name, arguments = pickle.load(calls)
            package, function = name.rsplit(".", 1)
            try:
                answer = True, getattr(importlib.import_module(package), function)(*arguments)
            except Exception as error:
                answer = False, error
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


if __name__ == "__main__":
    sys.path[0] = ""  # the project, and not this folder, which has a `statistics` too
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C code prints must not come between the answers
    serve(sys.stdin.buffer, out)
