"""Values of one kind that exclude each other: a thing has one colour, an animal is of one species.

Only an answer that names another value of the truth's kind is wrong; one that merely lacks the truth may say it in
words that no rule knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType

from halp_probe.labels.lexicon import are_opposites, falls_under, is_word, may_mean_same
from halp_probe.labels.negation import NEGATORS
from halp_probe.labels.normalise import word_set, words_of
from halp_probe.labels.stems import is_derived, same_word

# kind -> what its values are kinds of, as the lexicon names it
_ROOTS = MappingProxyType(
    {
        "colour": ("chromatic color", "achromatic color"),
        "animal": ("animal",),
        "vehicle": ("conveyance",),
        "fruit or vegetable": ("produce",),
        "drink": ("beverage",),
        "piece of furniture": ("furniture",),
        "garment": ("garment", "footwear"),
        "instrument": ("musical instrument",),
        "shape": ("plane figure",),
        "sport": ("sport",),
        "month": ("calendar month",),
        "country": ("country#2", "country#1"),
        "city": ("city",),
        "room": ("room",),
        "appliance": ("home appliance",),
        "part of the body": ("body part",),
        "language": ("natural language",),
    }
)
# kind -> its values, each with the words that mean it
_LISTED = MappingProxyType(
    {
        "colour": "red orange yellow green blue purple/violet pink brown black white grey/gray",
        "shape": "circle square triangle star pentagon hexagon octagon heart cross",
        "day of the week": "monday tuesday wednesday thursday friday saturday sunday",
        "season": "spring summer autumn/fall winter",
        "side": "left/leftward/leftwards right/rightward/rightwards",
        "height": "up/upward/upwards/top down/downward/downwards/bottom",
        "point of the compass": "north/northern south/southern east/eastern west/western",
        "weather": "sunny/clear rainy/raining/rain snowy/snowing/snow cloudy/overcast foggy/misty stormy",
        "material": (
            "wood/wooden metal/metallic/steel/iron plastic glass stone/rock/brick/marble/concrete leather "
            "paper/cardboard fabric/cloth"
        ),
        "piece of cutlery": "fork knife spoon chopsticks/chopstick",
        "time of day": "morning afternoon evening/dusk/sunset night",
        "sex": "man/male/boy woman/female/girl",
    }
)
_LISTED_AS = {
    word: (kind, place)
    for kind, values in _LISTED.items()
    for place, names in enumerate(values.split())
    for word in names.split("/")
}
# Siblings in the lexicon that people use for one another.
_NEAR = tuple(
    map(
        word_set,
        (
            "cat kitten kitty tabby",
            "dog puppy pup hound",
            "horse foal colt mare stallion",
            "boat ship vessel ferry yacht sailboat",
            "hat cap beanie helmet",
            "jacket coat blazer suit parka raincoat",
            "shirt t-shirt tshirt top blouse tee sweatshirt sweater hoodie jersey polo pullover",
            "pants trousers jeans slacks leggings",
            "dress gown skirt robe",
            "shoe boot sneaker trainer sandal slipper footwear",
            "truck van lorry pickup trailer suv car",
            "bus coach van minibus",
            "train tram trolley streetcar subway locomotive",
            "scooter motorcycle motorbike moped bicycle bike",
            "sheep lamb ram ewe",
            "cow bull cattle ox calf",
            "chicken hen rooster chick",
            "pigeon dove",
            "crow raven",
            "mouse rat",
            "frog toad",
            "donkey mule horse pony",
            "rabbit hare bunny",
            "duck goose",
            "sofa couch settee bench loveseat armchair",
            "chair stool seat armchair",
            "table desk counter",
            "cabinet cupboard dresser closet",
            "soccer football",
            "purple violet lavender magenta lilac pink",
            "blue teal turquoise cyan aqua green navy",
            "gold yellow golden tan beige cream",
            "beige tan cream brown khaki white ivory",
            "silver gray grey",
            "maroon burgundy red brown crimson",
            "orange red peach",
            "orange peach brown tan",
            "hand arm finger wrist",
            "leg foot ankle",
            "coffee espresso latte",
            "stove oven range",
            "refrigerator fridge freezer",
            "square rectangle diamond",
            "circle oval ellipse",
            "lemon lime",
            "orange tangerine mandarin clementine",
            "apple pear",
            "banana plantain",
            "lion lioness",
            "deer elk moose antelope",
            "seal walrus",
            "turtle tortoise",
            "alligator crocodile",
        ),
    )
)
_COLOUR = "colour"
_SHADES = word_set("light dark pale bright deep navy sky royal baby hot neon pastel")
PLAIN_COLOURS = word_set("red orange yellow green blue purple pink brown black white grey gray")
_REACH = 3  # words over which a negation excludes a value


def another_value(answer: str, wanted: str, question: str) -> tuple[str, str] | None:
    """Return a value that the answer names in place of the truth, and its kind; None if there is none.

    Values that the question names, or that the answer negates, do not count; nor does any if another of the answer's
    words may mean the truth.
    """
    asked = echoed_words(question, wanted)
    said = [one for one in _phrases(words_of(answer)) if not any(same_word(one, word) for word in asked)]
    for truth in _phrases(words_of(wanted)):
        kinds = _kinds(truth)
        if len(kinds) > 1 and "colo" not in question.lower():
            kinds.discard(_COLOUR)  # the fruit, of "orange"
        if any(may_be(one, truth) for one in said):
            continue
        for one in said if _COLOUR in kinds else (one for one in said if one not in PLAIN_COLOURS):
            if (shared := kinds & _kinds(one)) and _differ(one, truth):
                return one, min(shared)
    return None


def echoed_words(question: str, wanted: str) -> list[str]:
    """Return the question's words, which an answer may repeat; none, if the question offers the truth itself."""
    asked = words_of(question)
    return [] if any(same_word(own, word) for own in words_of(wanted) for word in asked) else asked


def excludes(one: str, other: str) -> bool:
    """Return whether two words are values of one kind that nothing can both be, or antonyms."""
    if may_be(one, other):
        return False
    return (share_kind(one, other) and _differ(one, other)) or are_opposites(one, other)


def share_kind(one: str, other: str) -> bool:
    """Return whether two words are values of one kind."""
    return bool(_kinds(one) & _kinds(other))


def _kinds(word: str) -> set[str]:
    """Return the kinds of which a word is a value: of colours and fruit, for "orange"."""
    listed = {_LISTED_AS[word][0]} if word in _LISTED_AS else set()
    return listed | {kind for kind, roots in _ROOTS.items() if is_word(word) and falls_under(word, roots)}


def _differ(one: str, other: str) -> bool:
    """Return whether two values of a kind differ; two that are listed do if they stand for different values."""
    if one in _LISTED_AS and other in _LISTED_AS and _LISTED_AS[one][0] == _LISTED_AS[other][0]:
        return _LISTED_AS[one] != _LISTED_AS[other]
    return True


def may_be(one: str, other: str) -> bool:
    """Return whether one word may be used for what the other names."""
    if {one, other} <= PLAIN_COLOURS:
        return {one, other} == {"grey", "gray"} or one == other
    if same_word(one, other) or may_mean_same(one, other) or is_derived(one, other) or is_derived(other, one):
        return True
    forms = [{word, word.removesuffix("s"), word.removesuffix("es")} for word in (one, other)]
    return any(all(near & own for own in forms) for near in _NEAR)


def _phrases(words: Sequence[str]) -> list[str]:
    """Return the words, names of two words as one ("polar bear", "new york"), without those that are negated."""
    kept = [
        word for place, word in enumerate(words) if not NEGATORS.intersection(words[max(0, place - _REACH) : place])
    ]
    found: list[str] = []
    names = {pair for pair in pairwise(kept) if is_word(" ".join(pair)) and pair[0] not in _SHADES}
    skip = False
    for place, word in enumerate(kept):
        following = kept[place + 1] if place + 1 < len(kept) else ""
        if skip:
            skip = False
        elif (word, following) in names:
            found.append(f"{word} {following}")
            skip = True
        elif re.search(r"[^\W\d]", word):
            found.append(word)
    return found
