"""Which single word a file of a Debian package holds, and the lists of words that chapter 5 can be about.

By the names of the files and the texts that come beside them; no recording is listened to here.
"""

import re

DIGITS = {  # what is said, by the file names 0 to 9 of the package
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
}
DIGIT_FOLDERS = {
    "it_IT_f_Menardi": "it",
    "it_IT_m_Carlo": "it",
    "fr_CA_f_June": "fr",
    "fr": "fr",
    "es_MX_f_Allison": "es",
    "es": "es",
}
SPELLING = [
    "alfa",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "x-ray",
    "yankee",
    "zulu",
]
NOT_SPOKEN = {  # folder of the spelling alphabet -> letters for which that voice says another word
    "en_US_f_Allison/phonetic": "",
    "fr_CA_f_June/phonetic": "",
    "it_IT_f_Menardi/phonetic/ICAO": "",
    "es_MX_f_Allison/phonetic": "cfgjmnqsu",
    "ru_RU_f_IvrvoiceRU/phonetic": "nx",
    "fr/phonetic": "",
}
WIDELY = [  # folders of those who say both of two words much alike
    "en_US_f_Allison",
    "es_MX_f_Allison",
    "fr_CA_f_June",
    "it_IT_f_Menardi",
    "it_IT_m_Carlo",
    "ru_RU_f_IvrvoiceRU",
    "fr",
]
COGNATES = {  # file -> word, and the folders where it is said much like that
    "digits/0": ("zero", ["en_US_f_Allison", "fr_CA_f_June", "it_IT_f_Menardi", "it_IT_m_Carlo", "fr"]),
    "digits/million": ("million", [*WIDELY, "es"]),
    "letters/dollar": ("dollar", WIDELY),
    "letters/plus": ("plus", ["en_US_f_Allison", "fr_CA_f_June", "ru_RU_f_IvrvoiceRU", "fr"]),
}
# word -> files of Test people in other packages, by the texts beside them; of Train none, as the room would tell the
# word
ELSEWHERE = {
    "hotel": "ktuberling/sounds/((gl|sl)/moon_hotel|wa/moon_otel)",
    "kilo": "klettres/lt/syllab/kilo",
    "plus": "symbols/math/operators/op0_plus_desc_bg",
    "dollar": "asterisk/sounds/es/dollar",
}
LETTERS = list("abdefiklmnopqrstux")  # named much alike in most languages that write them
OTHER_NAMES = {  # folder -> letters that this voice names otherwise
    "en_US_f_Allison": "aeikru",
    "ru_RU_f_IvrvoiceRU": "aeikru",  # the Russian voice names them in English
    "en": "aeikru",
    "fr_CA_f_June": "eu",
    "fr": "eu",
    "pt_BR": "qx",
}
UKRAINIAN = {  # file -> letter, of those whose name is alike
    **{name: name for name in "aefiklmnou"},
    **{"be": "b", "de": "d", "er": "r", "es": "s", "pe": "p", "te": "t"},
}
VOCABULARIES = {
    "international": [*SPELLING, *(word for word, _ in COGNATES.values())],
    "letters": LETTERS,
    "digits": [f"{language} {word}" for language, words in DIGITS.items() for word in words.split()],
}


class WordsError(ValueError):
    """Words cannot be used as asked; the message names the file or word and says what to do."""


def word_in(vocabulary, origin):
    """The word of `vocabulary` that the file `origin` of a package holds, or None."""
    return {"digits": _digit, "international": _international, "letters": _letter}[vocabulary](origin)


def _digit(origin):
    place = re.search(r"/sounds/([^/]+)/digits/(\d)\.\w+$", origin)
    language = DIGIT_FOLDERS.get(place.group(1)) if place else None
    return f"{language} {DIGITS[language].split()[int(place.group(2))]}" if language else None


def _international(origin):
    """The word of the spelling alphabet or the cognate that a file holds, else None."""
    for word, files in ELSEWHERE.items():
        if re.search(rf"/({files})\.\w+$", origin):
            return word
    inside = origin.partition("/sounds/")[2]
    letter = re.fullmatch(r"(.+)/([a-z])_p\.\w+", inside)
    if letter:
        folder, letter = letter.groups()
        return SPELLING[ord(letter) - ord("a")] if letter not in NOT_SPOKEN.get(folder, letter) else None
    folder, _, file = inside.partition("/")
    word, folders = COGNATES.get(file.rpartition(".")[0], (None, ()))
    return word if folder in folders else None


def _letter(origin):
    """The name of a letter, where the file's voice names it much as most languages do, else None."""
    if found := re.search(r"/klettres/(\w+)/alpha/(\w+)\.ogg$", origin):
        place, name = found.group(1), found.group(2).lower()
        name = UKRAINIAN.get(name) if place == "uk" else name
    elif found := re.search(r"/sounds/(\w+)/letters/([a-z])\.\w+$", origin):
        place, name = found.groups()
    else:
        return None
    return name if name in LETTERS and name not in OTHER_NAMES.get(place, "") else None
