"""Words for yes and no, in English, Chinese, Spanish, French, German and others, and texts that begin with one."""

from __future__ import annotations

import re

from halp_probe.labels.normalise import bare, word_set, words_of

_YES = word_set(
    "yes true y yeah yep yup correct sí sì si oui ja sim はい да 是 是的 对 对的 有 有的 正确 存在 可以 能 会"
)
_NO = word_set(
    """
    no false n nope incorrect non nein não いいえ нет
    不是 不是的 不 没有 没 否 不对 错误 不存在 不可以 不能 不会 無 无
    """
)
_LEADING = re.compile(r"\W*(sí|si|sì|oui|non|ja|nein|sim|não|да|нет)\b\s*(?:[,.;:!—–-]|$)", re.IGNORECASE)
_LEADING_CHINESE = re.compile(
    r"[\s\"'(]*(?:答案?[::是为]*\s*)?"
    r"(是的?|对的?|有的?|正确|存在|可以|能|会|不是的?|不对|没有|没|否|不存在|不可以|不能|不会|不|无|はい|いいえ)"
    r"\s*(?:[,。.、;!]|$)"
)
_ASKED_CHINESE = re.compile(r"有(?:没有)?(?:一[只个条张辆位头匹]|任何)?([一-鿿]{1,6}?)(?:吗|么)?\s*[?？]?\s*$")
_COUNTER = r"[一二两三四五六七八九十几多\d]*[只个条张辆位头匹些]?"
_AUXILIARIES = word_set(
    "is are was were do does did has have had can could will would should isn't aren't doesn't don't can't"
)


def polarity_of(text: str) -> str | None:
    """Return "yes" or "no" if the whole text is one of their words; else None."""
    word = bare(text)
    return "yes" if word in _YES else "no" if word in _NO else None


def leading_polarity(text: str) -> str | None:
    """Return "yes" or "no" if a sentence begins with one of the two and a mark ("Yes, there is."); not "No. 5"."""
    match = re.match(r"\W*(yes|no)\b\s*(?:[,;:—–]|\.(?!\s*\d)|\s-\s)", text, re.IGNORECASE)
    return match[1].lower() if match else None


def leading_abroad(sentence: str, question: str) -> str | None:
    """Return the polarity with which a sentence in another language than English answers; None if it has none."""
    if match := _LEADING_CHINESE.match(sentence) or _LEADING.match(sentence):
        return polarity_of(match[1])
    asked = _ASKED_CHINESE.search(question)
    if asked is None:
        return None
    thing = re.escape(asked[1])
    clause = re.split(r"[,。;!?\n]", sentence)[0]
    if re.search(rf"(?:没有?|无|未见)(?:任何)?{_COUNTER}{thing}", clause):
        return "no"
    return "yes" if re.search(rf"(?<![没無无])有{_COUNTER}{thing}", clause) else None


def asks_yes_no(question: str) -> bool:
    """Return whether a question can be answered by yes or no: its last sentence begins with an auxiliary verb."""
    asked = [part for part in re.split(r"(?<=[.?!])\s+|\n", question) if part.strip()]
    asked = [part for part in asked if part.rstrip().endswith("?")] or asked
    if not asked:
        return False
    words = words_of(asked[-1])
    first = words[0] if words else ""
    return (first in _AUXILIARIES and "or" not in words) or asked[-1].rstrip(" ?？").endswith(("吗", "么"))
