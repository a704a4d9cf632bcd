"""Declarations of benchmarks: each is whole, its page is in step with it, and names that are not known are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from halp_probe.catalog.benchmark import ANSWERS, QUESTIONS
from halp_probe.catalog.entries import BENCHMARKS, choose
from halp_probe.catalog.options import letter_of_text, with_options
from halp_probe.catalog.page import datasets_list, datasets_page
from halp_probe.errors import InputError
from halp_probe.labels.choice import options
from halp_probe.labels.rules import RULES

ROOT = Path(__file__).parents[1]
EVERY = pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
NAMES = [
    *("pope", "repope", "amber", "hallusionbench", "haloquest", "mme", "mmvp", "mathvista"),
    *("vizwiz", "textvqa", "vqav2", "gqa", "scienceqa", "captionqa"),
]


def test_all_are_there():
    assert list(BENCHMARKS) == NAMES


@EVERY
def test_a_declaration_is_whole(benchmark):
    assert benchmark.rule in (None, *RULES)
    assert {file.part for file in benchmark.files if file.part} <= set(benchmark.parts)
    assert set(benchmark.usual) <= set(benchmark.parts)
    assert set(benchmark.questions) <= {*benchmark.parts, ""}
    assert {file.role for file in benchmark.files} <= {QUESTIONS, ANSWERS, "texts"}
    assert benchmark.faults or benchmark.mended
    for text in (*benchmark.faults, *benchmark.mended, *benchmark.leaks.values()):
        assert not text.endswith("."), "the page and the findings end the sentence"
    assert benchmark.where.startswith("http")
    assert benchmark.citation and benchmark.licence


@pytest.mark.parametrize(
    ("name", "questions"),
    [("pope", 9000), ("amber", 14216), ("hallusionbench", 951), ("mme", 2374), ("mmvp", 300), ("scienceqa", 10332)],
)
def test_published_numbers(name, questions):
    assert sum(BENCHMARKS[name].questions.values()) == questions


def test_what_repope_leaves_out_is_what_its_files_lack():
    rows = {file.part: file.rows for file in BENCHMARKS["repope"].files if file.role == ANSWERS}
    assert {part: 3000 - count for part, count in rows.items()} == {"random": 226, "popular": 273, "adversarial": 316}


def test_repope_has_the_folds_of_pope():
    assert BENCHMARKS["repope"].salt == BENCHMARKS["pope"].salt == "pope"


def test_the_page_is_in_step():
    assert (ROOT / "docs/datasets.md").read_text(encoding="utf-8") == datasets_page()


def test_the_list_names_all_with_what_is_wrong():
    text = datasets_list()
    assert all(f"\n{name} " in text for name in NAMES)
    assert "gives the ground truth away" in text and "vlmevalkit:FILE.tsv" in text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("pope", ("random", "popular", "adversarial")),
        ("pope:adversarial,random", ("adversarial", "random")),
        ("haloquest", ("eval",)),
        ("haloquest:train", ("train",)),
        ("amber", ()),
        ("lmms-eval:lmms-lab/MME:test", ("test",)),
        ("vlmevalkit:MMBench_DEV_EN.tsv", ()),
    ],
)
def test_parts_are_named_after_a_colon(name, parts):
    assert choose(name).parts == parts


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("popee", "did you mean pope?"),
        ("imagenet", "there are pope, repope"),
        ("pope:hard", "has no part 'hard'; its parts are random, popular, adversarial"),
        ("amber:val", "has no part 'val'; it has none"),
        ("lmms-eval", "lmms-eval:REPOSITORY"),
        ("vlmevalkit:", "vlmevalkit:FILE.tsv"),
        ("", "is no benchmark"),
    ],
)
def test_names_that_there_are_not(name, said):
    with pytest.raises(InputError, match=r"`dataset`") as error:
        choose(name)
    assert said in str(error.value)


def test_columns_are_for_lmms_eval_alone():
    with pytest.raises(InputError, match="lmms-eval"):
        choose("pope", {"question": "text"})


def test_options_are_what_the_rule_reads():
    text = with_options("Which?", ["a cat,\nasleep", "a dog", "none"])
    assert options(text) == {"A": "a cat, asleep", "B": "a dog", "C": "none"}
    assert letter_of_text(["x", "y"], "y") == "B"
    assert letter_of_text(["x", "x"], "x") == "x"  # no one option
    assert letter_of_text(["x"], "z") == "z"


def test_the_catalog_needs_no_torch():
    code = (
        "import sys; import halp_probe.catalog.entries; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
