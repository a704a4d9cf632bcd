"""Rules exact and contains: the ground truth as text."""

from __future__ import annotations

import re
import unicodedata

from halp_probe.labels.absence import judge_absence
from halp_probe.labels.clock import half_of_day, is_time_of_day, times_of_day
from halp_probe.labels.lexicon import is_other_compound
from halp_probe.labels.meaning import means
from halp_probe.labels.negation import NEGATORS, NEUTRAL, Clause, clauses
from halp_probe.labels.normalise import bare, plain, sentences, word_set, words_of
from halp_probe.labels.premise import denied_words, judge_premise
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.stems import NUMBER_WORDS, ORDINALS, same_word, singular
from halp_probe.labels.unordered import judge_list, listed_values
from halp_probe.labels.unspaced import is_unspaced, judge_unspaced
from halp_probe.labels.verdict import ABSENT, CONFLICT, REFUSAL, Verdict, compare_texts, right, unknown, wrong

_ARTICLES = ("a", "an", "the")
_NOTHING = frozenset(("none", "nothing", "nobody", "no one"))
_PLAIN_NOTHING = re.compile(
    r"(?:(?:there(?:'s| is| are)|(?:the )?answer(?: is|:)) )?(?:none|nothing|nobody|no one)"
    r"(?: (?:there|visible|here))?",
    re.IGNORECASE,
)
_NEAR_OR = 3  # words between the truth and an "or" that makes it one of several offers
_ASIDE = ("while", "whereas")  # what follows speaks of another thing: "France, while Germany is the second tallest"
_IDIOM = re.compile(
    r"\b(?:you(?:'re| are)|that(?:'s| is)|that sounds|all) right\b|\bright (?:now|away)\b", re.IGNORECASE
)
_ASKS_TIME = re.compile(r"\b(?:time|clock|watch|hour|when)\b", re.IGNORECASE)
_OTHER_MATTER = re.compile(r"\b(?:whether|if|what|which|who|whose|how|why|where)\b", re.IGNORECASE)
_BE = word_set("is are was were be does do did can")


def judge_exact(answer: str, truth: str, question: str = "") -> Verdict:
    """Judge a clean `answer` as right if it equals the truth after case, punctuation, articles and white space."""
    verdict = compare_texts("exact", bare(answer), bare(truth))
    return unknown("exact", verdict.truth, REFUSAL) if verdict.label == 1 and is_refusal(answer) else verdict


def judge_contains(answer: str, truth: str, question: str) -> Verdict:
    """Judge if a clean `answer` says the truth, in its words, their forms or synonyms, and does not deny it.

    A sentence that names the truth among other things ("a red car and a blue bus") counts as saying it; only an answer
    that is nothing but a list ("red, blue and green") is unknown. An answer that does not say it is wrong only where
    it names another value or denies it.
    """
    said, wanted = bare(answer), bare(truth)
    if said == wanted:
        return right("contains", said, wanted)
    if _ASKS_TIME.search(question) and is_time_of_day(plain(truth)) and not is_refusal(answer):
        return _judge_time(answer, truth)
    if denied_words(truth, question):
        return judge_premise(answer, truth, question)
    stated = _before_doubt(answer)
    if not stated:
        return unknown("contains", wanted, REFUSAL, said)
    if is_unspaced(truth) and is_unspaced(answer):
        return judge_unspaced(answer, truth)
    if _another_script(answer, truth):
        return unknown("contains", wanted, "another script than the ground truth's", said)
    if wanted in _NOTHING:
        return _judge_nothing(stated, said, wanted, question)
    if said in _NOTHING:
        return wrong("contains", said, wanted)
    return _judge_mentions(_IDIOM.sub(" ", stated), said, truth, question)


def _judge_time(answer: str, truth: str) -> Verdict:
    """Judge by the times on a dial that answer and truth name; unknown if one is in the morning, the other is not."""
    said, wanted = bare(answer), bare(truth)
    times, true = times_of_day(answer), times_of_day(plain(truth))
    halves = half_of_day(answer), half_of_day(truth)
    if not times or (times & true and times != true) or (all(halves) and halves[0] != halves[1]):
        return unknown("contains", wanted, CONFLICT if times else ABSENT, said)
    return (right if times == true else wrong)(
        "contains", said, wanted, f"says {'the same' if times == true else 'another'} time"
    )


def _before_doubt(answer: str) -> str:
    """Return the answer, without sentences in which it does not know another thing; "" if it doubts this one.

    "It is windy. I can't tell whether it is cold." says that it is windy.
    """
    if not is_refusal(answer):
        return answer
    kept = []
    for sentence in sentences(answer):
        if not is_refusal(sentence):
            kept.append(sentence)
        elif not kept or not _OTHER_MATTER.search(sentence):
            return ""
    return "\n".join(kept)


def says(text: str, truth: str) -> bool:
    """Check that the truth's words stand in the text, one after the other."""
    return bool(_spans(_words(text), _words(truth)))


def _judge_mentions(answer: str, said: str, truth: str, question: str) -> Verdict:
    wanted, words = bare(truth), _words(truth)
    found = _found(answer, words, question)
    if not found and says(answer, truth):
        found = {"said"}  # the truth itself holds a comma or a "but"
    if found == {"said"} and not (_offers(answer, words) or _mere_list(answer, words)):
        return right("contains", said, wanted)
    if not found and (values := listed_values(truth)):
        own = frozenset(value for value in values if _found(answer, _words(value), question) == {"said"})
        return judge_list(answer, truth, question, own)
    if not found:
        meant = means(answer, words, question)
        return right("contains", said, wanted, meant) if meant else judge_absence(answer, said, wanted, question)
    if found == {"denied"}:
        return wrong("contains", said, wanted, "denies it")
    if len(found) > 1:
        return unknown("contains", wanted, CONFLICT, said)
    return unknown("contains", wanted, "names several answers" if found == {"said"} else "unclear mention", said)


def _found(answer: str, truth: list[str], question: str) -> set[str]:
    """Return how the answer's clauses mention the truth."""
    return {
        "unclear" if kind == "said" and clause.after in _ASIDE else kind
        for sentence in clauses(answer)
        for clause in sentence
        for kind in _mentions(clause, truth, question)
    }


def _mentions(clause: Clause, truth: list[str], question: str) -> set[str]:
    """Classify each place that names the truth: "said", "denied" or "unclear"."""
    words = _fold(clause.words)
    return {_mention(words, start, stop, question) for start, stop in _spans(words, truth)}


def _mention(words: list[str], start: int, stop: int, question: str) -> str:
    before = [i for i in range(start) if words[i] in NEGATORS]
    if before:
        between = words[before[-1] + 1 : start]
        if all(word in NEUTRAL or word in ("in", "of", "with") for word in between):
            return "denied"
        if len(between) <= 3:
            return "unclear"
    after = words[stop : stop + 3]
    if len(after) > 1 and after[0] in _BE and after[1] in NEGATORS and all(w in NEUTRAL for w in after[2:]):
        return "unclear"
    if stop - start == 1 and start and is_other_compound(words[start - 1], words[start]):
        return "unclear"
    # "the shape left of the red circle": words of the question again, not an answer to it
    asked, echoed = _fold(words_of(question)), words[start : stop + 1]
    if len(echoed) > stop - start and echoed[-1] not in NEUTRAL and len(echoed[-1]) > 2 and _spans(asked, echoed):
        return "unclear"
    return "said"


def _judge_nothing(answer: str, said: str, wanted: str, question: str) -> Verdict:
    """Judge where the truth is that there is nothing.

    The answer is right only if it says so plainly, and wrong if it has no negation.
    """
    for sentence in sentences(answer):
        if _PLAIN_NOTHING.fullmatch(re.split(r"[,;.!]", sentence)[0].strip()):
            return right("contains", said, wanted)
    negated = False
    for sentence_clauses in clauses(answer):
        for clause in sentence_clauses:
            negated |= bool(clause.negators())
            if _says_there_is_no(clause, question):
                return right("contains", said, wanted, "says there is no such thing")
    if negated:
        return unknown("contains", wanted, "an unclear negation", said)
    return wrong("contains", said, wanted, "names something")


def _says_there_is_no(clause: Clause, question: str) -> bool:
    """Check for "no star", "there isn't a star".

    The thing must be one that the question names, if the question is known.
    """
    words = list(clause.words)
    at = next(iter(clause.negators()), None)
    if (
        at is None
        or words[at] not in ("no", "not", "without")
        or any(w not in NEUTRAL and w != "image" for w in words[:at])
    ):
        return False
    if words[at] == "not" and "there" not in words[:at]:
        return False  # "it is not red" denies a colour, not the thing
    things = [w for w in words[at + 1 :] if w not in NEUTRAL]
    if not things:
        return words[at] == "not"
    return not question.strip() or any(same_word(thing, own) for thing in things[:2] for own in words_of(question))


def _offers(answer: str, truth: list[str]) -> bool:
    """Check if the truth is one of several offers ("red or blue")."""
    for sentence in sentences(answer):
        words = _words(sentence, keep_articles=True)
        for start, stop in _spans(words, truth):
            around = words[max(0, start - _NEAR_OR) : start] + words[stop : stop + _NEAR_OR]
            if "or" in around or "either" in around:
                return True
    return False


def _mere_list(answer: str, truth: list[str]) -> bool:
    """Check for nothing but items of a word or two, one of them the truth ("red, blue and green")."""
    items = [_words(item) for item in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*", answer.strip(" ."))]
    listed = len(items) > 2 or (len(items) == 2 and bool(re.search(r"\band\b|&", answer)))
    return listed and all(0 < len(item) <= 2 for item in items) and truth in items


def _spans(words: list[str], truth: list[str]) -> list[tuple[int, int]]:
    """Find where `words` say the truth.

    Word breaks inside it do not matter ("t shirt" ~ "tshirt"), nor does a last plural.
    """
    if not truth:
        return []
    joined, ending = "".join(truth), "".join([*truth[:-1], singular(truth[-1])])
    return [
        (start, stop)
        for start in range(len(words))
        for stop in range(start + 1, min(len(words), start + len(joined)) + 1)
        if "".join(words[start:stop]) == joined
        or "".join([*words[start : stop - 1], singular(words[stop - 1])]) == ending
    ]


def _words(text: str, keep_articles: bool = False) -> list[str]:
    words = _fold(words_of(text))
    return words if keep_articles else [w for w in words if w not in _ARTICLES] or words


def _fold(words: list[str] | tuple[str, ...]) -> list[str]:
    """Remove accents and write number words as digits."""
    plain_words = ("".join(c for c in unicodedata.normalize("NFKD", w) if not unicodedata.combining(c)) for w in words)
    return [ORDINALS.get(word, str(NUMBER_WORDS.get(word, word))) for word in plain_words]


def _another_script(answer: str, truth: str) -> bool:
    """Check if the truth's letters are Latin and the answer's are not, or if one has no spaces between words."""
    if is_unspaced(answer) or is_unspaced(truth):
        return True
    latin = [any(c.isalpha() and unicodedata.name(c, "").startswith("LATIN") for c in text) for text in (answer, truth)]
    return any(c.isalpha() for c in answer) and any(c.isalpha() for c in truth) and latin[0] != latin[1]
