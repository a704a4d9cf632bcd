"""The benchmarks run, and what they time is equal; their times are nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def _run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_all_ways_of_reading_agree() -> None:
    assert "9 ways of reading agree" in _run("benchmarks/shards.py", "--check")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the page cache is dropped by posix_fadvise")
def test_the_tables_have_a_line_for_each_way() -> None:
    out = _run("benchmarks/shards.py", "--rows=5", "--width=8", "--rows-per-file=2", "--repeats=1", "--cold")
    assert "5 rows, 11 arrays of width 8" in out and "page cache cold" in out
    assert out.count("open_shards(…).vectors(…)") == 4 and out.count("h5py loop") == 3
    assert "from groups, plain" in out and "from groups, gzip" in out


def test_every_form_of_a_table_is_read() -> None:
    out = _run("benchmarks/table_reading.py", "--rows=200")
    assert out.count("records: 200 rows") == 5 == out.count("samples: 200 rows")


def test_the_solver_and_scikit_learns_loop_agree() -> None:
    assert "the solver and scikit-learn agree" in _run("benchmarks/probes.py", "--check")


def test_the_sweeps_table_has_a_line_for_each_way() -> None:
    out = _run("benchmarks/probes.py", "--rows=200", "--width=12", "--folds=3")
    assert "200 rows of width 12" in out and "18" in out and "products of all problems" in out
    assert out.count("solver") >= 3 and "scikit-learn, plain loop" in out
