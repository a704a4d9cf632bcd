"""The benchmark of tasks: both ways reply alike, and the check can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from halp_probe.answering.local import LocalAnswerer

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CHECK = ["--preset", "tiny", "--device", "cpu", "--check", "--images", "2", "--alone-images", "1"]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import tasks

    return tasks


def test_both_ways_reply_alike(tasks: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks.main([*CHECK, "--json", str(tmp_path / "measured.json")]) == 0
    assert "8 of 8" in capsys.readouterr().out
    results = json.loads((tmp_path / "measured.json").read_text())["results"]
    assert [(each["workload"], each["prompts"], each["alone_prompts"]) for each in results] == [
        ("qa", 16, 8),
        ("stage-a", 2, 1),
    ]


def test_the_check_fails_when_a_reply_is_another(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LocalAnswerer._reply
    monkeypatch.setattr(LocalAnswerer, "_reply", lambda self, *row: replace(right(self, *row), text="other"))
    assert tasks.main([*CHECK, "--workloads", "stage-a"]) == 1
