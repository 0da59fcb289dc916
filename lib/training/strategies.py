"""The ways to fine-tune that chapter 2 compares, by name."""

from lib.training import adapters
from lib.training.freezing import FreezeError, freeze

# names for what chapter 2 compares; each is the arguments of `freeze`, or the name of a function of
# `lib.training.adapters`
STRATEGIES = {
    "head only": dict(depth=0, open_mask=1),
    "attention of last 1": dict(depth=1, type="attn"),
    "attention of last 2": dict(depth=2, type="attn"),
    "last 1 full": dict(depth=1),
    "last 2 full": dict(depth=2),
    "last 2 full + speaker layer": dict(depth=2, open_spk_ffn=1),
    "norms and biases": "open_norms_and_biases",
    "adapters of rank 8": "add_adapters",
    "everything": "open_all",
    "everything, lower rates for earlier layers": "open_with_falling_rates",
}


def freeze_as(model, strategy):
    """Apply one of `STRATEGIES` by name to a `ConVoiFilter`.

    Returns the same table as `freeze`; an unknown name is a `FreezeError`.
    """
    if strategy not in STRATEGIES:
        raise FreezeError(f"unknown strategy {strategy!r}; known are: {', '.join(STRATEGIES)}")
    settings = STRATEGIES[strategy]
    return freeze(model, **settings) if isinstance(settings, dict) else getattr(adapters, settings)(model)
