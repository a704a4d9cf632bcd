"""A folder's fingerprint is that of its contents, whether they are read or remembered."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from halp_probe.models import fingerprints
from halp_probe.models.fingerprints import folder_fingerprint, local_revision


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as large, whose files changed long enough ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "_LARGE", 1)
    monkeypatch.setattr(fingerprints, "_SETTLED", 0.0)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "config.json").write_text("{}")
    return folder


def by_hand(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As many entries as times that the contents were read."""
    reads: list[int] = []
    digest = fingerprints._digest
    monkeypatch.setattr(fingerprints, "_digest", lambda files: reads.append(1) or digest(files))
    return reads


def test_the_contents_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = counted(monkeypatch)
    assert [folder_fingerprint(folder) for _ in range(3)] == [by_hand(folder)] * 3
    assert len(reads) == 1
    assert local_revision(folder, verify=True) == f"local-{by_hand(folder)}"
    assert len(reads) == 2


@pytest.mark.parametrize("change", ["other bytes of the same size and time", "another size", "a new file", "replaced"])
def test_a_change_is_seen(folder: Path, change: str) -> None:
    before = folder_fingerprint(folder)
    weights = folder / "model.safetensors"
    status = weights.stat()
    time.sleep(0.02)  # more than a tick of the file system's clock
    if change == "a new file":
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    elif change == "replaced":
        weights.with_suffix(".new").write_bytes(b"WEIGHTS" * 100)
        weights.with_suffix(".new").replace(weights)
    else:
        weights.write_bytes((b"WEIGHTS" if change.startswith("other") else b"more weights") * 100)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert folder_fingerprint(folder) == by_hand(folder) != before


def test_files_that_changed_just_now_are_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within one tick of the clock leave the same times."""
    monkeypatch.setattr(fingerprints, "_SETTLED", 60.0)
    reads = counted(monkeypatch)
    assert folder_fingerprint(folder) == folder_fingerprint(folder) == by_hand(folder)
    assert len(reads) == 2


def test_a_cache_that_cannot_be_kept_or_read_does_no_harm(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache" / "halp_probe").mkdir(parents=True)
    (tmp_path / "cache" / "halp_probe" / "fingerprints.json").write_text("[no JSON")
    assert folder_fingerprint(folder) == by_hand(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made below a file
    assert folder_fingerprint(folder) == by_hand(folder)


def test_the_oldest_folders_are_forgotten(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_MOST", 2)
    others = [tmp_path / f"model{k}" for k in range(2)]
    for other in others:
        other.mkdir()
        (other / "model.safetensors").write_bytes(other.name.encode())
    for each in (folder, *others):
        folder_fingerprint(each)
    assert [key.split()[0] for key in fingerprints._read_cache()] == [str(other.resolve()) for other in others]
