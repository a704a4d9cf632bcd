"""The shard format: what is written is what is read, by column, by question, and as the HALP authors read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_data import ATTRIBUTES, columns, write_group_per_question

from halp_probe.errors import InputError
from halp_probe.shards.names import escape, model_slug, part_number, shard_name, unescape
from halp_probe.shards.reader import ShardError, open_shards, read_columns
from halp_probe.shards.validation import problems
from halp_probe.shards.writer import write_shard

ODD_IDS = ("plain", "with/slash", "with space", "日本語", ".", "..", "_columns", "100%", "%2F", "a/b/../c", "é")
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / shard_name("qwen25vl_7b", 1)
    write_shard(path, columns(ODD_IDS), ATTRIBUTES)
    return path


def test_columns_come_back(shard: Path) -> None:
    data, back = columns(ODD_IDS), read_columns(shard)
    assert back.texts == data.texts
    assert all(np.array_equal(back.numbers[name], data.numbers[name]) for name in data.numbers)
    assert back.vectors.keys() == data.vectors.keys()
    assert all(np.array_equal(back.vectors[name], data.vectors[name]) for name in data.vectors)


def test_the_question_view_is_what_halp_scripts_read(shard: Path) -> None:
    data = columns(ODD_IDS)
    with h5py.File(shard, "r") as f:
        keys = list(f.keys())
        assert [unescape(key) for key in keys[:-1]] == list(ODD_IDS) and keys[-1] == "_columns"
        assert f.attrs["num_samples"] == len(ODD_IDS)
        for row, key in enumerate(keys[:-1]):
            vector = f[key]["query_token_representation"]["layer_7"][:]
            assert np.array_equal(vector, data.vectors["query_token_representation/layer_7"][row])
            assert np.array_equal(
                f[key]["vision_only_representation"][:], data.vectors["vision_only_representation"][row]
            )
            assert f[key]["question"][()].decode() == data.texts["question"][row]
            assert f[key]["answer"].asstr()[()] == data.texts["answer"][row]
            assert f[key]["ground_truth_answer"].asstr()[()] == data.texts["ground_truth_answer"][row]
            assert f[key]["image_id"].asstr()[()] == data.texts["image_id"][row]
            assert list(f[key]) == [
                *("question", "image_id", "answer", "ground_truth_answer"),
                *("vision_only_representation", "vision_token_representation", "query_token_representation"),
            ]
    assert problems(shard) == []


def test_the_question_view_survives_a_move(shard: Path, tmp_path: Path) -> None:
    """The view's source is the file itself: elsewhere, under another name, it must not read as zeros."""
    moved = shard.rename(tmp_path / "renamed.h5")
    with h5py.File(moved, "r") as f:
        assert np.any(f["plain"]["query_token_representation/layer_0"][:] != 0)
        assert f["plain"]["query_token_representation/layer_0"].virtual_sources()[0].file_name == "."


def test_the_question_view_costs_at_most_15_percent(tmp_path: Path) -> None:
    """At the width of Qwen2.5-VL-7B and eleven arrays by question."""
    data = columns([f"question_{k}" for k in range(200)], width=3584, layers=(0, 7, 14, 21, 27))
    sizes = {}
    for view in (False, True):
        write_shard(tmp_path / f"{view}.h5", data, ATTRIBUTES, question_view=view)
        sizes[view] = (tmp_path / f"{view}.h5").stat().st_size
    assert sizes[False] < sizes[True] <= 1.15 * sizes[False]


@given(NAMES)
def test_escaping_is_reversible_and_safe(text: str) -> None:
    name = escape(text)
    assert unescape(name) == text
    assert "/" not in name and name not in (".", "..", "_columns")


@given(st.lists(NAMES, unique=True))
def test_escaping_keeps_ids_apart(ids: list[str]) -> None:
    assert len({escape(text) for text in ids}) == len(ids)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        escape(name)


def test_older_hdf5_can_read_the_question_view(shard: Path) -> None:
    """HDF5 2.0 may write a second version of virtual mappings, which no earlier library reads; the first starts so."""
    one_mapping_in_this_file = b"\x00" + (1).to_bytes(8, "little") + b".\x00/_columns/"
    assert shard.read_bytes().count(one_mapping_in_this_file) == len(ODD_IDS) * 5


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen25vl_7b"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3vl_8b"),
        ("llava-hf/llava-1.5-7b-hf", "llava15_7b"),
        ("shapes", "shapes"),
        ("/some/folder/My Checkpoint/", "mycheckpoint"),
    ],
)
def test_slugs(model: str, slug: str) -> None:
    assert model_slug(model) == slug
    assert part_number(shard_name(slug, 12)) == 12


def test_half_precision_stores(tmp_path: Path) -> None:
    data = columns(["a", "b"])
    for dtype, tolerance in (("float16", 2**-11), ("bfloat16", 2**-8)):
        path = tmp_path / f"{dtype}.h5"
        write_shard(path, data, ATTRIBUTES, store_dtype=dtype, question_view=dtype == "float16")
        back = open_shards(path)
        assert problems(path) == []
        for name in back.representations:
            assert back.vectors(name).dtype == np.float32
            np.testing.assert_allclose(back.vectors(name), data.vectors[name], rtol=tolerance)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bfloat16_rounds_as_torch_does(value: float) -> None:
    import torch

    from halp_probe.shards.writer import _bfloat16_bits

    bits = _bfloat16_bits(np.array([[value]], dtype=np.float32))
    ours = (bits.astype(np.uint32) << 16).view(np.float32)[0, 0]
    assert ours == torch.tensor(value, dtype=torch.float32).to(torch.bfloat16).float().item()


def test_float16_overflow_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    data = columns(["a"])
    data.vectors["vision_only_representation"][0, 3] = 1e6
    with pytest.raises(InputError, match="1 values of vision_only_representation overflow float16"):
        write_shard(tmp_path / "x.h5", data, ATTRIBUTES, store_dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_needs_columns_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`question_view=False`"):
        write_shard(tmp_path / "x.h5", columns(["a"]), ATTRIBUTES, store_dtype="bfloat16")


def test_a_folder_reads_as_one_in_the_order_of_parts(tmp_path: Path) -> None:
    for part in (10, 2, 1):
        ids = [f"{part}-{k}" for k in range(part)]
        write_shard(tmp_path / shard_name("m", part), columns(ids, seed=part), ATTRIBUTES, question_view=part != 2)
    shards = open_shards(tmp_path)
    assert shards.counts == (1, 2, 10)
    assert shards.question_ids[:3] == ("1-0", "2-0", "2-1")
    assert shards.text("question_id") == list(shards.question_ids)
    expected = np.concatenate(
        [
            columns([f"{p}-{k}" for k in range(p)], seed=p).vectors["query_token_representation/layer_7"]
            for p in (1, 2, 10)
        ]
    )
    assert np.array_equal(shards.vectors("query_token_representation/layer_7"), expected)
    assert shards.has("category") and not shards.has("nothing")


def test_files_of_one_folder_may_differ_in_dtype_and_in_what_they_hold(tmp_path: Path) -> None:
    """Stored as float32, float16, bfloat16; the third without a layer, the fourth without a row."""
    blocks = [columns([f"{part}-{k}" for k in range(3)], seed=part) for part in range(3)]
    blocks[2].vectors.pop("query_token_representation/layer_7")
    for part, dtype in enumerate(("float32", "float16", "bfloat16")):
        path = tmp_path / shard_name("m", part)
        write_shard(path, blocks[part], ATTRIBUTES, store_dtype=dtype, question_view=False)
    write_shard(tmp_path / shard_name("m", 3), columns([]), ATTRIBUTES, question_view=False)
    shards = open_shards(tmp_path)
    vectors = shards.vectors("query_token_representation/layer_7")
    assert vectors.dtype == np.float32 and np.isnan(vectors[6:]).all()
    expected = np.concatenate([block.vectors["query_token_representation/layer_7"] for block in blocks[:2]])
    np.testing.assert_allclose(vectors[:6], expected, rtol=2**-11)
    everywhere = np.concatenate([block.vectors["vision_only_representation"] for block in blocks])
    np.testing.assert_allclose(shards.vectors("vision_only_representation"), everywhere, rtol=2**-8)


def test_a_column_with_too_few_rows_is_named(shard: Path) -> None:
    """Read as it stands, it would shift the rows of all later files."""
    with h5py.File(shard, "r+") as file:
        vectors = file["_columns/vision_only_representation"][1:]
        del file["_columns/vision_only_representation"]
        file["_columns/vision_only_representation"] = vectors
    with pytest.raises(ShardError, match=r"part_001\.h5: _columns/vision_only_representation has shape \(10, 8\)"):
        open_shards(shard).vectors("vision_only_representation")


def test_the_same_id_in_two_files_is_refused(tmp_path: Path) -> None:
    for part in (1, 2):
        write_shard(tmp_path / shard_name("m", part), columns(["same"]), ATTRIBUTES)
    with pytest.raises(ShardError, match=r"'same' is in m_embeddings_part_001\.h5 and in m_embeddings_part_002\.h5"):
        open_shards(tmp_path)


@pytest.mark.parametrize("name", ["revision", "adapters", "quantization", "intervention", "max_pixels"])
def test_files_of_other_states_are_no_folder(name: str, tmp_path: Path) -> None:
    """They would all pass for what the first one says; what says nothing was of none."""
    write_shard(tmp_path / shard_name("m", 1), columns(["q0"]), ATTRIBUTES)
    write_shard(tmp_path / shard_name("m", 2), columns(["q1"]), {**ATTRIBUTES, "device": "elsewhere"})
    assert open_shards(tmp_path).question_ids == ("q0", "q1")
    write_shard(tmp_path / shard_name("m", 3), columns(["q2"]), {**ATTRIBUTES, name: "another"})
    with pytest.raises(ShardError, match=rf"part_001.h5 and .*part_003.h5 hold .*: {name} is .* and 'another' in the"):
        open_shards(tmp_path)


def test_group_per_question_files_are_read(tmp_path: Path) -> None:
    data = columns(["q2", "q1", "q10"])
    write_group_per_question(tmp_path / "halp.h5", data)
    shards = open_shards(tmp_path)
    assert sorted(shards.question_ids) == ["q1", "q10", "q2"]
    row = [data.question_ids.index(question_id) for question_id in shards.question_ids]
    for name in shards.representations:
        assert np.array_equal(shards.vectors(name), data.vectors[name][row])
    assert shards.text("answer") == [data.texts["answer"][k] for k in row]
    assert "query_token_representation/layer_7" in shards.representations
    assert not shards.has("image_sha256") and not shards.has("first_token_entropy")
    assert problems(tmp_path / "halp.h5") == []


def test_a_question_without_a_vector_reads_as_nan(tmp_path: Path) -> None:
    write_group_per_question(tmp_path / "halp.h5", columns(["a", "b"]))
    with h5py.File(tmp_path / "halp.h5", "r+") as file:
        del file["b/query_token_representation/layer_7"]
    vectors = open_shards(tmp_path).vectors("query_token_representation/layer_7")
    assert np.isfinite(vectors[0]).all() and np.isnan(vectors[1]).all()


def test_questions_of_different_widths_are_named(tmp_path: Path) -> None:
    write_group_per_question(tmp_path / "halp.h5", columns(["a", "b"]))
    with h5py.File(tmp_path / "halp.h5", "r+") as file:
        del file["b/vision_only_representation"]
        file["b/vision_only_representation"] = np.zeros(3, dtype=np.float32)
    with pytest.raises(ShardError, match=r"halp\.h5: b/vision_only_representation does not have the 8 values"):
        open_shards(tmp_path).vectors("vision_only_representation")


def test_files_without_a_representation_read_as_nan_wherever_they_stand(tmp_path: Path) -> None:
    layers = ((0,), (0, 7), (0,), (0, 7))
    parts = [columns([f"{k}a", f"{k}b"], layers=own, seed=k) for k, own in enumerate(layers)]
    for number, part in enumerate(parts, 1):
        write_shard(tmp_path / shard_name("m", number), part, ATTRIBUTES, question_view=False)
    name = "query_token_representation/layer_7"
    vectors = open_shards(tmp_path).vectors(name)
    nothing = np.full((2, 8), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(vectors, np.concatenate([part.vectors.get(name, nothing) for part in parts]))


def test_files_of_different_widths_are_named(tmp_path: Path) -> None:
    for number, width in enumerate((8, 6), 1):
        part = columns([f"{number}"], width=width)
        write_shard(tmp_path / shard_name("m", number), part, ATTRIBUTES, question_view=False)
    with pytest.raises(ShardError, match=r"vision_only_representation has width \[6, 8\] in different files"):
        open_shards(tmp_path).vectors("vision_only_representation")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_shard_cut_short_is_named(shard: Path, keep: float) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ShardError, match=r"part_001\.h5 is not a readable HDF5 file.*run extract.py again"):
        open_shards(shard.parent)


def test_unknown_names_and_files_are_named(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no 'layer_9'; there are: vision_only_representation"):
        open_shards(shard).vectors("layer_9")
    with pytest.raises(ShardError, match="does not exist"):
        open_shards(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardError, match="holds no shards"):
        open_shards(tmp_path / "empty")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(ShardError, match="no shard"):
        open_shards(tmp_path / "other.h5")
    with h5py.File(shard, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(ShardError, match=r"version 99.*upgrade"):
        open_shards(shard)


def _spoil(shard: Path, what: str) -> None:
    with h5py.File(shard, "r+") as file:
        group = file["_columns"]
        if what == "missing attribute":
            del file.attrs["revision"]
        elif what == "missing column":
            del group["first_token_entropy"]
        elif what == "wrong count":
            file.attrs["num_samples"] = 3
        elif what == "nan":
            group["query_token_representation/layer_7"][2, 1] = np.nan
        elif what == "query index":
            group["token_index/query"][1] += 1
        elif what == "wrong dtype":
            values = group["token_id/vision"][()].astype(float)
            del group["token_id/vision"]
            group["token_id/vision"] = values
        elif what == "encoded with view":
            values = np.zeros((len(ODD_IDS), 8), dtype=np.uint16)
            del group["vision_only_representation"]
            group["vision_only_representation"] = values
            group["vision_only_representation"].attrs["encoding"] = "bfloat16"
        elif what == "view text":
            file["plain/answer"][()] = "something else"
        elif what == "view missing":
            del file["plain"]
        elif what == "view copied":
            vector = file["plain/vision_only_representation"][:]
            del file["plain/vision_only_representation"]
            file["plain/vision_only_representation"] = vector


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("missing attribute", "attribute 'revision' is missing"),
        ("missing column", "first_token_entropy is missing"),
        ("wrong count", "num_samples is 3"),
        ("nan", "not finite"),
        ("query index", "not the prompt's last token"),
        ("wrong dtype", "token_id/vision has dtype float64, expected int32"),
        ("encoded with view", "does not go with the question view"),
        ("view text", "answer differs"),
        ("view missing", "question groups are not those of the columns"),
        ("view copied", "is not a view of row 0"),
    ],
)
def test_validation_finds(shard: Path, what: str, reason: str) -> None:
    assert problems(shard) == []
    _spoil(shard, what)
    assert reason in " ".join(problems(shard))


def test_the_archived_shard_of_version_1_reads() -> None:
    """Written once by the first release; a reader that cannot read it any more has broken the format."""
    path = Path(__file__).parent / "data" / "shard_v1.h5"
    assert problems(path) == []
    shards = open_shards(path)
    assert shards.question_ids == ("q/1", "q 2", "日本")
    expected = columns(shards.question_ids)
    for name in shards.representations:
        assert np.array_equal(shards.vectors(name), expected.vectors[name])
    assert shards.text("answer") == expected.texts["answer"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    data = columns(["a", "b"])
    broken = replace(data, texts={**data.texts, "answer": ["only one"]})
    with pytest.raises(IndexError):
        write_shard(tmp_path / "x.h5", broken, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []
