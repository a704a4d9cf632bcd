"""Held-out images are held out everywhere; an epoch holds what its weights say, in an order that a seed fixes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.errors import InputError
from halp_probe.finetuning.mixing import mix, split
from halp_probe.finetuning.records import Conversation, LeftOut, Source, Turn

TURNS = (Turn("Why?", "So."),)


def source(name: str, size: int) -> Source:
    return Source(
        name=name,
        conversations=tuple(Conversation(source=name, key=str(k), image=None, turns=TURNS) for k in range(size)),
    )


def with_images(name: str, folder: Path, contents: list[str | None]) -> Source:
    """Conversation k shows a file of this content, under a name of its own; None: no image."""
    folder.mkdir(parents=True, exist_ok=True)
    conversations = []
    for k, content in enumerate(contents):
        path = None if content is None else folder / f"{name}_{k}.png"
        if path is not None and content is not None:
            path.write_text(content)
        conversations.append(Conversation(source=name, key=str(k), image=path, turns=TURNS))
    return Source(name=name, conversations=tuple(conversations))


def keys(part: Source) -> list[str]:
    return [each.key for each in part.conversations]


def test_a_split_parts_images_not_conversations(tmp_path: Path) -> None:
    contents = [f"picture {k % 40}" for k in range(120)] + [None] * 80
    whole = with_images("a", tmp_path, contents)
    parts = split(whole, 0.4, seed=1)
    assert sorted(map(int, keys(parts.train) + keys(parts.held_out))) == list(range(200))
    assert keys(parts.train) == sorted(keys(parts.train), key=int)
    assert keys(parts.held_out) == sorted(keys(parts.held_out), key=int)
    shown = [{contents[int(key)] for key in keys(part)} - {None} for part in (parts.train, parts.held_out)]
    assert not shown[0] & shown[1]
    text_only = sum(contents[int(key)] is None for key in keys(parts.held_out))
    assert 8 <= len(shown[1]) <= 24  # of 40: 16 ± 3 standard deviations of 3.1
    assert 19 <= text_only <= 45  # of 80: 32 ± 3 of 4.4


def test_an_image_is_held_out_in_every_source_folder_and_order(tmp_path: Path) -> None:
    """So what stage 2 is judged on was not seen in stage 1, though its sources are others."""
    contents = [f"picture {k}" for k in range(60)]
    first = with_images("captions", tmp_path / "one", contents)
    second = with_images("questions", tmp_path / "two", [*contents[::-1], *(f"more {k}" for k in range(30))])
    held = {contents[int(key)] for key in keys(split(first, 0.3, 5).held_out)}
    also = {(tmp_path / "two" / f"questions_{key}.png").read_text() for key in keys(split(second, 0.3, 5).held_out)}
    assert held == also & set(contents) and held
    shutil.move(tmp_path / "one", tmp_path / "three")
    moved = with_images("other name", tmp_path / "three", contents)
    assert keys(split(moved, 0.3, 5).held_out) == keys(
        split(with_images("captions", tmp_path, contents), 0.3, 5).held_out
    )
    assert keys(split(moved, 0.3, 6).held_out) != keys(split(moved, 0.3, 5).held_out)


def test_nothing_is_held_out_of_a_share_of_zero_and_what_was_left_out_is_told_once(tmp_path: Path) -> None:
    left_out = (LeftOut(source="a", key="x", stage="read", reason="no answer"),)
    whole = Source(
        name="a", conversations=with_images("a", tmp_path, ["p", None, "q"]).conversations, left_out=left_out
    )
    parts = split(whole, 0, 0)
    assert parts.train == whole and parts.held_out == Source(name="a", conversations=())
    with pytest.raises(InputError, match="a held-out share of 1"):
        split(whole, 1, 0)
    (tmp_path / "a_0.png").unlink()
    with pytest.raises(InputError, match=r"a_0\.png cannot be read: No such file"):
        split(whole, 0.5, 0)


def test_without_weights_everything_comes_once() -> None:
    sources = [source("a", 5), source("b", 40)]
    mixed = mix(sources, None, 3)
    everything = [each for part in sources for each in part.conversations]
    assert Counter(mixed) == Counter(everything) and mixed != everything
    assert mix(sources, None, 4) != mixed == mix(sources, None, 3)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.fractions(Fraction(1, 100), 100)), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_shares_are_those_of_the_weights(given_sources: list[tuple[int, Fraction]], seed: int) -> None:
    sources = [source(f"s{k}", size) for k, (size, _) in enumerate(given_sources)]
    weights = {f"s{k}": weight for k, (_, weight) in enumerate(given_sources)}
    mixed = mix(sources, {name: float(weight) for name, weight in weights.items()}, seed)
    total = sum(size for size, _ in given_sources)
    assert len(mixed) == total
    for part in sources:
        own = [each.key for each in mixed if each.source == part.name]
        assert abs(len(own) - total * weights[part.name] / sum(weights.values())) < 1 + 1e-9
        size = len(part.conversations)
        for start in range(0, len(own), size):  # pass by pass
            once = own[start : start + size]
            assert len(set(once)) == len(once)


def test_passes_are_shuffled_anew_and_sources_mingle() -> None:
    mixed = mix([source("a", 20), source("b", 180)], {"a": 1, "b": 1}, 0)
    own = [each.key for each in mixed if each.source == "a"]
    assert len(own) == 100 and own[:20] != own[20:40] != sorted(own[20:40])
    first_half = sum(each.source == "a" for each in mixed[:100])
    assert 30 < first_half < 70  # hypergeometric: 50 ± 3.5


def test_the_order_is_the_same_in_another_process() -> None:
    code = (
        "from test_finetuning_mixing import *; "
        "print([e.source + e.key for e in mix([source('a', 9), source('b', 30)], {'a': 1, 'b': 2}, 7)])"
    )
    expected = [e.source + e.key for e in mix([source("a", 9), source("b", 30)], {"a": 1, "b": 2}, 7)]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True, check=True
        )
        assert told.stdout.decode().strip() == str(expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "there are weights for a, but the sources are a, b"),
        ({"a": 1, "b": 1, "c": 1}, "there are weights for a, b, c, but the sources are a, b"),
        ({"a": 1, "b": 0}, "the weight of b is 0: it must be above 0"),
        ({"a": float("nan"), "b": 1}, "the weight of a is nan"),
        ({"a": float("inf"), "b": 1}, "the weight of a is inf"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mix([source("a", 2), source("b", 2)], weights, 0)


def test_sources_that_cannot_be_mixed_are_refused() -> None:
    with pytest.raises(InputError, match="b has a weight but no conversations"):
        mix([source("a", 2), source("b", 0)], {"a": 1, "b": 1}, 0)
    with pytest.raises(InputError, match=r"two sources have the same name \(a, a\)"):
        mix([source("a", 2), source("a", 2)], None, 0)
    assert len(mix([source("a", 2), source("b", 0)], None, 0)) == 2
