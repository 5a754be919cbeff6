"""Names of emotions: each class under every spelling that the field uses for it.

Nouns, adjectives and the abbreviations of IEMOCAP, CREMA-D and others are one class. A single letter is one only as
part of a scheme that the whole column follows: A is anger in MSP-Podcast, and fear (Angst) in EmoDB. Numbers are never
read: each corpus counts its classes in an order of its own.
"""

import unicodedata
from collections.abc import Collection, Iterable

_SPELLINGS = {
    "neutral": ("neutral", "neutrality", "neu"),
    "calm": ("calm", "calmness"),
    "happiness": ("happiness", "happy", "hap", "joy", "joyful"),
    "excitement": ("excitement", "excited", "exc"),
    "sadness": ("sadness", "sad"),
    "anger": ("anger", "angry", "ang"),
    "frustration": ("frustration", "frustrated", "fru"),
    "fear": ("fear", "fearful", "fea", "afraid", "scared"),
    "disgust": ("disgust", "disgusted", "dis"),
    "surprise": ("surprise", "surprised", "sur", "pleasant surprise", "pleasant surprised", "ps"),
    "contempt": ("contempt", "contemptuous", "con"),
    "boredom": ("boredom", "bored"),
    "amusement": ("amusement", "amused"),
    "anxiety": ("anxiety", "anxious"),
    "confusion": ("confusion", "confused"),
    "disappointment": ("disappointment", "disappointed"),
    "other": ("other", "others", "oth"),
    "no agreement": ("no agreement", "no consensus", "xxx", "unknown", "unlabeled", "unlabelled", "none", "nan", "n/a"),
}
_CLASS_OF = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}

_MSP_PODCAST = {"n": "neutral", "h": "happiness", "s": "sadness", "a": "anger", "u": "surprise"}
_MSP_PODCAST |= {"f": "fear", "d": "disgust", "c": "contempt", "o": "other", "x": "no agreement"}
_SAVEE = {"n": "neutral", "h": "happiness", "sa": "sadness", "a": "anger", "su": "surprise"}
_SAVEE |= {"f": "fear", "d": "disgust"}
_SCHEMES = ((_MSP_PODCAST, {"h", "s"}), (_SAVEE, {"h", "sa"}))  # of letters, and those that only the scheme has


def plain(name: str) -> str:
    """A name without regard to case, how its accents are encoded, underscores, hyphens and repeated blanks."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())


def classes_of(names: Iterable[str]) -> dict[str, str | None]:
    """The class of each name of one column (or one list of classes); None where it is not known."""
    names = dict.fromkeys(names)
    letters = _letters({plain(name) for name in names})
    return {name: _CLASS_OF.get(plain(name)) or letters.get(plain(name)) for name in names}


def spellings_of(name: str | None) -> tuple[str, ...]:
    """All spellings of a class."""
    return _SPELLINGS.get(name, ())


def _letters(names: Collection[str]) -> dict[str, str]:
    """What letters mean where all names are letters of one scheme, among them those that only it has."""
    for scheme, distinctive in _SCHEMES:
        if distinctive <= set(names) <= scheme.keys():
            return scheme
    return {}


def known_share(names: Collection[str]) -> float:
    """The share of names whose class is known, of a column that may be one of emotions."""
    classes = classes_of(names)
    return sum(classes[name] is not None for name in names) / len(names) if names else 0.0
