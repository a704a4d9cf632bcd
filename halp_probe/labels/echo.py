"""Cut whatever is not the answer: an echoed prompt, chat markers, turns that the model invented, its thinking."""

from __future__ import annotations

import re

from halp_probe.reply_text import without_thinking

# "<|im_start|>assistant", "[/INST]", "<start_of_turn>model", a line that is only "assistant" (ChatML decoded without
# its special tokens), "Assistant:" at a line's start ("### Assistant:" too).
_ASSISTANT = re.compile(
    r"<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<\|assistant\|>|\[/INST\]"
    r"|<start_of_turn>\s*model|^[ \t]*(?:\#+[ \t]*)?assistant[ \t]*(?::|$)",
    re.IGNORECASE | re.MULTILINE,
)
_ASSISTANT_INLINE = re.compile(r"(?<=\s)(?:Assistant|ASSISTANT):")  # only after a user's turn: else it may be prose
_USER = re.compile(
    r"<\|im_start\|>\s*user|<\|start_header_id\|>\s*user\s*<\|end_header_id\|>|<\|user\|>|\[INST\]"
    r"|<start_of_turn>\s*user|^[ \t]*(?:\#+[ \t]*)?(?:user|human)[ \t]*(?::|$)|(?<=\s)(?:User|USER|Human|HUMAN):",
    re.IGNORECASE | re.MULTILINE,
)
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:eos|bos|pad|image|end_of_turn|end_of_utterance)>|\[/?INST\]")
_ANSWER_TAG = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.IGNORECASE | re.DOTALL)


def strip_prompt(text: str, question: str) -> str:
    """Return only what the model said in answer to `question`; "" if it never got past its thinking."""
    text = _model_turn(text, question)
    text = without_thinking(text)  # never closed: cut off while thinking, so it gave no answer
    tagged = _ANSWER_TAG.findall(text)
    text = _SPECIAL_TOKEN.sub(" ", tagged[-1] if tagged else text)
    return _strip_question(text, question)


def _model_turn(text: str, question: str) -> str:
    users = [m.start() for m in _USER.finditer(text)]
    markers = [m.span() for m in _ASSISTANT.finditer(text)]
    if users:
        markers += [m.span() for m in _ASSISTANT_INLINE.finditer(text) if m.start() > users[0]]
    if not markers:
        return text[: users[0]] if users and text[: users[0]].strip() else text
    ends = sorted({end for _, end in markers})
    question_ends = _ends_of(question, text) if question.strip() else []
    before_user = text[: min(users)] if users else ""
    if question.strip() and not any(end <= ends[-1] for end in question_ends) and before_user.strip():
        return before_user  # our question is in none of the turns: the model answered and then invented a dialogue
    # a model may go on with turns of its own after its answer: the turn that counts is the one after our question
    after = [next((e for e in ends if e >= stop), None) for stop in question_ends]
    start = next((e for e in reversed(after) if e is not None), ends[-1])
    stops = [s for s in users if s >= start]
    return text[start : min(stops)] if stops else text[start:]


def _ends_of(question: str, text: str) -> list[int]:
    pattern = r"\s+".join(re.escape(word) for word in question.split())
    return [m.end() for m in re.finditer(pattern, text, re.IGNORECASE)]


def _strip_question(text: str, question: str) -> str:
    words = question.split()
    if not words:
        return text
    pattern = r"[\s\"'*_>#]*(?:(?:question|q)\s*:\s*)?" + r"\s+".join(re.escape(word) for word in words)
    found = re.match(pattern + r"(?!\w)[\s\"'*_]*", text, re.IGNORECASE)
    return text[found.end() :] if found else text
