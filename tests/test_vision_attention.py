"""Packed vision attention equals transformers' own loop over chunks, and leaves every other attention alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from family_proof import QUESTIONS, SIZES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_models import tiny_model
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter
from halp_probe.models import vision_attention
from halp_probe.models.families import FAMILIES
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.models.patch_projection import flatten_patch_projection
from halp_probe.models.vision_attention import BY_LENGTH, attend_by_length, attend_chunks, pack_vision_attention
from halp_probe.records import CaptureSpec, Sample

PACKED = tuple(name for name, family in FAMILIES.items() if family.packed_tower is not None)
QWEN = tuple(name for name in PACKED if FAMILIES[name].patch_projection is not None)
GRIDS = {  # patches (time, height, width) of the images of one batch; a window of the tiny Qwen2.5-VL is 4 x 4 patches
    "one image": [[1, 8, 8]],
    "smaller edge windows": [[1, 10, 14]],
    "one size, twice": [[1, 8, 12], [1, 8, 12]],
    "a size that comes back": [[1, 10, 14], [1, 4, 6], [1, 10, 14], [1, 2, 2], [1, 8, 8]],
    "a video": [[3, 6, 10], [1, 4, 4]],
}


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], scaling: float) -> torch.Tensor:
    """Softmax attention by its formula, a chunk and a head at a time, in float64; all are [T, H, D]."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    start = 0
    for n in lengths:
        for head in range(q.shape[1]):
            a, b, c = (tensor[start : start + n, head].double().cpu() for tensor in (q, k, v))
            out[start : start + n, head] = (a @ b.T * scaling).softmax(-1) @ c
        start += n
    return out


def packed_states(lengths: list[int], heads: int, width: int, seed: int = 0, **kind: Any) -> list[torch.Tensor]:
    """Query, key and value [T, H, D]; the value is a strided view, as the towers' is."""
    torch.manual_seed(seed)
    qkv = torch.randn(sum(lengths), 3, heads, width).to(**kind) if kind else torch.randn(sum(lengths), 3, heads, width)
    q, k, v = qkv.unbind(1)
    return [q.contiguous(), k.contiguous(), v]


def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: list[int], **more: Any) -> torch.Tensor:
    """`attend_by_length` as a tower calls it; the output is [T, H, D]."""
    cu_seqlens = F.pad(torch.tensor(lengths, device=q.device).cumsum(0, dtype=torch.int32), (1, 0))
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
    arguments = {
        "attention_mask": None,
        "scaling": q.shape[-1] ** -0.5,
        "dropout": 0.0,
        "cu_seq_lens_q": cu_seqlens,
        "cu_seq_lens_k": cu_seqlens,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "is_causal": False,
        **more,
    }
    return attend_by_length(torch.nn.Module(), query, key, value, **arguments)[0][0]


@contextmanager
def counted_sdpa() -> Iterator[mock.Mock]:
    with mock.patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as counter:
        yield counter


def tower_of(loaded: LoadedModel) -> Any:
    return loaded.model.get_submodule(loaded.checkpoint.family.packed_tower)


def see(tower: Any, grids: list[list[int]]) -> Any:
    config = tower.config
    width = config.in_channels * config.temporal_patch_size * config.patch_size**2
    grid = torch.tensor(grids)
    pixels = torch.randn(int(grid.prod(1).sum()), width, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return tower(pixels.to(tower.device), grid_thw=grid.to(tower.device))


def assert_close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-6) -> None:
    """To `tolerance` of the reference's largest value."""
    assert ours.shape == reference.shape
    assert (ours.double().cpu() - reference.double().cpu()).abs().max() <= tolerance * reference.abs().max()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 40), st.sampled_from([4, 16])), min_size=1, max_size=24),
    heads=st.integers(1, 3),
    width=st.sampled_from([4, 10, 16]),
    seed=st.integers(0, 9),
)
def test_chunks_equal_the_formula(lengths: list[int], heads: int, width: int, seed: int) -> None:
    q, k, v = packed_states(lengths, heads, width, seed)
    with counted_sdpa() as counter:
        ours = call(q, k, v, lengths)
    assert_close(ours, naive(q, k, v, lengths, width**-0.5))
    assert counter.call_count == len(set(lengths))


def test_another_scaling_is_kept() -> None:
    q, k, v = packed_states([3, 5, 3], 2, 8)
    assert_close(call(q, k, v, [3, 5, 3], scaling=0.7), naive(q, k, v, [3, 5, 3], 0.7))


def test_lengths_that_miss_patches_are_an_error() -> None:
    q, k, v = packed_states([3, 5], 2, 8)
    with pytest.raises(RuntimeError, match="split"):
        attend_chunks(q, k, v, [3, 4], 1.0)


@pytest.mark.parametrize("what", [{"attention_mask": torch.ones(1)}, {"is_causal": True}, {"dropout": 0.1}])
def test_what_it_cannot_do_is_refused(what: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match="no mask, no causal attention, no dropout"):
        call(*packed_states([3, 5], 2, 8), [3, 5], **what)


@pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("name", QWEN)
def test_packed_tower_equals_the_loop(name: str, grids: list[list[int]]) -> None:
    loaded = tiny_model(name)
    if name.startswith("glm"):  # its tower takes a video's frames as pictures
        grids = [[1, *size] for frames, *size in grids for _ in range(frames)]
    loop = see(tower_of(loaded), grids)
    pack_vision_attention(loaded.model, FAMILIES[name])
    packed = see(tower_of(loaded), grids)
    assert_close(packed.last_hidden_state, loop.last_hidden_state)
    assert_close(packed.pooler_output, loop.pooler_output)


def test_one_call_for_each_distinct_length() -> None:
    """Three blocks, one of them with full attention: chunks of the loop against lengths, counted by hand."""
    loaded = tiny_model("qwen2_5_vl")
    grids = [[1, 10, 14], [1, 8, 8], [1, 10, 14]]
    # windows of 10 x 14 patches: 2 x 3 of 16, 2 of 4 x 2, 3 of 2 x 4, 1 of 2 x 2; of 8 x 8 patches: 4 of 16
    windows, window_lengths, images, image_lengths = 12 + 4 + 12, 3, 3, 2
    with counted_sdpa() as counter:
        see(tower_of(loaded), grids)
    assert counter.call_count == 2 * windows + images
    pack_vision_attention(loaded.model, FAMILIES["qwen2_5_vl"])
    with counted_sdpa() as counter:
        see(tower_of(loaded), grids)
    assert counter.call_count == 2 * window_lengths + image_lengths


@pytest.mark.parametrize("name", QWEN)
def test_lengths_are_read_once_a_forward_and_not_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model(name)
    pack_vision_attention(loaded.model, FAMILIES[name])
    kinds = 2 if hasattr(tower_of(loaded).config, "window_size") else 1  # windows and images, or images alone
    reads, diff = [], torch.Tensor.diff
    monkeypatch.setattr(torch.Tensor, "diff", lambda tensor: (reads.append(len(tensor)), diff(tensor))[1])
    see(tower_of(loaded), GRIDS["smaller edge windows"])
    assert len(reads) == kinds
    assert not vision_attention._lengths_cache


@pytest.mark.parametrize("name", QWEN)
def test_only_the_vision_tower_is_switched(name: str) -> None:
    loaded = tiny_model(name)
    pack_vision_attention(loaded.model, FAMILIES[name])
    model = loaded.model
    assert tower_of(loaded).config._attn_implementation == BY_LENGTH
    assert {block.attn.config._attn_implementation for block in tower_of(loaded).blocks} == {BY_LENGTH}
    assert model.config._attn_implementation == model.config.text_config._attn_implementation == "sdpa"
    assert model.model.language_model.config._attn_implementation == "sdpa"
    blocks = model.model.language_model.layers
    assert {block.self_attn.config._attn_implementation for block in blocks if hasattr(block, "self_attn")} == {"sdpa"}


@pytest.mark.parametrize("asked", ["eager", "flash_attention_2"])
def test_an_attention_that_was_asked_for_stays(asked: str) -> None:
    loaded = tiny_model("qwen2_5_vl")
    tower_of(loaded).config._attn_implementation = asked
    pack_vision_attention(loaded.model, FAMILIES["qwen2_5_vl"])
    assert tower_of(loaded).config._attn_implementation == asked


def test_a_tower_without_chunks_stays() -> None:
    loaded = tiny_model("llava")
    pack_vision_attention(loaded.model, FAMILIES["llava"])
    assert loaded.model.model.vision_tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", PACKED)
def test_captured_with_packing_equals_captured_without(name: str) -> None:
    loaded = tiny_model(name)
    prompter = Prompter(checkpoint=loaded.checkpoint)
    pictures = [Image.radial_gradient("L").convert("RGB").rotate(20 * k).resize(size) for k, size in enumerate(SIZES)]
    prompts = [
        prompter.prompt(
            Sample(question_id=str(k), image_id="", question=question, answer=""), LoadedImage(picture, str(k))
        )
        for k, (question, picture) in enumerate(zip(QUESTIONS, pictures, strict=True))
    ]
    engine = Engine(loaded, CaptureSpec((0, 3), max_new_tokens=4))
    loop = engine.run(prompts)
    pack_vision_attention(loaded.model, loaded.checkpoint.family)
    for ours, reference in zip(engine.run(prompts), loop, strict=True):
        for vector, expected in [
            (ours.vision_encoder, reference.vision_encoder),
            (ours.vision_only, reference.vision_only),
            (ours.vision_token[3], reference.vision_token[3]),
            (ours.query_token[3], reference.query_token[3]),
        ]:
            assert_close(torch.from_numpy(vector), torch.from_numpy(expected), 1e-5)
        assert ours.answer == reference.answer


@pytest.mark.parametrize(("asked", "expected"), [(None, BY_LENGTH), ("eager", "eager")])
def test_a_loaded_model_is_packed_unless_another_attention_is_asked_for(asked: str | None, expected: str) -> None:
    loaded = load_weights(open_checkpoint("shapes"), device="cpu", attn_implementation=asked)
    assert tower_of(loaded).config._attn_implementation == expected


def test_a_packed_model_can_be_copied_and_saved(tmp_path: Any) -> None:
    loaded = tiny_model("qwen2_5_vl")
    pack_vision_attention(loaded.model, loaded.checkpoint.family)
    expected = see(tower_of(loaded), GRIDS["smaller edge windows"]).pooler_output
    twin = copy.deepcopy(loaded.model)
    assert torch.equal(see(twin.model.visual, GRIDS["smaller edge windows"]).pooler_output, expected)
    loaded.model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert again.model.visual.config._attn_implementation == "sdpa"
    assert_close(see(again.model.visual, GRIDS["smaller edge windows"]).pooler_output, expected)


gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
LENGTHS = [64, 64, 32, 64, 16, 1, 200, 64, 1564]


@pytest.mark.parametrize(
    ("dtype", "width", "tolerance"),
    [
        pytest.param(dtype, width, tolerance, marks=gpu)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2))
        for width in (40, 64, 72, 80, 100)  # 100 is no multiple of 8: not for the flash kernel
    ],
)
def test_on_cuda(dtype: torch.dtype, width: int, tolerance: float) -> None:
    q, k, v = packed_states(LENGTHS, 4, width, device="cuda", dtype=dtype)
    assert_close(call(q, k, v, LENGTHS), naive(q, k, v, LENGTHS, width**-0.5), tolerance)


@pytest.mark.parametrize("dtype", [pytest.param(dtype, marks=gpu) for dtype in (torch.float16, torch.bfloat16)])
def test_half_precision_on_cuda_needs_no_sdpa(dtype: torch.dtype) -> None:
    """One kernel for all chunks, where torch and the GPU have it."""
    if vision_attention.varlen is None or torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("torch before 2.10, or a GPU before Ampere")
    q, k, v = packed_states(LENGTHS, 4, 80, device="cuda", dtype=dtype)
    with counted_sdpa() as counter:
        call(q, k, v, LENGTHS)
    assert counter.call_count == 0


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in QWEN])
def test_packed_tower_equals_the_loop_on_cuda(name: str) -> None:
    loaded = tiny_model(name)
    tower = tower_of(loaded).to("cuda")
    loop = see(tower, GRIDS["a size that comes back"])
    pack_vision_attention(loaded.model, FAMILIES[name])
    assert_close(see(tower, GRIDS["a size that comes back"]).pooler_output, loop.pooler_output, 1e-4)


@pytest.mark.parametrize("name", QWEN)
def test_patches_are_projected_as_by_the_convolution(name: str) -> None:
    loaded = tiny_model(name)
    family, model = loaded.checkpoint.family, loaded.model.double()  # sums of 1536 products: float32 would hide much
    convolution = model.get_submodule(family.patch_projection)
    assert isinstance(convolution, torch.nn.Conv3d)
    patches = torch.randn(11, *convolution.weight.shape[1:], dtype=torch.float64)
    with torch.no_grad():
        expected = convolution(patches).flatten(1)
        names = list(model.state_dict())
        flatten_patch_projection(model, family)
        projection = model.get_submodule(family.patch_projection)
        assert not isinstance(projection, torch.nn.Conv3d)
        assert (projection(patches) - expected).abs().max() <= 1e-12 * expected.abs().max()
        assert list(model.state_dict()) == names
        with pytest.raises(ValueError, match="kernel's size"):
            projection(torch.randn(3, 3, 2, 28, 28, dtype=torch.float64))


def test_a_family_without_a_convolution_keeps_its_own() -> None:
    loaded = tiny_model("llava")
    before = list(map(type, loaded.model.modules()))
    flatten_patch_projection(loaded.model, loaded.checkpoint.family)
    assert list(map(type, loaded.model.modules())) == before
