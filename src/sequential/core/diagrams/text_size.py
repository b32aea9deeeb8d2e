"""How wide a text will about be, without asking for a font: every reader has another one."""

import unicodedata

_NARROW = frozenset("iljtfrI.,:;'|!()[]{} ")
_WIDE = frozenset("mwMW@%—…")


def text_width(text: str, size: float) -> float:
    """The width in pixels of one line of a sans-serif font, rather too much than too little."""
    return round(size * sum(map(_share, text)), 1)


def _share(character: str) -> float:
    if character in _NARROW:
        return 0.36
    if character in _WIDE or character.isupper():
        return 0.78
    if character.isascii():
        return 0.58
    if unicodedata.combining(character):
        return 0.0
    return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.7
