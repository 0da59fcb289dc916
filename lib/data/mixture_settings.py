"""What mixtures are like: the settings that chapter 1 shows, checked, with those that a place brings."""

from dataclasses import dataclass, fields

from lib.data import places, recipes
from lib.data.pools import MixtureError

SR = recipes.SR


@dataclass(frozen=True)
class MixtureSettings:
    """What the mixtures are like. Lengths in seconds, levels in dBFS (RMS), ratios of RMS unless they end in `_db`."""

    train: int = 450  # mixtures in each split; 0 leaves a split out
    val: int = 70
    test: int = 100
    per_speaker: int = 0  # over 0: so many mixtures for each target speaker, instead of the three totals
    segment_seconds: float = 5.0
    enrollment_seconds: tuple = (3.0, 5.0)  # drawn between; at least the first is speech
    gap_seconds: tuple = (0.1, 0.3)  # pause between two short recordings that follow each other in a segment
    level_dbfs: float = -20.0  # the target's level; lower only where the mixture would clip
    interferers: tuple = (1, 2)  # how many at least and at most
    easy_ratio: tuple = (0.4, 0.6)  # RMS of each interferer over the target's
    hard_ratio: tuple = (0.8, 1.0)
    hard_share: float = 0.5  # the rest is easy
    sir_db: tuple = None  # (low, high): target over all interferers together, instead of easy and hard
    background_share: float = 0.5  # share of mixtures with a background
    background_ratio: float = 0.5  # RMS of the background over the target's
    snr_db: tuple = None  # (low, high): target over background, instead of the ratio
    babble_share: float = 1.0  # shares of the kinds of background among each other: talk of several Train voices,
    music_share: float = 1.0  # the files of `music_folder`,
    noise_share: float = 1.0  # coloured noise made on the spot,
    fan_share: float = 0.0  # a fan, made too,
    folder_share: float = 1.0  # and the files of `noise_folder`
    music_folder: str = None
    noise_folder: str = None
    # share of mixtures in which the enrolled person is silent, or is for half of the time (`recipes.ABSENT`)
    absent_share: float = 0.0
    room_share: float = 0.0  # share of mixtures in a simulated room (the target then keeps its reverberation)
    place: places.Place = None  # where all of them are heard instead (`lib.data.places`): a name or folder in `build`
    skip_below_dbfs: float = -50.0  # a fainter mixture is left out and counted
    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if isinstance(self.place, dict):
            object.__setattr__(self, "place", places.open_place(self.place))
        _check_settings(self)

    @property
    def samples(self):
        return round(self.segment_seconds * SR)

    @property
    def gap_samples(self):
        return tuple(round(seconds * SR) for seconds in self.gap_seconds)

    def count(self, split, speakers):
        """Mixtures asked for in `split`, where `speakers` people can be targets."""
        return self.per_speaker * speakers if self.per_speaker else getattr(self, split.lower())


def _check_settings(settings):
    ranges = ("enrollment_seconds", "gap_seconds", "interferers", "easy_ratio", "hard_ratio", "sir_db", "snr_db")
    for name in ranges:
        value = getattr(settings, name)
        if value is not None and not (isinstance(value, tuple) and len(value) == 2 and value[0] <= value[1]):
            raise MixtureError(f"{name}: expected (low, high) with low <= high; got {value!r}.")
    for name in [field.name for field in fields(settings) if field.name.endswith("_share")]:
        if not getattr(settings, name) >= 0 or (
            name in ("hard_share", "background_share", "room_share", "absent_share") and getattr(settings, name) > 1
        ):
            raise MixtureError(f"{name}: expected a share from 0 to 1; got {getattr(settings, name)!r}.")
    if settings.enrollment_seconds[0] < 1.0 or settings.segment_seconds < 1.0 or settings.interferers[0] < 1:
        raise MixtureError(
            "expected enrollment and segments of at least 1 s and at least 1 interferer; got "
            f"{settings.enrollment_seconds}, {settings.segment_seconds} and {settings.interferers}."
        )


def make_settings(place=None, **settings):
    """`MixtureSettings` of keywords; an unknown one is an error that lists the known ones.

    place: a name, a folder or a `lib.data.places.Place`; it brings settings of its own, over which those given win.
    """
    known = [field.name for field in fields(MixtureSettings)]
    if unknown := sorted(set(settings) - set(known)):
        raise MixtureError(f"unknown mixture setting {', '.join(unknown)}; known are {', '.join(known)}.")
    if place is not None:
        try:
            place = places.open_place(place)
            settings = {**places.mixture_settings(place, **settings), "place": place}
        except places.PlaceError as error:
            raise MixtureError(str(error)) from error
    return MixtureSettings(**settings)
