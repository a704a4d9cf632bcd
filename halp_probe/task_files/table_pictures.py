"""Pictures of a table in one folder: those that it held, those behind its URLs, and copies of files beside these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from halp_probe.datasets import Table
from halp_probe.engine.images import ImagesDir, image_path
from halp_probe.errors import InputError
from halp_probe.plain_text import shorten
from halp_probe.records import Failure, Sample
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.tables.pictures import PictureError, is_url
from halp_probe.task_files.picture_urls import fetch_pictures

_SHOWN = 200  # characters of a name in an error


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """Samples whose pictures are files of one folder, and the rows that have none."""

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    images_dir: ImagesDir


def collect_pictures(
    table: Table,
    folder: PictureFolder,
    images_dir: ImagesDir | None,
    *,
    allow_urls: bool,
    fetch: Callable[..., Mapping[str, str | InputError]] = fetch_pictures,
) -> Pictured:
    """Return the samples with the names of their pictures in one folder.

    That is `images_dir` if the table only names files. As soon as one row holds a picture or has the URL of one, all
    pictures of the table lie in `folder`, whether URLs may be fetched or not, so that a later run with them goes on.
    Raises InputError where files are named, and there is no `images_dir`.
    """
    urls = list(dict.fromkeys(sample.image_id for sample in table.samples if is_url(sample.image_id)))
    if not urls and not folder.used:
        if images_dir is None:
            raise InputError("`images_dir` FOLDER is needed: the table names files, and holds no pictures itself")
        return Pictured(samples=table.samples, failures=table.failures, images_dir=images_dir)
    names: dict[str, str | InputError] = dict(fetch(urls, folder)) if allow_urls else {}
    samples, failures = [], list(table.failures)
    for sample in table.samples:
        name = sample.image_id
        if name not in names and not folder.holds(name):
            names[name] = _refuse_url(name) if is_url(name) else _copy(name, folder, images_dir)
        found = names.get(name, name)
        if isinstance(found, str):
            samples.append(sample if found == name else replace(sample, image_id=found))
        else:
            failures.append(Failure(question_id=sample.question_id, stage="image", reason=str(found)))
    folder.path.mkdir(parents=True, exist_ok=True)
    return Pictured(samples=tuple(samples), failures=tuple(failures), images_dir=folder.path)


def _refuse_url(url: str) -> InputError:
    return InputError(f"its image is the URL {shorten(url, _SHOWN)}; pass `allow_urls=True` to fetch such images")


def _copy(name: str, folder: PictureFolder, images_dir: ImagesDir | None) -> str | InputError:
    """Keep a copy of a named file, and return its new name, or why there is none."""
    if images_dir is None:
        return InputError(f"its image is the file {shorten(name, _SHOWN)!r}, and no `images_dir` is given")
    try:
        return folder.keep(image_path(images_dir, name).read_bytes())
    except OSError as error:
        return InputError(f"{shorten(name, _SHOWN)} cannot be read: {error.strerror}")
    except (PictureError, InputError) as error:
        return InputError(f"{shorten(name, _SHOWN)!r}: {error}")
