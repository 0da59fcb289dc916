"""The ways to fine-tune that chapter 2 compares, by name, and the learning rate that each stands."""

from typing import NamedTuple

from lib.training import adapters
from lib.training.freezing import FreezeError, freeze


class Strategy(NamedTuple):
    """opens: a dict as `freeze_as` takes it, or a function's name in `adapters`. rate: the learning rate it stands."""

    opens: dict | str
    rate: float


STRATEGIES = {  # rates found on Val of the place "office" (results/README.md has the table)
    "head only": Strategy(dict(depth=0, open_mask=1), 2e-3),
    "attention of last 1": Strategy(dict(depth=1, type="attn"), 3e-4),
    "attention of last 2": Strategy(dict(depth=2, type="attn"), 3e-4),
    "attention of all blocks": Strategy("open_attention", 2e-4),
    "last 1 full": Strategy(dict(depth=1), 5e-4),
    "last 2 full": Strategy(dict(depth=2), 5e-4),
    "last 2 full + speaker layer": Strategy(dict(depth=2, open_spk_ffn=1), 5e-4),
    "norms and biases": Strategy("open_norms_and_biases", 2e-3),
    "adapters of rank 8": Strategy(dict(adapters=8, beside="all"), 1e-3),
    "adapters of rank 8, attention alone": Strategy(dict(adapters=8, beside="attn"), 1e-3),
    "adapters of rank 8, every projection": Strategy(dict(adapters=8, beside="every"), 1.5e-3),
    "all but the speaker encoder": Strategy("open_all_but_speaker", 5e-4),
    "everything": Strategy("open_all", 2e-4),
    "everything, lower rates for earlier layers": Strategy("open_with_falling_rates", 5e-4),
}


def freeze_as(model, strategy):
    """Apply a strategy to a `ConVoiFilter`: one of `STRATEGIES` by name, or a dict of arguments of `freeze`, or
    `dict(adapters=rank, beside="all")` (see `adapters.add_adapters`).

    Returns the same table as `freeze`; an unknown name is a `FreezeError`.
    """
    if isinstance(strategy, dict):
        if "adapters" not in strategy:
            return freeze(model, **strategy)
        told = dict(strategy)
        return adapters.add_adapters(model, told.pop("adapters"), **told)
    if strategy not in STRATEGIES:
        raise FreezeError(f"unknown strategy {strategy!r}; known are: {', '.join(STRATEGIES)}")
    opens = STRATEGIES[strategy].opens
    return freeze_as(model, opens) if isinstance(opens, dict) else getattr(adapters, opens)(model)
