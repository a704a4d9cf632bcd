"""Text as the rules see it: cleaned, cut into sentences, words."""

from __future__ import annotations

import re
import unicodedata

from halp_probe.labels.echo import strip_prompt
from halp_probe.labels.json_answer import json_answer

_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛´ʼ′", "'") | dict.fromkeys("“”„‟«»″", '"') | {"\u00ad": "", "⁄": "/"})
_CONTROL = re.compile(r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2060\ufeff]")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
_MARKDOWN = re.compile(
    r"\*\*|__|`+|^\s*\#+\s+|^\s*>\s+|^\s*[-*•]\s+(?=\S)|\$|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)", re.MULTILINE
)
_WORD = r"\w+(?:[.,]\d+)*(?:(?<=\b\w)(?:\+\+|\#))?"  # "1,200", "c++", "c#"
_WRAPPED = 40  # characters in a line that may have been broken only to fit a page
_ARTICLES = frozenset(("a", "an", "the"))
_CONTRACTED = (("won't", "will not"), ("can't", "can not"), ("cannot", "can not"), ("shan't", "shall not"))
_UNQUOTED_NOT = re.compile(r"\b(is|are|was|were|do|does|did|has|have|had|could|would|should)nt\b")


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(words.split())


def plain(text: str) -> str:
    """Return the text in NFKC, with straight quotes, without control characters; single spaces, line breaks kept."""
    text = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES)
    text = re.sub(r"(?<![^\s*_`(])[–−](?=\d)", "-", text)  # a minus sign, or a dash used as one
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return re.sub(r"[^\S\n]+", " ", text).strip()


def clean(answer: str, question: str = "") -> str:
    """Return the answer without echoed prompt, thinking, JSON around it and markdown.

    A line break is left where a sentence ends.
    """
    text = strip_prompt(plain(answer), plain(question))
    text = plain(json_answer(text) or text)
    text = _MARKDOWN.sub("", _LATEX_TEXT.sub(r"\1", text))
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" *(?:\n *)+", "\n", text).strip()
    # a long line that goes on in lower case is a wrapped line, not a sentence's end
    return re.sub(rf"(?<=[\w,])(?<=[^\n]{{{_WRAPPED}}})\n(?=[a-z])", " ", text)


def bare(text: str) -> str:
    """Remove case, punctuation, articles and white space: the form that `exact` compares. Never empties a text."""
    words = re.findall(_WORD, plain(text).casefold().replace("'", "").replace("_", " "))
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(kept or words) or " ".join(plain(text).casefold().split())


def sentences(text: str) -> list[str]:
    """Split `text` at line breaks and after . ! ? (the dot of "No. 5" ends no sentence)."""
    text = re.sub(r"\bno\. *(?=\d)", "number ", text, flags=re.IGNORECASE)
    parts = (part.strip() for part in re.split(r"\n+|(?<=[.!?])[\"')\]]*\s+", text))
    return [part for part in parts if part]


def words_of(text: str) -> list[str]:
    """Return words in lower case, "isn't" as "is not", without possessive 's."""
    text = plain(text).lower()
    for short, full in _CONTRACTED:
        text = text.replace(short, full)
    text = _UNQUOTED_NOT.sub(r"\1 not", text.replace("n't", " not"))
    text = re.sub(r"'(?:s|re|ve|ll|d|m)?\b", " ", text)
    return re.findall(_WORD, text.replace("_", " "))
