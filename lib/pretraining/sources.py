"""Whose voices pretraining hears, beside the music behind them."""

from lib.data import debian, voices
from lib.pretraining import kokoro, silero, spoken

SOURCES = [
    "debian",
    "acted",
    "synthesised",
    "kokoro",
]  # what made the starter; "silero" brought Val nothing yet (the starter's card)
COPIES = {"synthesised": 1, "kokoro": 2, "silero": 1}  # made-up voices one of these gets


def heard(names):
    """Who is heard, name of a source -> its table of voices: `names` among "debian" (Train alone), "acted",
    "synthesised", "kokoro", "silero".
    """
    tables = {
        "debian": lambda: voices.load("debian").query("split == 'Train'"),
        "acted": lambda: debian.load(table=debian.ACTED),
        "synthesised": spoken.load,
        "kokoro": kokoro.load,
        "silero": silero.load,
    }
    return {name: tables[name]() for name in names}
