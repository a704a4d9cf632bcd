"""Which token, which layer, which rows: the pure functions, against tables and simple oracles."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from halp_probe.errors import InputError
from halp_probe.extraction.batching import batches, run_order, windows
from halp_probe.extraction.capture import capture_input, capture_outputs
from halp_probe.extraction.decoding import greedy_rules
from halp_probe.extraction.positions import find_positions, parse_layers, probed_layers

IMAGE = 9


@pytest.mark.parametrize(
    ("ids", "vision", "query"),
    [
        ([1, IMAGE, IMAGE, 2, 3], 2, 4),
        ([IMAGE, 5], 0, 1),
        ([1, IMAGE, 2, IMAGE, 3, 4, 4], 3, 6),
    ],
)
def test_positions(ids: list[int], vision: int, query: int) -> None:
    found = find_positions(ids, IMAGE)
    assert (found.vision_index, found.query_index) == (vision, query)
    assert (found.vision_id, found.query_id) == (IMAGE, ids[-1])


@pytest.mark.parametrize(
    ("ids", "reason"), [([1, 2], "no image token"), ([], "no image token"), ([1, IMAGE], "no question")]
)
def test_prompts_without_positions(ids: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find_positions(ids, IMAGE)


@pytest.mark.parametrize(
    ("blocks", "layers"),
    [(28, (0, 7, 14, 21, 27)), (36, (0, 9, 18, 27, 35)), (32, (0, 8, 16, 24, 31)), (4, (0, 1, 2, 3)), (1, (0,))],
)
def test_probed_layers(blocks: int, layers: tuple[int, ...]) -> None:
    assert probed_layers(blocks) == layers


def test_layers_are_parsed_or_refused() -> None:
    assert parse_layers(None, 28) == (0, 7, 14, 21, 27)
    assert parse_layers("all", 3) == (0, 1, 2)
    assert parse_layers("14, 0 7,7", 28) == (0, 7, 14)
    for text in ("28", "-1", "", "a,b"):
        with pytest.raises(InputError, match="--layers"):
            parse_layers(text, 28)


@given(st.lists(st.sampled_from("abcd")))
def test_run_order_groups_images_by_first_appearance(images: list[str]) -> None:
    order = run_order(images)
    assert sorted(order) == list(range(len(images)))
    groups = [list(rows) for _, rows in itertools.groupby(order, key=lambda row: images[row])]
    assert len(groups) == len(set(images))  # the rows of one image stand together
    assert all(rows == sorted(rows) for rows in groups)
    assert [images[rows[0]] for rows in groups] == list(dict.fromkeys(images))


@given(st.lists(st.integers(1, 30)), st.integers(1, 60))
def test_batches_keep_order_and_budget(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, lambda length: length, budget))
    assert [length for batch in made for length in batch] == lengths
    assert all(batch and (len(batch) == 1 or len(batch) * max(batch) <= budget) for batch in made)
    for batch, following in itertools.pairwise(made):  # each is as large as it may be
        grown = [*batch, following[0]]
        assert len(grown) * max(grown) > budget


def test_windows() -> None:
    assert list(windows([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


def test_capture_reads_the_named_places_and_removes_its_hooks() -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    x = torch.randn(2, 5, 4)
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([4, 0, 2])
    with capture_outputs({0: blocks[0], 2: blocks[2]}, rows, columns) as states:
        first = blocks[0](x)
        last = blocks[2](blocks[1](first))
    assert torch.equal(states[0], torch.stack([first[0, 4], first[1, 0], first[1, 2]]))
    assert torch.equal(states[2], torch.stack([last[0, 4], last[1, 0], last[1, 2]]))
    assert states[0].untyped_storage().nbytes() == 3 * 4 * 4  # a copy of the places, not a view of the whole
    with pytest.raises(RuntimeError, match="ran twice"), capture_outputs({0: blocks[0]}, rows, columns):
        blocks[0](x)
        blocks[0](x)
    with capture_input(blocks[1]) as seen:
        blocks[1](first)
    assert torch.equal(seen[0], first)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)


def test_generation_settings_that_are_not_followed_are_refused() -> None:
    from transformers import GenerationConfig

    rules = greedy_rules(GenerationConfig(eos_token_id=[3, 4], repetition_penalty=1.05), 9)
    assert (rules.end_ids, rules.repetition_penalty) == ((3, 4), 1.05)
    assert greedy_rules(GenerationConfig(), 9).end_ids == (9,)
    # What sampling would use does not matter to greedy answers.
    assert greedy_rules(GenerationConfig(do_sample=True, temperature=0.1, top_p=0.5, eos_token_id=3), None).end_ids == (
        3,
    )
    for setting in ({"no_repeat_ngram_size": 2}, {"min_new_tokens": 3}, {"num_beams": 4}, {"suppress_tokens": [1]}):
        with pytest.raises(InputError, match=f"{next(iter(setting))}.*--no-answers"):
            greedy_rules(GenerationConfig(eos_token_id=3, **setting), None)
