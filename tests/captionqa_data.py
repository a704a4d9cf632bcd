"""A data set of CaptionQA's schema: pictures of ShapesVQA, eight questions on each, four splits, one bad answer key."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from transformers import AutoTokenizer

from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.shapes.questions import NOTHING, Question, ask
from halp_probe.shapes.scenes import COLOURS, SHAPES, make_scene, render

DOMAINS = {
    "natural": "nat",
    "document": "doc",
    "ecommerce": "eco",
    "embodiedai": "emb",
}  # split -> beginning of its ids
QUESTIONS = 8  # an image
BAD_KEY = 3  # index of the question in the first row of each split whose answer is none of its choices
FEATURES = Features(
    {
        "id": Value("string"),
        "images": List(Image()),
        "questions": List(
            {
                "question": Value("string"),
                "choices": List(Value("string")),
                "answer": Value("string"),
                "category": List(Value("string")),
                "source": Value("string"),
            }
        ),
    }
)
_CATEGORY = {"exists": "Object Existence", "colour": "Attribute", "shape": "Attribute", "count": "Counting"}


def write_parquet(folder: Path, *, images: int, seed: int = 0) -> None:
    """`natural-00000-of-00001.parquet` and its likes, `images` rows each, as the hub has them in `data/`."""
    for split, rows in splits(images=images, seed=seed).items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def splits(*, images: int, seed: int = 0) -> DatasetDict:
    """The same in memory, pictures as PNG."""
    found = {}
    for number, (split, prefix) in enumerate(DOMAINS.items()):
        rows = list(_rows(prefix, range(seed + number * images, seed + (number + 1) * images)))
        rows[0]["questions"][BAD_KEY]["answer"] = "of another question"
        found[split] = Dataset.from_list(rows, features=FEATURES)
    return DatasetDict(found)


def _rows(prefix: str, seeds: range) -> Iterator[dict[str, Any]]:
    for number, seed in enumerate(seeds, start=1):
        scene = make_scene(seed)
        data = io.BytesIO()
        render(scene).save(data, "PNG")
        yield {
            "id": f"{prefix}_{number:03d}",
            "images": [{"bytes": data.getvalue(), "path": f"{number}.png"}],
            "questions": [_question(each, seed) for each in ask(scene, QUESTIONS)],
        }


def _question(asked: Question, seed: int) -> dict[str, Any]:
    kinds = {"yes": ["yes", "no"], "no": ["yes", "no"]}
    others = [str(n) for n in range(6)] if asked.kind == "count" else [*_others(asked), NOTHING]
    choices = kinds.get(asked.answer, others)
    rng = np.random.default_rng([seed, 7])
    wrong = [choice for choice in choices if choice != asked.answer]
    kept = [asked.answer, *rng.permutation(wrong)[:3].tolist()]
    category = _CATEGORY.get(asked.kind, "Hallucination")
    return {
        "question": asked.text,
        "choices": [kept[place] for place in rng.permutation(len(kept))],
        "answer": asked.answer,
        "category": [category, "Shapes"],
        "source": f"shapes:{asked.kind}",
    }


def _others(asked: Question) -> list[str]:
    return list(COLOURS) if "colour" in asked.text else list(SHAPES)


def lettered_model(folder: Path) -> None:
    """The bundled model with a generation config that lets it say nothing but A to E: it has not learnt letters."""
    shutil.copytree(BUNDLED_FOLDER, folder)
    tokens = AutoTokenizer.from_pretrained(folder)
    allowed = set(tokens.convert_tokens_to_ids(list("ABCDE")))
    words = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    path = folder / "generation_config.json"
    suppressed = [token for token in range(words) if token not in allowed]
    path.write_text(json.dumps({**json.loads(path.read_text()), "suppress_tokens": suppressed}))
