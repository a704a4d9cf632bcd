"""Refusals: answers that say that they cannot say."""

from __future__ import annotations

import re

_CANNOT = r"can(?:'t|not| not)"
_REFUSED = re.compile(
    rf"""
    \b i (?:'m|\ am) \ (?:sorry|unable|not\ able) \b
    | \b sorry,\ (?:but\ )? i \b | \b as\ an?\ (?:ai|language\ model) \b
    | \b i\ (?:{_CANNOT}|do(?:n't|\ not))\ (?:help|assist|answer|provide|comply|identify|verify|view
        |have\ (?:access|the\ ability|enough|sufficient)) \b
    | \b i\ (?:{_CANNOT}|do(?:n't|\ not))\ see\ (?:the|an|any|this)\ (?:image|picture|photo)s? \b
    | \b unable\ to\ (?:see|view|determine|answer|provide|identify|tell|say|confirm|verify|assist|help) \b
    | \b no\ (?:image|picture|photo)\ (?:was\ |is\ |has\ been\ )? (?:provided|attached|uploaded|given) \b
    | \b please\ (?:provide|upload|attach|share) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UNCERTAIN = re.compile(
    rf"""
    \b (?:unclear|uncertain|unsure|ambiguous|undetermined|indeterminate|inconclusive) \b
    | (?:\b not|n't)\ (?:entirely\ |completely\ |really\ |quite\ |fully\ |immediately\ |100%\ )?
        (?:clear|sure|certain|possible|obvious) \b
    | \b impossible\ to \b | \b open\ to\ interpretation \b
    | \b (?:hard|difficult|tough|challenging)\ (?:for\ me\ )? to\ (?:tell|say|determine|see|know|judge|discern|make\ out
        |count|identify|answer) \b
    | \b {_CANNOT}\ be\ (?:determined|answered|inferred|known|confirmed|ascertained|verified|established|identified|said
        |told|judged) \b
    | \b {_CANNOT}\ (?:definitively\ |really\ |reliably\ |accurately\ |conclusively\ )? (?:tell|determine|say|confirm
        |know|judge|ascertain|answer|verify|infer) \b
    | \b do(?:es)? (?:n't|\ not)\ know \b | \b no\ way\ (?:to|of)\ (?:know|tell|determin|say) \w*
    | (?:\b not|n't)\ (?:provide\ |have\ |give\ |contain\ |show\ |offer\ )? (?:enough|sufficient)
        \ (?:information|detail|context|evidence)
    | \b insufficient\ (?:information|detail|context|evidence) \b | \b no\ (?:information|idea) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_refusal(text: str) -> bool:
    """Check for a refusal ("I can't help with that") or a confession of ignorance ("it is unclear")."""
    return bool(_REFUSED.search(text) or _UNCERTAIN.search(text))
