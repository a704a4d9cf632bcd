"""Forms of one English word: dirt ~ dirty, stair ~ stairs, run ~ running."""

from __future__ import annotations

import re

NUMBER_WORDS = {
    word: n
    for n, word in enumerate(
        (
            *(
                "zero",
                "one",
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
                "eleven",
                "twelve",
            ),
            *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
        )
    )
}
ORDINALS = dict(
    zip(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
        ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th"),
        strict=True,
    )
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "leaves": "leaf",
    "knives": "knife",
    "shelves": "shelf",
    "wolves": "wolf",
    "ran": "run",
    "lying": "lie",
    "wore": "wear",
    "worn": "wear",
    "held": "hold",
    "sat": "sit",
    "stood": "stand",
    "gray": "grey",
}
_ADJECTIVE_ENDINGS = ("en", "al", "ese", "ian", "an", "n", "ic", "ish", "ern")
_NO_ADJECTIVE = frozenset(("party", "county", "bunny", "hobby", "story", "belly", "jelly"))  # not "full of bun"


def singular(word: str) -> str:
    """Return the singular of a regular plural noun; other words as they are."""
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(?:ss|sh|ch|x|zz)es$", word) else word[:-1]


def base_forms(word: str) -> tuple[str, ...]:
    """Return the forms under which a lexicon may list the word, each once: itself, its singular, its verb's base."""
    forms = [word]
    if " " in word:
        first, _, last = word.rpartition(" ")
        return tuple(dict.fromkeys((word, f"{first} {singular(last)}")))
    forms.append(singular(word))
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 2 and re.search("[aeiouy]", root):
            forms += [root[:-1]] if re.search(r"([bdgklmnprt])\1$", root) and not root.endswith("ll") else []
            forms += [root, root + "e"]
    return tuple(dict.fromkeys(forms))


def stem(word: str) -> str:
    """Return a crude stem, without plural, -ing, -ed, final e and doubled consonant.

    Comparatives stay (high is not higher).
    """
    if word in NUMBER_WORDS:
        return str(NUMBER_WORDS[word])
    word = singular(word)
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and re.search("[aeiouy]", root):
            word = root[:-1] if re.search(r"([bdgklmnprt])\1$", root) and not root.endswith("ll") else root
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def is_derived(word: str, own: str) -> bool:
    """Check if a word is an adjective made of the other: wooden of wood, Japanese of Japan, octagonal of octagon."""
    return len(own) > 3 and word.startswith(own) and word[len(own) :] in _ADJECTIVE_ENDINGS


def same_word(one: str, other: str) -> bool:
    """Check if two words are forms of one; an adjective in -y matches its noun (cloud ~ cloudy)."""
    a, b = sorted((stem(one), stem(other)), key=len)
    if a == b:
        return True
    if b in _NO_ADJECTIVE or len(a) < 3:
        return False
    return (len(a) >= 4 and b == a + "y") or b == a + a[-1] + "y"
