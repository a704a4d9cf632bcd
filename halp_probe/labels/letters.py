"""Reading of the lettered option that a reply chooses.

An explicit declaration ("the answer is (B)") wins, then a bare letter, then an option's number, then its text: all of
the reply, or the one text that the reply mentions. Where the evidence is missing or conflicts, no option is read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from halp_probe.labels.normalise import clean, sentences
from halp_probe.labels.option_head import letters, number, same_text
from halp_probe.labels.option_mentions import find_mentions
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.verdict import CONFLICT, EMPTY_ANSWER, REFUSAL
from halp_probe.reply_text import after_thinking

LETTERS = string.ascii_uppercase
DECLARED, LETTER, NUMBER, TEXT = "declared", "letter", "number", "text"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Option that a reply chooses: its `index` from 0, and `how` it was stated; or None and the `reason`."""

    index: int | None
    how: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Declaration:
    """Place where a reply declares its answer.

    `start` is its index in the reply; `final` is True where it is called the final answer.
    """

    start: int
    options: frozenset[int]  # empty where the declared option could not be read
    payload: str
    final: bool


_IS = r"""(?: is | (?:would|should|must|has\ to|appears\ to) \s be ) \b
    (?: \s+ (?: (?:most\s+)? likely | probably | clearly | definitely | therefore | thus ) \b )? \s* :?"""
_MARKER = re.compile(
    rf"""
    (?P<final> \b final \s+ )? (?: \b (?P<answer>answer|ans|solution) \b ["']?
        (?: , \s* I \s+ (?:think|believe|guess) , | \s+ here | \s+ to \s [^.,;:\n]{{1,40}}? (?= \s is \s ) )?
        \s* (?: {_IS} | [:=] | -> | → | [-–—](?=\s) | \n )
      | (?: \b (?:the|correct|right|best|only|my|selected|chosen) \s+ | (?<=\bfinal\s) )
        (?:option|choice|letter|match) \s* (?: {_IS} | [:=] ) )
    | (?: ^ | (?<=\n) ) (?:option|choice) \s* [:=]
    | \\boxed \s* \{{
    | (?P<final_chinese>最终)? (?:(?P<chinese>答案)|正确的?选项) \s* (?:应该?|应当)? (?:是|为|选)? \s* :?
    | 选 (?: 择 )? (?: 选项 | (?!项) ) \s* :?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_WEAK_MARKER = re.compile(  # weak wording: a declaration only if a letter follows
    r"""
    \b (?:I|we) (?: 'd | 'll | \s would | \s will )? \s
        (?:think|believe|guess|say|answer|choose|chose|pick|picked|select|go\ with) \s (?: that \s )?
        (?: it \s is \s | it's \s )?
    | \b (?:so|therefore|thus|hence) \b ,? \s (?: it \s is \s | it's \s | it \s must \s be \s )?
    | \b (?:it|that) (?: 's | \s is | \s must \s be | \s would \s be ) \s
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONFIRMED = re.compile(
    r"""
    (?<![A-Za-z0-9_'&]) (?P<others> (?:[A-Z] \s* (?:,|/|&|and|or) \s* ){0,4} )
    (?: (?:[Oo]ption|[Cc]hoice|[Aa]nswer) \s+ [\[(]? (?P<named>[A-Za-z]) | [\[(]? (?P<letter>[A-Z]) ) [\])]?
    (?: \s* \( [^()\n]{0,80} \) )?
    (?: \s+ (?:is|seems|appears\ to\ be|must\ be|would\ be) \s+
        (?: (?:the|clearly|definitely|indeed|also|most|likely|probably) \s+ )*
        (?:correct|right|true|accurate|best|answer|appropriate) \b (?! \s*\? | \s (?:only\s)? if\b )
      | (?:选项|项)? (?:是|为)? (?:正确|对的) )
    """,
    re.VERBOSE,
)
_NAMED = re.compile(r"\b(?:option|choice)\s+(?=[\[(]?[A-Za-z]\b)|选项\s*(?=[\[(]?[A-Z])", re.IGNORECASE)
_DOUBTED = re.compile(
    r"""
    \b (?:not|neither|nor|never|if|whether|unless|why|wrong|incorrect|cannot|both) \b (?: (?!\bbut\b) [^,;.\n] )* \Z
    | n't \b (?: (?!\bbut\b) [^,;.\n] )* \Z | \b (?:might|may|could) \s (?:think|say|assume) \b [^,;.\n]* \Z
    | [不别勿非] [^,;。\n]{0,3} \Z
    """,
    re.IGNORECASE | re.VERBOSE,
)
_REFUTED = re.compile(
    r"\b(?:not|wrong|incorrect|rul\w+ out|eliminat\w+|exclud\w+|neither|nor|cannot|if|except|unlike|initially"
    r"|(?:other|rather) than|instead of|at first|first thought)\b|n't\b|[不错]",
    re.I,
)
_MARK = re.compile(r"(?:^|(?<=\s))[\[(]?([A-Z])[\]).:]\s*(?=\S)")
_DESCRIBED_OPTION = re.compile(  # an option that is described: "A is red", "option A: red", "选项A是红色"
    r"(?:^|(?<=[\s,;。]))(?:(?i:option|choice)\s+|选项\s*)?[\[(]?([A-Z])(?:[\]).:]|\s(?:is|says|shows|means)\b|\s?[=是为])"
)
_SECOND_THOUGHT = re.compile(r"\b(?:wait|hmm+|actually|on second thought|correction|scratch that)\b|等等", re.I)
_ANY_LETTER = re.compile(r"(?<![\w'&.-])(?:([B-HJ-Z])(?![\w'&+-])|([AI])(?=\s*(?:[.,;:)!。]|$)))")
_ALONE = re.compile(r"[\[(\"']*([A-Z])[\])\"']*[.。、]?")
_NEAR = 80  # characters before a declaration in which words of doubt count
_LINE = 400  # characters that are read of a declaration's line


def read_choice(reply: str, options: Sequence[str]) -> Choice:
    """Return the option that `reply` chooses among `options`, which the prompt showed as A, B and so on."""
    reply_text = clean(reply)
    if not reply_text:
        never_ended = bool(reply.strip()) and after_thinking(reply) is None
        return Choice(index=None, reason="it never got past its thinking" if never_ended else EMPTY_ANSWER)
    found = sorted([*_declarations(reply_text, options), *_confirmations(reply_text)], key=lambda one: one.start)
    if declared := [one for one in found if one.options]:
        return _of(_agreement(declared, reply_text, options), DECLARED, options)
    first = _leading_letter(reply_text, options) | _first_line(reply_text)
    if bare := first | _last_line(reply_text) | _concluded_options(reply_text, options):
        return _of(bare | (_second_thoughts(reply_text, options) if first else frozenset()), LETTER, options)
    if named := _named_options(reply_text, options):
        return _of(named, LETTER, options)
    if numbered := number(reply_text, options):
        return _of(numbered, NUMBER, options)
    return _by_text(found[-1].payload if found else reply_text, reply_text, options)


def _of(found: frozenset[int], how: str, options: Sequence[str]) -> Choice:
    named = ", ".join(LETTERS[index] for index in sorted(found))
    if len(found) > 1:
        return Choice(index=None, reason=f"{CONFLICT}: {named}")
    if max(found) >= len(options):
        meant = same_text(named, options)  # "L" of the sizes S, M, L
        if len(meant) == 1:
            return Choice(index=min(meant), how=TEXT)
        return Choice(index=None, reason=f"{named} is none of the {len(options)} options")
    return Choice(index=min(found), how=how)


def _by_text(text: str, reply_text: str, options: Sequence[str]) -> Choice:
    """Return the one option that `text`, the reply or a declaration in it, equals or mentions."""
    found = same_text(text, options) or find_mentions(text, options)
    if not found:
        return Choice(index=None, reason=REFUSAL if is_refusal(reply_text) else "no option could be read")
    if len(found) == 1 and is_refusal(reply_text) and not is_refusal(options[min(found)]):
        return Choice(index=None, reason=REFUSAL)
    return _of(found, TEXT, options)


def _declarations(reply_text: str, options: Sequence[str]) -> Iterator[_Declaration]:
    r"""Yield the text after each "the answer is", "Answer:", boxed; its options are empty if they cannot be read."""
    for match in _MARKER.finditer(reply_text):
        rest = reply_text[match.end() : match.end() + _LINE].lstrip()
        if _is_doubted(reply_text, match) or _begins_with_list(rest):
            continue
        payload = rest.partition("}" if match[0].startswith("\\") else "\n")[0]
        named = letters(payload, options, declared=True) or _declared_options(payload, options)
        if payload and (named or match["answer"] or match["chinese"]):
            final = bool(match["final"] or match["final_chinese"])
            yield _Declaration(start=match.start(), options=named, payload=payload, final=final)


def _declared_options(payload: str, options: Sequence[str]) -> frozenset[int]:
    """Return the option whose text or number a declaration begins with, before any explanation."""
    whole = same_text(payload, options) or number(payload, options)
    sentence, clause = re.split(r"[.;。](?:\s|$)", payload)[0], re.split(r"[.,;。](?:\s|$)", payload)[0]
    first = same_text(clause, options)
    return whole or number(sentence, options) or (first if find_mentions(payload, options) <= first else frozenset())


def _confirmations(reply_text: str) -> Iterator[_Declaration]:
    """Yield declarations such as "Option B is correct"."""
    for match in _CONFIRMED.finditer(reply_text):
        if not _is_doubted(reply_text, match):
            named = (match["named"] or match["letter"]).upper() + re.sub(r"[^A-Z]", "", match["others"])
            yield _Declaration(
                start=match.start(), options=frozenset(map(LETTERS.index, named)), payload=match[0], final=False
            )


def _agreement(declared: Sequence[_Declaration], reply_text: str, options: Sequence[str]) -> frozenset[int]:
    """Return all options that are declared or stand alone in the first line; only final ones if the last is final."""
    if declared[-1].final:
        return frozenset().union(*(one.options for one in declared if one.final))
    later = _second_thoughts(reply_text[declared[-1].start :], options)
    return _first_line(reply_text).union(later, *(one.options for one in declared))


def _second_thoughts(reply_text: str, options: Sequence[str]) -> frozenset[int]:
    """Return the options whose letters follow a "wait" or "actually"."""
    thought = _SECOND_THOUGHT.search(reply_text)
    if thought is None:
        return frozenset()
    found = {LETTERS.index(match[1] or match[2]) for match in _ANY_LETTER.finditer(reply_text, thought.end())}
    return frozenset(index for index in found if index < len(options))


def _leading_letter(reply_text: str, options: Sequence[str]) -> frozenset[int]:
    """Return the letter with which the reply begins, unless it begins with a list of the options."""
    if _begins_with_list(reply_text) or (
        _DESCRIBED_OPTION.match(reply_text) and _DESCRIBED_OPTION.findall(reply_text)[:2] == ["A", "B"]
    ):
        return frozenset()
    return letters(reply_text.partition("\n")[0], options, declared=False)


def _first_line(reply_text: str) -> frozenset[int]:
    """Return the letter that is all of the first line."""
    alone = _ALONE.fullmatch(reply_text.partition("\n")[0].strip())
    return frozenset((LETTERS.index(alone[1]),)) if alone else frozenset()


def _last_line(reply_text: str) -> frozenset[int]:
    """Return the letter that is all of the last line, unless it is the next of a list that was cut off."""
    before, _, last = reply_text.rpartition("\n")
    alone = _ALONE.fullmatch(last.strip())
    if alone is None:
        return frozenset()
    marks = _MARK.findall(before)
    index = LETTERS.index(alone[1])
    return frozenset() if marks and LETTERS.index(marks[-1]) + 1 == index else frozenset((index,))


def _concluded_options(reply_text: str, options: Sequence[str]) -> frozenset[int]:
    """Return options after phrases such as "I think B", "so it is (B)"."""
    found = frozenset[int]()
    for match in _WEAK_MARKER.finditer(reply_text):
        payload = reply_text[match.end() : match.end() + _LINE].partition("\n")[0]
        if not _is_doubted(reply_text, match):
            found |= letters(payload, options, declared=False)
    return found


def _named_options(reply_text: str, options: Sequence[str]) -> frozenset[int]:
    """Return options named as "option B" anywhere, in a sentence that rejects nothing."""
    found = frozenset[int]()
    for sentence in sentences(reply_text):
        if not _REFUTED.search(sentence) and not sentence.endswith("?"):
            for match in _NAMED.finditer(sentence):
                found |= letters(sentence[match.start() :], options, declared=False)
    return found


def _is_doubted(reply_text: str, match: re.Match[str]) -> bool:
    return _DOUBTED.search(reply_text[max(0, match.start() - _NEAR) : match.start()]) is not None


def _begins_with_list(text: str) -> bool:
    """Return whether the text begins with options one after the other, "A. red", "B. blue"."""
    first = _MARK.match(text)
    return first is not None and chr(ord(first[1]) + 1) in _MARK.findall(text)
