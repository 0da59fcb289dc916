"""Chapter 2: choose what to freeze, fine-tune, compare. `python -m lib.training SETTINGS` makes a run again."""

from lib.training.fit import fit, measure
from lib.training.freezing import FreezeError, freeze, freeze_groups
from lib.training.settings import Settings, SettingsError, TrainingError
from lib.training.strategies import STRATEGIES, freeze_as

__all__ = [
    "STRATEGIES",
    "FreezeError",
    "Settings",
    "SettingsError",
    "TrainingError",
    "fit",
    "freeze",
    "freeze_as",
    "freeze_groups",
    "measure",
]
