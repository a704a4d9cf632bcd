"""The benchmark of scoring: its ways agree, its check can fail, and every way is measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from halp_probe.probes.files import SavedProbe

TINY = ["--preset", "tiny", "--device", "cpu", "--questions", "4"]


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import scoring

    return scoring


def test_all_ways_agree(scoring: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert scoring.main([*TINY, "--check"]) == 0
    assert "first tokens equal in 5 ways" in capsys.readouterr().out


def test_the_check_fails_when_a_risk_is_another(scoring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    risk = SavedProbe.risk
    monkeypatch.setattr(SavedProbe, "risk", lambda self, x: risk(self, x) + 0.01 * (np.shape(x)[0] > 1))
    assert scoring.main([*TINY, "--check"]) == 1


def test_everything_measured_is_written(scoring: ModuleType, tmp_path: Path) -> None:
    assert scoring.main([*TINY, "--repeats", "1", "--json", str(tmp_path / "measured.json")]) == 0
    report = json.loads((tmp_path / "measured.json").read_text())
    assert list(report["inputs made beforehand"]) == ["generate", "ours, no risk", "ours, with risk"]
    assert list(report["from a picture in memory"]) == ["generate", "ours, with risk"]
    assert all(len(times) == 4 for times in report["inputs made beforehand"].values())
