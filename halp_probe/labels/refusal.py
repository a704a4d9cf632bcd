"""Refusals: answers that say that they cannot say, in English, Chinese, Spanish, French and German."""

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
    | \b i\ (?:must|have\ to|will\ have\ to|would|'d)\ (?:respectfully\ |politely\ |rather\ )?
        (?:decline|refuse|not\ (?:say|answer)) \b
    | \b (?:un|not\ )answerable \b | \b {_CANNOT}\ (?:be\ )? answer(?:ed)? \b
    | ^ \W* (?:n/a|not\ applicable|unsuitable(?:\ image)?|no\ answer|unknown) \W* $
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
    | \b too\ (?:\w+\ (?:and|or|to)\ )? (?:blurry|blurred|dark|small|far|distant|pixelated|low|grainy|faint|obscured
        |unclear|fuzzy) \b [^.!?]* \b (?:to|for) \b
    | \b {_CANNOT}\ (?:quite\ |clearly\ )? (?:make\ out|read|see\ clearly|recogni[sz]e|discern
        |be\ (?:read|discerned|recogni[sz]ed|made\ out))
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ABROAD = re.compile(
    r"""
    无法|不能(?:确定|判断|回答|辨认|识别)|看不清|看不出|不清楚|不知道|不确定|难以(?:确定|判断|辨认)|抱歉|对不起
    | \b no\ (?:puedo|se\ puede|es\ posible|logro|alcanzo\ a)\ (?:\w+\ )?
        (?:ver|determinar|decir|identificar|leer|responder|saber|distinguir)
    | \b lo\ siento \b | \b no\ (?:está\ claro|sé|estoy\ segur[oa]|queda\ claro) \b
    | \b imposible\ (?:de\ )? \w+r \b | \b demasiado\ (?:borros|oscur|pequeñ)[oa] \b
    | \b (?:je|on)\ ne\ (?:peux|peut|sais|parviens|vois|distingue)\ (?:pas|rien) | \b désolée? \b
    | \b impossible\ (?:de|à) \b | \b trop\ (?:flou|sombre|petit)e? \b
    | \b pas\ (?:clair|possible|certain|sûre?|visible\ clairement|lisible) \b
    | \b kann\ (?:ich\ )? (?:\w+\ ){0,4}? nicht\ (?:\w+\ )?
        (?:erkennen|sagen|bestimmen|lesen|sehen|beantwort\w+|feststellen|identifizieren)
    | \b nicht\ (?:eindeutig\ )?
        (?:erkennbar|möglich|klar|sicher|lesbar|zu\ erkennen|bestimmbar|ersichtlich) \b
    | \b ich\ weiß\ (?:es\ )? nicht \b | \b es\ tut\ mir\ leid \b | \b unmöglich \b
    | \b zu\ (?:unscharf|verschwommen|dunkel|klein) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_SHOWN = re.compile(
    r"""
    (?: \b not|n't) \ (?:clearly\ |fully\ |easily\ |directly\ |actually\ |explicitly\ )? (?:be\ )?
        (?: visible|shown|legible|readable|provided|specified|mentioned|discernible|stated|given|indicated|labell?ed
        |available|apparent|displayed|present|seen ) \b
    | \b (?:illegible|unreadable|indistinguishable|obscured|not\ in\ (?:the|this)\ (?:image|picture|photo)) \b
    | \b no\ (?:visible\ |legible\ |readable\ |clear\ )? (?:text|label|writing|indication|sign)s? \b
    | (?: \b not|n't) \ (?:show|display|contain|include|provide|specify|mention|reveal|indicate|see|find|have) \b
    | \b cut\ off \b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_refusal(text: str) -> bool:
    """Check for a refusal ("I can't help with that") or a confession of ignorance ("it is unclear")."""
    return bool(_REFUSED.search(text) or _UNCERTAIN.search(text) or _ABROAD.search(text))


def says_not_shown(text: str) -> bool:
    """Check for words that what was asked about cannot be seen ("the name is not visible").

    To a question that asks whether something is there they are an answer; to any other they are none.
    """
    return bool(_NOT_SHOWN.search(text))
