"""Which token, which layer, which rows: the pure functions, against tables and simple oracles."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from halp_probe.engine.batching import batches, group_by, windows
from halp_probe.engine.capture import capture_input, capture_outputs, restrict_positions
from halp_probe.engine.decoding import _replace_padding, answer_rules
from halp_probe.engine.positions import find_positions, parse_layers, probed_layers
from halp_probe.errors import InputError
from halp_probe.models.image_entry import join_features, split_by_prompt

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
        with pytest.raises(InputError, match="`layers`"):
            parse_layers(text, 28)


@given(st.lists(st.sampled_from("abcd")))
def test_groups_stand_by_first_appearance(images: list[str]) -> None:
    groups = group_by(range(len(images)), lambda row: images[row])
    assert sorted(row for group in groups for row in group) == list(range(len(images)))
    assert [{images[row] for row in group} for group in groups] == [{image} for image in dict.fromkeys(images)]
    assert all(group == sorted(group) for group in groups)


@given(st.lists(st.integers(1, 9)), st.integers(1, 6))
def test_windows_hold_whole_groups(sizes: list[int], size: int) -> None:
    groups = [[(group, item) for item in range(count)] for group, count in enumerate(sizes)]
    made = list(windows(groups, size))
    assert [item for window in made for piece in window for item in piece] == [item for g in groups for item in g]
    for window in made:
        pieces = [[group for group, _ in piece] for piece in window]
        assert all(len(set(piece)) == 1 and len(piece) <= size for piece in pieces)
        assert sum(map(len, window[:-1])) < size
    assert all(sum(map(len, window)) >= size for window in made[:-1])
    cut = [piece for window in made for piece in window if len(piece) < size]
    assert all(piece[-1][1] + 1 == sizes[piece[0][0]] for piece in cut)  # only a group's last piece is short


@dataclass(frozen=True)
class Place:
    image_sha256: str
    prefix_tokens: int
    suffix_tokens: int

    def __len__(self) -> int:
        return self.prefix_tokens + self.suffix_tokens


def asked(batch: list[Place], share_prefix: bool) -> tuple[int, int]:
    """Tokens that are computed, and those held in the cache: counted anew."""
    longest = max(map(len, batch))
    if not share_prefix:
        return len(batch) * longest, 0
    prefix = len(list(itertools.groupby(place.image_sha256 for place in batch))) * max(p.prefix_tokens for p in batch)
    return prefix + len(batch) * max(place.suffix_tokens for place in batch), len(batch) * longest


PLACES = st.lists(st.builds(Place, st.sampled_from("abc"), st.integers(1, 30), st.integers(1, 9)))


@given(PLACES, st.integers(1, 90), st.booleans())
def test_batches_keep_order_and_budget(places: list[Place], budget: int, share_prefix: bool) -> None:
    made = list(batches(places, lambda: budget, share_prefix=share_prefix))
    assert [place for batch in made for place in batch] == places

    def fits(batch: list[Place]) -> bool:
        computed, held = asked(batch, share_prefix)
        return computed <= budget and held <= 8 * budget

    assert all(len(batch) == 1 or fits(batch) for batch in made)
    assert not any(fits([*batch, following[0]]) for batch, following in itertools.pairwise(made))  # as large as may be


def test_a_shared_prefix_counts_once() -> None:
    places = [Place(image, 30, 10) for image in "aaaaaabbbbbb"]
    assert [len(batch) for batch in batches(places, lambda: 90, share_prefix=True)] == [6, 6]
    assert [len(batch) for batch in batches(places, lambda: 90, share_prefix=False)] == [2] * 6
    held = [Place("a", 80, 1)] * 60
    assert [len(batch) for batch in batches(held, lambda: 81, share_prefix=True)] == [1] * 60
    assert [len(batch) for batch in batches(held, lambda: 100, share_prefix=True)] == [9, 9, 9, 9, 9, 9, 6]


def test_a_budget_may_shrink_on_the_way() -> None:
    budgets = iter([100, 100, 100, 10, 10])  # asked for each slot that would join a batch
    places = [Place(str(k), 5, 5) for k in range(6)]
    assert [len(batch) for batch in batches(places, lambda: next(budgets), share_prefix=False)] == [4, 1, 1]


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


def test_padding_is_no_part_of_what_a_repetition_penalty_sees() -> None:
    ids = torch.tensor([[9, 9, 3, 4], [9, 5, 9, 6]])
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    assert _replace_padding(ids, mask).tolist() == [[3, 3, 3, 4], [5, 5, 5, 6]]


@pytest.mark.parametrize("split", [True, False], ids=["an entry an image", "all images in one, as in 5.17"])
def test_features_of_images_are_selected(split: bool) -> None:
    pooled = torch.arange(12.0).reshape(6, 2).split([1, 2, 3])
    deep = [10 * torch.cat(pooled), 20 * torch.cat(pooled)]
    layers = [layer.split([1, 2, 3]) for layer in deep] if split else deep
    features = BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=layers)
    for images, tokens, taken in (([1, 1, 1], [1, 2, 3], (2, 0, 2)), ([2, 1], [3, 3], (1, 0, 1))):
        alone = split_by_prompt(features, images, tokens)
        chosen = join_features([alone[prompt] for prompt in taken])
        whole = torch.cat(pooled).split(tokens)
        expected = torch.cat([whole[prompt] for prompt in taken])
        assert torch.equal(torch.cat(list(chosen.pooler_output)), expected)
        for k, layer in enumerate(chosen.deepstack_features):
            assert torch.equal(torch.cat(list(layer)) if split else layer, 10 * (k + 1) * expected)


def test_a_module_that_returns_more_than_states_does_so_at_the_named_places_too() -> None:
    """Mixtures of experts hand out their routers' scores beside the states."""

    class Experts(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:  # type: ignore[override]
            return super().forward(x), "scores"

    torch.manual_seed(0)
    experts, x = Experts(4, 4), torch.randn(2, 5, 4)
    whole, _ = experts(x)
    rows, columns = torch.tensor([0, 1]), torch.tensor([4, 2])
    with restrict_positions(experts, rows, columns):
        few, scores = experts(x)
    assert scores == "scores" and torch.allclose(few[rows, columns], whole[rows, columns])
    assert few.shape == whole.shape and few.count_nonzero() == 8


def test_a_module_works_at_the_named_places_only() -> None:
    torch.manual_seed(0)
    feed_forward = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(2, 5, 4)
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([4, 0, 2])
    widths: list[int] = []
    counting = feed_forward[0].register_forward_hook(lambda _m, _a, output: widths.append(output.numel() // 8))
    whole = feed_forward(x)
    with restrict_positions(feed_forward, rows, columns):
        few = feed_forward(x)
    counting.remove()
    assert widths == [10, 3]
    assert torch.allclose(few[rows, columns], whole[rows, columns])
    few[rows, columns] = 0
    assert not few.any() and few.shape == whole.shape
    assert torch.equal(feed_forward(x), whole)
    with pytest.raises(IndexError), restrict_positions(feed_forward, rows + 1, columns):
        feed_forward(x)
    assert torch.equal(feed_forward(x), whole)


def test_generation_settings_that_are_not_followed_are_refused() -> None:
    from transformers import GenerationConfig

    rules = answer_rules(GenerationConfig(eos_token_id=[3, 4], repetition_penalty=1.05), 9)
    assert (rules.end_ids, rules.repetition_penalty) == ((3, 4), 1.05)
    assert answer_rules(GenerationConfig(), 9).end_ids == (9,)
    # What sampling would use does not matter to greedy answers.
    assert answer_rules(GenerationConfig(do_sample=True, temperature=0.1, top_p=0.5, eos_token_id=3), None).end_ids == (
        3,
    )
    refused = ({"no_repeat_ngram_size": 2}, {"min_new_tokens": 3}, {"num_beams": 4}, {"begin_suppress_tokens": [1]})
    equal_to_something_neutral = ({"min_new_tokens": 1}, {"min_length": 1}, {"forced_eos_token_id": 1})
    for setting in (*refused, *equal_to_something_neutral, {"forced_bos_token_id": 0}):
        with pytest.raises(InputError, match=f"{next(iter(setting))}.*`answers=False`"):
            answer_rules(GenerationConfig(eos_token_id=3, **setting), None)
