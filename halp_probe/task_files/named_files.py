"""Files of a benchmark below a data root: where they lie, their rows, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from halp_probe.catalog.benchmark import QUESTIONS, Benchmark, File, TextFile, Values
from halp_probe.errors import InputError
from halp_probe.tables.reading import read_records

TEXTS = "texts"  # role of folders of texts
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class DownloadError(InputError):
    """A benchmark's files that cannot be used; the message names the file and the remedy."""


class Row(dict[str, Any]):
    """Row of a file; a column that the file lacks is a DownloadError that names both."""

    def __init__(self, values: Mapping[str, Any], place: str, benchmark: Benchmark) -> None:
        super().__init__(values)
        self._place, self._benchmark = place, benchmark

    def __missing__(self, name: str) -> Any:
        there = ", ".join(map(repr, self))
        raise DownloadError(
            f"{self._place} has no {name!r}, but {there}: not the file that {self._benchmark.title} publishes; get it "
            f"from {self._benchmark.where}"
        )


@dataclass
class NamedFiles:
    """Files of a benchmark's parts as the source of its rows. `counts` are the rows read so far, by file."""

    benchmark: Benchmark
    parts: tuple[str, ...]
    root: Path

    def __post_init__(self) -> None:
        self.counts: dict[File, int] = {}
        self.notes: list[str] = []
        self.place = str(self.root)  # of the row that was read last

    @property
    def files(self) -> list[File]:
        """Files of the parts that are asked for."""
        return [file for file in self.benchmark.files if not file.part or file.part in self.parts]

    @property
    def missing(self) -> list[File]:
        """Files that are not there."""
        return [file for file in self.files if not self.paths(file)]

    def paths(self, file: File) -> list[Path]:
        """Return where a file lies, below the data root. Raises DownloadError if it lies at several places."""
        names = dict.fromkeys((file.name, *file.elsewhere, PurePosixPath(file.name).name))
        found: dict[Path, Path] = {}
        for name in names:
            places = sorted(self.root.glob(name)) if "*" in name else [self.root / name]
            there = {path.resolve(): path for path in places if path.is_dir() == (file.role == TEXTS) and path.exists()}
            if found and set(there) - set(found):
                other = next(path for key, path in there.items() if key not in found)
                raise DownloadError(
                    f"both {next(iter(found.values()))} and {other} are there, which may differ; keep one of them"
                )
            found.update(there)
        return list(found.values())

    def rows(self, role: str = QUESTIONS) -> Iterator[tuple[str, Values]]:
        """Yield each row of the files of this role, with its part. Raises what `rows_of` raises."""
        for file in self.files:
            if file.role == role:
                yield from ((file.part, row) for row in self.rows_of(file))

    def rows_of(self, file: File) -> Iterator[Values]:
        """Yield the rows of one file, none where it is not there. Raises DownloadError for one that is broken."""
        self.counts[file] = 0
        for path in self.paths(file):
            whole = f"{path}#{file.member}" if file.member else path
            for record in read_records(whole, DownloadError):
                self.counts[file] += 1
                self.place = f"{path}, {record.place}"
                yield Row(record.values, self.place, self.benchmark)

    def texts(self) -> Iterator[tuple[str, TextFile]]:
        """Yield the texts of the folders in alphabetical order, each with the picture of its name."""
        for file in self.files:
            self.counts[file] = 0
            for folder in self.paths(file):
                for text in self._texts_of(folder):
                    self.counts[file] += len(list(filter(str.strip, text.text.splitlines())))
                    yield file.part, text

    def note(self, text: str) -> None:
        """Keep what a reader must know of how the rows were read."""
        self.notes.append(text)

    def _texts_of(self, folder: Path) -> Iterator[TextFile]:
        beside = folder / "questions_answers_YN"
        texts, pictures = (beside, folder / "images") if beside.is_dir() else (folder, folder)
        above = folder.parent
        by_stem = {path.stem: path for path in sorted(pictures.iterdir()) if path.suffix.lower() in _ENDINGS}
        for path in sorted(texts.glob("*.txt")):
            self.place = str(path)
            picture = by_stem.get(path.stem)
            yield TextFile(
                name=path.relative_to(above).as_posix(),
                text=_read_text(path),
                picture="" if picture is None else picture.relative_to(above).as_posix(),
            )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DownloadError(f"{path} cannot be read as UTF-8 ({error}); get it again") from error


def images_folder(root: Path, folders: Sequence[str], names: Sequence[str], sample: int = 100) -> Path:
    """Return the folder below the root that has the most of the first pictures; the first that exists if none has."""
    there = [root / folder for folder in folders if (root / folder).is_dir()]
    wanted = list(dict.fromkeys(names))[:sample]
    counts = {folder: sum((folder / name).is_file() for name in wanted) for folder in there}
    best = max(counts.values(), default=0)
    return next((folder for folder, count in counts.items() if count == best), root)
