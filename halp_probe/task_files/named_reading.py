"""Reading of a benchmark step by step: its source, its questions, its folder of pictures, its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from halp_probe.catalog.benchmark import Benchmark
from halp_probe.catalog.entries import Chosen
from halp_probe.datasets import Table, read_table
from halp_probe.engine.images import ImageFolder, ImagesDir, folder_path
from halp_probe.errors import InputError
from halp_probe.records import Failure
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.task_files.named_files import DownloadError, NamedFiles, images_folder
from halp_probe.task_files.named_hub import HubRows
from halp_probe.task_files.named_rows import Asked, Keep, ask, equal_pictures, table_rows

_NOT_AS_PUBLISHED = (TypeError, ValueError, AttributeError, KeyError, IndexError)  # of a row that is made otherwise


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Ways to find a benchmark's pictures and fields.

    `images_dir`: the folder of pictures, None to look below the data root; `pictures_dir`: the folder for those that
    its files hold or that are fetched, None for nowhere; `columns`: our names of fields, for `lmms-eval`.
    """

    images_dir: ImagesDir | None = None
    pictures_dir: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    allow_urls: bool = False
    allow_links: bool = False


def open_source(chosen: Chosen, root: Path | None, pictures_dir: Path | None) -> NamedFiles | HubRows:
    """Return the source of the rows. Raises InputError where the data root or a needed file is missing."""
    benchmark, parts = chosen.benchmark, chosen.parts
    if root is not None and not root.is_dir():
        raise InputError(f"`data_root` {root} is not a folder; pass the folder of {benchmark.title}'s files")
    if not benchmark.files:
        return HubRows(benchmark, parts, root, pictures_dir)
    if root is None:
        raise InputError(f"`data_root` DIR is needed, the folder of {benchmark.title}'s files ({benchmark.where})")
    files = NamedFiles(benchmark, parts, root)
    missing = [file for file in files.missing if file.needed]
    absent = dict.fromkeys(file.part for file in missing)
    left = tuple(part for part in parts if part not in absent)
    if "" in absent or (parts and not left):
        names = ", ".join(file.name for file in missing)
        raise DownloadError(f"{root} lacks {names}; get it from {benchmark.where}, or pass another `data_root`")
    files.parts = left
    if absent:
        files.note(f"no files of {', '.join(absent)}: this is not the whole of {benchmark.title}")
    return files


def read_questions(source: NamedFiles | HubRows, keep: Keep) -> Asked:
    """Read all rows. Raises DownloadError for a file that is not as published."""
    try:
        asked = ask(source.benchmark.read(source), keep)
    except InputError:
        raise
    except _NOT_AS_PUBLISHED as error:
        raise DownloadError(
            f"{source.place}: not as {source.benchmark.title} is published ({error!r}); get the file again from "
            f"{source.benchmark.where}"
        ) from error
    if isinstance(source, HubRows) and source.not_asked:
        left_out = {**asked.left_out, "question that CaptionQA's own task leaves out": len(source.not_asked)}
        return replace(asked, left_out=left_out)
    return asked


def find_images(source: NamedFiles | HubRows, asked: Asked, reading: Reading) -> ImagesDir:
    """Return the folder of the pictures: the given one, or what is found below the data root."""
    if reading.images_dir is not None:
        if not folder_path(reading.images_dir).is_dir():
            raise InputError(f"`images_dir` {reading.images_dir} is not a folder")
        return reading.images_dir
    if isinstance(source, HubRows):
        return ImageFolder(source.folder or reading.pictures_dir or Path(), reading.allow_links)
    return ImageFolder(images_folder(source.root, source.benchmark.images, asked.names), reading.allow_links)


def table_of(benchmark: Benchmark, asked: Asked, images_dir: Path) -> tuple[Table, list[Failure]]:
    """Return the questions as a checked table, and those whose picture is broken.

    Raises DownloadError if there is no question, and what `read_table` raises.
    """
    if not asked.questions:
        why = "; ".join(f"{count} rows: {reason}" for reason, count in asked.left_out.items()) or "no rows"
        raise DownloadError(f"{benchmark.title} has no question with a picture here ({why}); check the download")
    rows = table_rows(benchmark, asked.questions, equal_pictures(images_dir, asked.names))
    return read_table(rows, RESERVED_COLUMNS), asked.failures


def differing(source: NamedFiles | HubRows) -> list[str]:
    """Return a note on each file that has another number of rows than the whole one."""
    title = source.benchmark.title
    return [
        f"{Path(file.name).name} has {count:,} of {file.rows:,} rows: this is not the whole of {title}"
        if count < file.rows
        else f"{Path(file.name).name} has {count:,} rows, {count - file.rows:,} more than {title} published: another "
        "version?"
        for file, count in source.counts.items()
        if file.rows is not None and count != file.rows
    ]


def refuse_pictures(_data: bytes) -> str:
    """Raise InputError: a picture in a file has nowhere to go."""
    raise InputError("its files hold the pictures: pass `pictures_dir`, a folder to write them to")
