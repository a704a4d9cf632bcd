"""What runs beside the model: threads ahead and behind, workers. In order, bounded, and no error lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from extract_process import start_extraction

from halp_probe.cli import run_script
from halp_probe.engine import batched as batched_module
from halp_probe.engine.images import find_first_copies
from halp_probe.engine.preparing import PreparedPrompts, Preparer, prepare_all
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.threads import BackgroundThread, prefetch
from halp_probe.errors import InputError
from halp_probe.models.loading import open_checkpoint
from halp_probe.records import Failure, Sample
from halp_probe.shapes.dataset import write_dataset

pytestmark = pytest.mark.slow


def test_ahead_keeps_order_and_is_bounded() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    for taken, number in enumerate(prefetch(numbers(), depth=2)):
        time.sleep(0.002)
        assert number == taken and len(made) <= taken + 4  # this one, two waiting, one in the making
    assert made == list(range(20))


def test_ahead_runs_in_another_thread_and_raises_here() -> None:
    def broken() -> Iterator[int]:
        yield threading.get_ident()
        raise InputError("no more")

    items = prefetch(broken())
    assert next(items) != threading.get_ident()
    with pytest.raises(InputError, match="no more"):
        next(items)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_behind_keeps_order_and_waits_when_it_is_full() -> None:
    done: list[int] = []
    gate = threading.Event()

    def slow(k: int) -> None:
        gate.wait()
        done.append(k)

    with BackgroundThread(depth=2) as background:
        background.submit(slow, 0)
        background.submit(slow, 1)
        threading.Timer(0.05, gate.set).start()
        background.submit(slow, 2)  # waits for the first
        assert done[:1] == [0]
    assert done == [0, 1, 2]


def test_behind_stops_at_an_error_and_raises_it() -> None:
    done: list[int] = []

    def fails() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), BackgroundThread(depth=5) as background:
        background.submit(done.append, 1)
        background.submit(fails)
        background.submit(done.append, 2)
    assert done == [1]
    with pytest.raises(OSError, match="disk full"), BackgroundThread(depth=1) as background:
        background.submit(fails)
        background.submit(done.append, 3)
    assert done == [1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=8, questions_a_scene=3, seed=900)
    (folder / "images" / "scene_000902.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def preparer(data: Path) -> Preparer:
    return Preparer(Prompter(checkpoint=open_checkpoint("shapes")), data / "images")


def work() -> list[list[Sample]]:
    questions = ["Is it red?", "What is it?", "How many?"]
    rows = [
        [
            Sample(question_id=f"{k}-{q}", image_id=f"scene_00090{k}.png", question=asked, answer="")
            for q, asked in enumerate(questions)
        ]
        for k in range(8)
    ]
    rows[5][1] = Sample(question_id="5-1", image_id="scene_000905.png", question="What is <|image_pad|>?", answer="")
    return rows


def told(made: PreparedPrompts) -> list[tuple[object, ...]]:
    return [
        (r.question_id, r.stage, r.reason)
        if isinstance(r, Failure)
        else (r.sample.question_id, r.image_sha256, r.input_ids.tolist(), r.images["pixel_values"].sum().item())
        for r in made
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_prepare_what_this_process_would(preparer: Preparer, workers: int) -> None:
    ours = [told(made) for made in prepare_all(preparer, work(), workers)]
    assert ours == [told(made) for made in prepare_all(preparer, work(), 0)]
    assert [[row[0] for row in image] for image in ours] == [[s.question_id for s in image] for image in work()]
    assert [row[1] for row in ours[2]] == ["image"] * 3 and ours[5][1][1] == "prompt"


def test_prompts_on_an_image_hold_its_pixels_once(preparer: Preparer) -> None:
    for made in prepare_all(preparer, work(), 1):
        prompts = [result for result in made if isinstance(result, Prompt)]
        assert len({id(prompt.images) for prompt in prompts}) <= 1
        assert not any(tensor.is_shared() for prompt in prompts for tensor in prompt.images.values())


@dataclass(frozen=True)
class Deadly:
    """A preparer that kills its process at the third image."""

    inner: Preparer

    def __call__(self, samples: list[Sample]) -> PreparedPrompts:
        if samples[0].question_id == "2-0":
            os.kill(os.getpid(), signal.SIGKILL)
        if samples[0].question_id == "3-0":
            raise InputError("this model cannot be used")
        return self.inner(samples)


def test_a_worker_that_dies_is_one_clear_error(preparer: Preparer) -> None:
    with pytest.raises(InputError, match=r"a process that prepares images died.*run the same command again"):
        list(prepare_all(Deadly(preparer), work(), 1))
    with pytest.raises(InputError, match=r"^this model cannot be used$"):
        list(prepare_all(Deadly(preparer), work()[3:], 1))


def test_a_process_that_forgets_its_workers_can_exit(tmp_path: Path) -> None:
    """What is made is held until the end, as by an error's traceback; a SIGTERM to the group is not theirs."""
    program = """
import signal, subprocess, time
from halp_probe.engine.preparing import prepare_all
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = prepare_all(list, [[1], [2], [3], [4], [5], [6]], 1)
print(next(held))
subprocess.run(["sh", "-c", "kill -TERM 0"])  # all of the group
time.sleep(0.5)
print(next(held))
"""
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (process.returncode, process.stdout) == (0, "[1]\n[2]\n"), process.stderr


def test_what_was_finished_survives_a_worker_s_death(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", "shapes"]
    call += ["--output-dir", str(tmp_path), "--max-new-tokens", "4", "--batch-tokens", "50", "--workers", "1"]
    monkeypatch.setattr(
        batched_module, "prepare_all", lambda preparer, work, n: prepare_all(DiesLate(preparer), work, n)
    )
    assert run_script("extract", None, call) == 2
    assert "a process that prepares images died" in capsys.readouterr().err
    monkeypatch.undo()
    assert run_script("extract", None, call) == 0
    assert "21 questions captured, 0" not in capsys.readouterr().out


@dataclass(frozen=True)
class DiesLate:
    inner: Preparer

    def __call__(self, samples: list[Sample]) -> PreparedPrompts:
        if "907" in samples[0].image_id:
            time.sleep(0.5)  # the first batches are through
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(samples)


def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    """Also those that wait to send what no one takes: 600 questions on one image make a large message."""
    write_dataset(tmp_path, n_scenes=1, questions_a_scene=1, seed=1)
    (name,) = (path.name for path in (tmp_path / "images").iterdir())
    rows = [f"q{k},{name},Is there a red circle number {k}?,yes" for k in range(600)]
    (tmp_path / "vqa.csv").write_text("\n".join(["question_id,image_id,question,answer", *rows]) + "\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(tmp_path / "images"), "--model", "shapes"]
    call += ["--output-dir", str(tmp_path / "out"), "--workers", "2", "--no-answers"]
    process = start_extraction(call, tmp_path / "log")
    while not list(tmp_path.glob("out/journal/0*.h5")):
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.01)
    workers = children(process.pid or 0)
    assert len(workers) >= 2
    process.kill()
    process.join()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def test_files_of_one_content_are_found(tmp_path: Path) -> None:
    for name, content in {"a": b"1234", "b": b"12345", "c": b"1234", "d": b"4321"}.items():
        (tmp_path / name).write_bytes(content)
    assert find_first_copies(tmp_path, ["b", "d", "c", "a", "c", "gone", "../a"]) == {
        "b": "b",
        "d": "d",
        "c": "c",
        "a": "c",
        "gone": "gone",
        "../a": "../a",
    }


def test_a_batch_comes_from_the_device_in_one_copy(preparer: Preparer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the tokens of each decoding step, which decide whether it goes on."""
    from halp_probe.engine.engine import Engine
    from halp_probe.models.loading import load_weights
    from halp_probe.records import CaptureSpec

    engine = Engine(load_weights(preparer.prompter.checkpoint), CaptureSpec((0, 3, 5), 2), share_prefix=True)
    prompts = [r for made in prepare_all(preparer, work(), 0) for r in made if isinstance(r, Prompt)]
    copies: list[int] = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: (copies.append(tensor.numel()), to_host(tensor))[1])
    rows = engine.run(prompts)
    monkeypatch.undo()
    width, images = engine.loaded.model.config.text_config.hidden_size, 7
    vision = engine.loaded.model.config.vision_config.hidden_size * images + width * images
    assert copies == [vision + 3 * width * (images + len(prompts)) + 3 * len(prompts)]
    assert len(rows) == len(prompts) == 20
