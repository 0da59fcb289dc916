"""Make `torchaudio` importable beside a CPU build of PyTorch, and say in one sentence which package is missing.

The Linux wheel of torchaudio is linked against CUDA. Beside a CPU build of PyTorch its import fails, and with it
`from transformers import Trainer`. What this project uses of torchaudio is plain Python, so where the compiled
extension cannot be loaded a stand-in says so in torchaudio's own terms. Where the real extension loads, it is used.
"""

import contextlib
import importlib
import sys
import types


@contextlib.contextmanager
def extras():
    """Around imports of what `requirements-extras.txt` lists: a package that is missing is named with the command.

    Raises ModuleNotFoundError, one sentence, in place of the import's own.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "lib":
            raise
        raise ModuleNotFoundError(
            f"This needs the package {error.name}, which is not installed: pip install -r requirements-extras.txt",
            name=error.name,
        ) from None


def _stand_in():
    """A module with the names that torchaudio expects of its compiled extension, all saying "not there"."""

    def missing(*args, **kwargs):
        raise RuntimeError(
            "this torchaudio function needs the compiled extension, which does not load beside a CPU build of PyTorch"
        )

    module = types.ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = lambda function: missing  # a decorator: the function fails when called, not when defined
    module._load_lib = lambda name: False
    module._check_cuda_version = lambda: None
    return module


def _make_torchaudio_importable():
    if "torchaudio" in sys.modules:
        return
    try:
        importlib.import_module("torchaudio")
    except ModuleNotFoundError:  # torchaudio is not installed: the parts of lib that need it say so themselves
        return
    except (OSError, ImportError, RuntimeError):
        for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _stand_in()
        importlib.import_module("torchaudio")


_make_torchaudio_importable()
