"""Tokenizers that cut the known prompts into the pieces of the real ones, with their special tokens; nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3_5Tokenizer

QUESTION = ("Is", " there", " a", " person", " in", " this", " image", "?")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML_PIECES = ("system", "user", "assistant", "\n", "You", " are", " helpful", " assistant", ".", *QUESTION)
QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))


@dataclass(frozen=True, kw_only=True)
class Words:
    """Pieces and special tokens of one tokenizer."""

    pieces: tuple[str, ...]
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    adds_bos: bool = False
    spaces_as_marks: bool = False  # SentencePiece: ▁ for a space, and one in front of every text
    bytes_merged: bool = False  # of the one class that transformers puts in place of any other
    named: tuple[tuple[str, str], ...] = ()  # attributes that processors read

    def build(self) -> Any:
        if self.bytes_merged:
            vocabulary, merges = self._merged()
            return Qwen3_5Tokenizer(
                vocab=vocabulary, merges=merges, eos_token=self.eos, extra_special_tokens=list(self.special)
            )
        pieces = [piece.replace(" ", "▁") for piece in self.pieces] if self.spaces_as_marks else list(self.pieces)
        vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(["<unk>", *pieces]))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        longest_first = sorted(vocabulary, key=len, reverse=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(map(re.escape, longest_first))), "isolated")
        if self.spaces_as_marks:
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in self.special])
        if self.adds_bos and self.bos:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{self.bos} $A", special_tokens=[(self.bos, tokenizer.token_to_id(self.bos))]
            )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=self.bos,
            eos_token=self.eos,
            pad_token=self.eos,
            unk_token="<unk>",
            extra_special_tokens=dict(self.named),
        )

    def _merged(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Vocabulary and merges that put each piece together from its left end, longer pieces' spaces first."""
        pieces = sorted(
            (piece.replace(" ", "Ġ").replace("\n", "Ċ") for piece in self.pieces), key=lambda p: p[0] != "Ġ"
        )
        steps = [(piece[:end], piece[end]) for piece in pieces for end in range(1, len(piece))]
        words = dict.fromkeys([*"".join(pieces), *(left + right for left, right in steps)])
        return {word: index for index, word in enumerate(words)}, list(dict.fromkeys(steps))


QWEN = Words(pieces=CHATML_PIECES, special=(*CHATML, *QWEN_MARKS), eos="<|im_end|>")
QWEN35 = Words(
    pieces=CHATML_PIECES, special=(*CHATML, *QWEN_MARKS, "<think>", "</think>"), eos="<|im_end|>", bytes_merged=True
)
ONEVISION = Words(pieces=CHATML_PIECES, special=(*CHATML, "<image>", "<video>"), eos="<|im_end|>")
INTERNVL = Words(
    pieces=CHATML_PIECES,
    special=(*CHATML, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
    eos="<|im_end|>",
    named=(
        ("start_image_token", "<img>"),
        ("end_image_token", "</img>"),
        ("context_image_token", "<IMG_CONTEXT>"),
        ("video_token", "<video>"),
    ),
)
VICUNA = Words(
    pieces=(" US", "ER", ":", " ", "\n", *QUESTION, " A", "SS", "IST", "ANT"),
    special=("<s>", "</s>", "<image>", "<pad>"),
    eos="</s>",
    bos="<s>",
    adds_bos=True,
    spaces_as_marks=True,
)
MISTRAL = Words(
    pieces=(" [", "INST", "]", " ", "\n", "/", *QUESTION, " it"),
    special=("<s>", "</s>", "<image>", "<pad>"),
    eos="</s>",
    bos="<s>",
    adds_bos=True,
    spaces_as_marks=True,
)
GEMMA = Words(
    pieces=("user", "model", "\n", "\n\n", "\n\n\n", *QUESTION),
    special=(
        "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
        "<image_soft_token>",
    ),
    eos="<eos>",
    bos="<bos>",
    adds_bos=True,
    named=(
        ("boi_token", "<start_of_image>"),
        ("eoi_token", "<end_of_image>"),
        ("image_token", "<image_soft_token>"),
    ),
)  # fmt: skip
LLAMA3 = Words(
    pieces=("user", "assistant", "\n\n", *QUESTION),
    special=(
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
        "<|python_tag|>", "<|image|>",
    ),
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    adds_bos=True,
)  # fmt: skip
IDEFICS3 = Words(  # the places of tiles are text
    pieces=(
        "User", "Assistant", ":", "\n", "\n\n", "<", ">", "row", "_", "_col", "global", "-img", "1", "2", "3", "4",
        "5", "6", *QUESTION,
    ),
    special=("<|begin_of_text|>", "<|end_of_text|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
    eos="<|end_of_text|>",
    bos="<|begin_of_text|>",
    adds_bos=True,
)  # fmt: skip
SMOLVLM = Words(  # the places of tiles are tokens
    pieces=("User", "Ass", "istant", ":", "\n", "\n\n", *QUESTION),
    special=(*CHATML, "<global-img>", *ROWS, "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
    eos="<|im_end|>",
    bos="<|im_start|>",
)
