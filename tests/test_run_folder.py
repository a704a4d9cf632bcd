"""A run folder after a crash at any of its file operations: nothing lost, nothing twice, the same shards."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from shard_data import ATTRIBUTES, columns

from halp_probe.errors import InputError
from halp_probe.shards import run_folder
from halp_probe.shards.parts import PartWriter
from halp_probe.shards.reader import ShardError, open_shards
from halp_probe.shards.run_folder import RunFolder

pytestmark = pytest.mark.slow

IDS = [f"q{k}" for k in range(11)]
BATCHES = ([1, 3], [0, 2], [5, 7], [4, 6], [9, 10], [8])  # out of order inside windows of four
OPERATIONS = ("replace", "unlink", "rmdir")  # of Path: all by which the folder changes


class Crash(BaseException):
    """The process is gone."""


class Crashes:
    """Ends the process, so to speak, before or after the k-th file operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at, self.after = 0, 0, False
        for name in OPERATIONS:
            monkeypatch.setattr(Path, name, self._counted(getattr(Path, name)))

    def arm(self, at: int, after: bool) -> None:
        self.count, self.at, self.after = 0, at, after

    def _counted(self, operation: Any) -> Any:
        def counted(path: Path, *args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at and not self.after:
                raise Crash
            result = operation(path, *args, **options)
            if self.count == self.at:
                raise Crash
            return result

        return counted


def capture_all(output: Path) -> None:
    """What a run does to its folder, from wherever it stands."""
    data = columns(IDS)
    folder = RunFolder(output, "m", IDS, interval=3, attributes=ATTRIBUTES)
    for number, batch in enumerate(BATCHES, 1):
        rows = [row for row in batch if IDS[row] not in folder.done]
        if rows:
            folder.append(data.take(rows))
        if number % 2 == 0:
            folder.flush(2 * number)
    folder.flush(len(IDS), final=True)


def contents(output: Path) -> tuple[Any, ...]:
    shards = open_shards(output)
    vectors = [shards.vectors(name).tobytes() for name in shards.representations]
    return shards.counts, shards.question_ids, shards.text("answer"), vectors, sorted(p.name for p in output.iterdir())


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    return Crashes(monkeypatch)


def test_a_crash_anywhere_is_mended_by_the_next_run(crashes: Crashes, tmp_path: Path) -> None:
    capture_all(tmp_path / "reference")
    operations = crashes.count
    reference = contents(tmp_path / "reference")
    assert reference[0] == (3, 3, 3, 2) and reference[1] == tuple(IDS)
    assert operations > 25
    for at in range(1, operations + 1):
        for after in (False, True):
            output = tmp_path / f"{at}{after}"
            for second in (at, 2):  # the run that mends it may crash too
                appended = set(RunFolder(output, "m", IDS).done)
                crashes.arm(second, after)
                try:
                    capture_all(output)
                except Crash:
                    continue
                finally:
                    crashes.arm(0, after)
                    assert appended <= set(RunFolder(output, "m", IDS).done)
            capture_all(output)
            assert contents(output) == reference


def test_the_last_shard_may_hold_one_sample(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "m", IDS, interval=2, attributes=ATTRIBUTES)
    folder.append(columns(IDS).take([0, 1, 2]))
    folder.flush(3)
    assert open_shards(tmp_path).counts == (2,)
    folder.flush(3, final=True)
    assert open_shards(tmp_path).counts == (2, 1) and not (tmp_path / "journal").exists()


def test_a_shard_written_in_a_process_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    capture_all(tmp_path / "here")
    started = []
    monkeypatch.setattr(run_folder, "OWN_PROCESS", 1)
    monkeypatch.setattr(PartWriter, "start", lambda self, part: (started.append(part.name), start(self, part))[1])
    capture_all(tmp_path / "there")
    assert len(started) == 4
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


start = PartWriter.start


def test_samples_go_on_while_a_shard_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_folder, "OWN_PROCESS", 1)
    folder = RunFolder(tmp_path, "m", IDS, interval=3, attributes=ATTRIBUTES)
    folder.append(columns(IDS).take([0, 1, 2]))
    folder.flush(3)
    assert folder.shards() == [] and len(list((tmp_path / "journal").iterdir())) == 1
    folder.append(columns(IDS).take([3, 4]))
    folder.close()
    assert open_shards(folder.shards()[0]).question_ids == ("q0", "q1", "q2")
    again = RunFolder(tmp_path, "m", IDS)
    assert set(again.done) == {"q0", "q1", "q2", "q3", "q4"}
    assert not list(tmp_path.glob(".*"))


def test_what_goes_wrong_in_the_process_is_told_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_folder, "OWN_PROCESS", 1)
    data = columns(IDS)
    data.vectors["vision_only_representation"][1] = 1e6
    folder = RunFolder(tmp_path, "m", IDS, interval=3, attributes=ATTRIBUTES, store_dtype="float16")
    folder.append(data.take([0, 1, 2]))
    folder.flush(3)
    with pytest.raises(InputError, match="overflow float16"), closing(folder):  # told once, then closed
        folder.flush(3, final=True)
    assert set(RunFolder(tmp_path, "m", IDS).done) == {"q0", "q1", "q2"}  # still in the journal


def test_a_writer_that_dies_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_folder, "OWN_PROCESS", 1)
    folder = RunFolder(tmp_path, "m", IDS, interval=3, attributes=ATTRIBUTES)
    folder.append(columns(IDS).take([0, 1, 2]))
    monkeypatch.setattr(PartWriter, "start", lambda self, part: self._process.kill())
    folder.flush(3)
    with pytest.raises(ShardError, match=r"the process that writes shards died.*nothing captured is lost"):
        folder.close()
    monkeypatch.undo()
    again = RunFolder(tmp_path, "m", IDS, interval=3, attributes=ATTRIBUTES)
    again.flush(3, final=True)
    assert open_shards(tmp_path).question_ids == ("q0", "q1", "q2")


def test_a_sample_is_never_in_a_shard_before_all_earlier_ones_were_attempted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "m", IDS, interval=2, attributes=ATTRIBUTES)
    folder.append(columns(IDS).take([4, 5, 6, 1]))
    folder.flush(4)
    assert folder.shards() == []
    folder.append(columns(IDS).take([0]))
    folder.flush(4)
    assert open_shards(tmp_path).question_ids == ("q0", "q1")
    assert set(folder.done) == {"q0", "q1", "q4", "q5", "q6"}
    assert set(RunFolder(tmp_path, "m", IDS).done) == set(folder.done)


def test_what_is_done_keeps_what_the_table_said(tmp_path: Path) -> None:
    RunFolder(tmp_path, "m", IDS).append(columns(IDS).take([2]))
    stored = RunFolder(tmp_path, "m", IDS).done["q2"]
    data = columns(IDS)
    told = ("image_id", "question", "ground_truth_answer", "category")
    assert stored.texts == {name: data.texts[name][2] for name in told}
    assert stored.image_sha256 == data.texts["image_sha256"][2]
    assert stored.prompt_tokens == data.numbers["prompt_tokens"][2]
