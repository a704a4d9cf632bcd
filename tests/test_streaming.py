"""A streamed answer is the whole one: its text in pieces that stand, its tokens each from one call of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import single_inputs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny.parts import gemma_tokenizer, tiny_tokenizer
from tiny_models import TINY, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.streaming import answer_text, pieces
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample

pytestmark = pytest.mark.slow

NEW_TOKENS = 6
LOST = "\N{REPLACEMENT CHARACTER}"
TEXT = st.text(st.sampled_from("Is a. red?\n'é½日🙂👩‍👩‍👧 ")) | st.text()


def word_pieces() -> Any:
    """A tokenizer that takes out spaces before punctuation, so that a later token changes what stood there."""
    words = ["[UNK]", "[SEP]", *".?!,'", "a", "do", "red", "n", "t", "s", "ve", "##ly"]
    backend = Tokenizer(models.WordPiece({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", sep_token="[SEP]", clean_up_tokenization_spaces=True
    )


TOKENIZERS = {"byte level": tiny_tokenizer("<odd>"), "byte tokens": gemma_tokenizer({}), "word pieces": word_pieces()}
KINDS = tuple(TOKENIZERS)


def assert_streams(tokenizer: Any, ids: list[int]) -> list[str]:
    found = list(pieces(tokenizer, iter(ids)))
    whole = tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "".join(found) == whole and all(found)
    assert not any(piece.endswith(LOST) for piece in found[:-1])
    return found


@given(st.sampled_from(KINDS), st.data())
def test_pieces_of_any_tokens_join_to_the_whole(kind: str, data: st.DataObject) -> None:
    """Of any tokens at all: halves of characters, special tokens between them, a space at the end."""
    tokenizer = TOKENIZERS[kind]
    assert_streams(tokenizer, data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=12)))


@given(st.sampled_from(KINDS[:2]), TEXT)
def test_no_piece_holds_half_a_character(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if LOST not in (whole := answer_text(tokenizer, ids)):
        found = assert_streams(tokenizer, ids)
        assert not any(LOST in piece for piece in found)
        assert all(whole.startswith("".join(found[:k])) for k in range(len(found)))


@given(
    st.lists(st.integers(0, 255).map(lambda value: [value]) | st.sampled_from([[*b"\xe2\x82\xac"], [256]]), max_size=8)
)
def test_so_it_is_with_any_bytes(runs: list[list[int]]) -> None:
    """Gemma's tokenizer reads a run of bytes as a whole, across special tokens: one that is no text spoils all."""
    tokenizer = TOKENIZERS["byte tokens"]
    names = ["<eos>" if value == 256 else f"<0x{value:02X}>" for run in runs for value in run]
    assert_streams(tokenizer, tokenizer.convert_tokens_to_ids(names))


def test_characters_of_several_tokens_come_at_once() -> None:
    for tokenizer in (TOKENIZERS["byte level"], TOKENIZERS["byte tokens"]):
        ids = tokenizer("a 日本🙂 b", add_special_tokens=False).input_ids
        assert len(ids) > len("a 日本🙂 b")
        found = assert_streams(tokenizer, ids)
        assert found[0].strip() == "a" and {"日", "本"} & set("".join(found[1:]))
    assert assert_streams(TOKENIZERS["word pieces"], [7, 8, 10, 6, 11, 9, 2]) == ["a", " do", "n't red."]


def test_text_comes_as_soon_as_it_stands() -> None:
    """Words of the vocabulary lag by no token, but for space that may be the last."""
    tokenizer = TOKENIZERS["byte level"]
    ids, fed = tokenizer("Is there a red circle? No.\n\nYes.", add_special_tokens=False).input_ids, []

    def tokens() -> Iterator[int]:
        for token in ids:
            fed.append(token)
            yield token

    shown = ""
    for piece in pieces(tokenizer, tokens()):
        shown += piece
        assert shown == tokenizer.decode(fed).strip()
    assert fed == ids


def test_special_tokens_are_not_shown() -> None:
    tokenizer = TOKENIZERS["byte level"]
    ids = tokenizer("Yes<|im_end|> no<odd>.<|endoftext|>").input_ids
    assert set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<odd>", "<|endoftext|>"])) <= set(ids)
    assert "".join(assert_streams(tokenizer, ids)) == "Yes no."
    assert list(pieces(tokenizer, [])) == list(pieces(tokenizer, ids[-1:])) == []


def questions(loaded: LoadedModel) -> list[Prompt]:
    """Two on one picture, one of which goes on a conversation, and one on another."""
    rng, prompter = np.random.default_rng(3), Prompter(checkpoint=loaded.checkpoint)
    pictures = [
        LoadedImage(Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)), str(size))
        for size in ((112, 112), (130, 70))
    ]
    earlier = (("Is there a red circle?", "no"), ("How many?", "2"))
    asked = [(0, "How many?", ()), (0, "What colour is it?", earlier), (1, "Is there a red circle?", ())]
    return [
        prompter.prompt(
            Sample(question_id=str(k), image_id="i", question=text, answer="", history=history), pictures[picture]
        )
        for k, (picture, text, history) in enumerate(asked)
    ]


@pytest.mark.parametrize("name", TINY)
def test_answers_that_wait_for_each_other_are_those_of_generate(name: str) -> None:
    """Begun together, then a token of each in turns: nothing that the model keeps of the last prompt shows."""
    loaded = tiny_model(name)
    engine, prompts = Engine(loaded, CaptureSpec((3,), NEW_TOKENS)), questions(loaded)
    begun = [engine.begin([prompt]) for prompt in prompts]
    tokens = list(zip_longest(*(one.steps for one in begun)))  # in turns
    for k, prompt in enumerate(prompts):
        inputs = single_inputs(loaded, prompt, TINY[name])
        alone = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0, len(prompt) :]
        assert [token for step in tokens if step[k] for token in step[k].tokens] == alone.tolist()
    assert len(tokens) > 1


def test_steps_of_a_batch_are_its_answers() -> None:
    """Also where rows end at several steps; states, confidence and log-probabilities are those of `compute`."""
    loaded = tiny_model("qwen2_5_vl")
    prompts, config = questions(loaded), loaded.model.generation_config
    config.eos_token_id = []
    engine = Engine(loaded, CaptureSpec((3,), NEW_TOKENS), share_prefix=True)
    config.eos_token_id = [engine.compute(prompts).answers[0][2]]
    engine = Engine(loaded, CaptureSpec((3,), NEW_TOKENS), share_prefix=True)
    computed, begun = engine.compute(prompts), engine.begin(prompts)
    assert len({len(answer) for answer in computed.answers}) > 1
    answers: list[list[int]] = [[] for _ in prompts]
    logprobs = np.zeros(len(prompts))
    for step in begun.steps:
        for row, token, logprob in zip(step.rows, step.tokens, step.logprobs.tolist(), strict=True):
            answers[row].append(token)
            logprobs[row] += logprob
    assert answers == computed.answers
    assert logprobs == pytest.approx(computed.readings.answer_logprob, abs=1e-5)
    for name, array in asdict(replace(begun.computed.readings, answer_logprob=None)).items():
        assert array is None or np.array_equal(array, getattr(computed.readings, name)), name
    assert begun.computed.answers == [[], [], []] and not any(begun.computed.finished)


def test_a_token_is_computed_when_it_is_asked_for() -> None:
    """One call of the decoder over the prompt, then one a token; none runs twice, and the last token needs none."""
    loaded, lengths = tiny_model("llava"), []
    (prompt, *_), engine = questions(loaded), Engine(loaded, CaptureSpec((3,), NEW_TOKENS))
    block = loaded.checkpoint.family.blocks(loaded.model)[0]
    hook = block.register_forward_hook(lambda _module, args, _output: lengths.append(args[0].shape[1]))
    try:
        begun = engine.begin([prompt])
        assert lengths == [len(prompt)]
        for k, _step in enumerate(begun.steps):
            assert lengths == [len(prompt)] + [1] * k
        assert k == NEW_TOKENS - 1 and next(begun.steps, None) is None and len(lengths) == NEW_TOKENS
        silent = Engine(loaded, CaptureSpec((3,), 0)).begin([prompt])
        assert next(silent.steps, None) is None and len(lengths) == NEW_TOKENS + 1
    finally:
        hook.remove()


def test_streaming_computes_no_gradients() -> None:
    loaded = tiny_model("llava")
    begun = Engine(loaded, CaptureSpec((3,), NEW_TOKENS)).begin(questions(loaded)[:1])
    with torch.enable_grad():
        assert not any(step.logprobs.requires_grad for step in begun.steps)
        assert torch.is_grad_enabled()


def test_a_shard_holds_no_question_with_earlier_turns() -> None:
    from halp_probe.shards.columns import from_captured

    loaded = tiny_model("llava")
    captured = Engine(loaded, CaptureSpec((3,), 0)).run(questions(loaded))
    assert from_captured([captured[0], captured[2]]).question_ids == ["0", "2"]
    with pytest.raises(InputError, match="question '1' has earlier turns"):
        from_captured(captured)
