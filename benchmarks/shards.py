"""python benchmarks/shards.py --rows 10000 --width 3584

Times the shard format against group-per-question files of the same synthetic data: writing, disk, and reading one
representation of all rows. Every array read is compared with what was written. The HALP authors' scripts compress with
gzip; `plain` is the same layout without, which reads faster. One layout at a time is on disk (1.7 GB by default), one
file's rows are in memory. Takes about ten minutes; `--check` only compares, at a small size, in seconds.

Legend: N rows, D width of the decoder, n rows of a file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from figures import add_json, write_figures

from halp_probe.records import QUERY_TOKEN, VISION_ENCODER, VISION_ONLY, VISION_TOKEN
from halp_probe.shards.columns import NUMBERS, Columns
from halp_probe.shards.names import COLUMNS, layer_name, shard_name
from halp_probe.shards.question_view import QUESTION_TEXTS
from halp_probe.shards.reader import open_shards
from halp_probe.shards.writer import write_shard

LAYERS = (0, 7, 14, 21, 27)  # as probed of Qwen2.5-VL-7B
ENCODER_WIDTH = 1280
READ = layer_name(QUERY_TOKEN, 14)
BY_QUESTION = [VISION_ONLY, *(layer_name(position, k) for position in (VISION_TOKEN, QUERY_TOKEN) for k in LAYERS)]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is written."""

    rows: int  # N
    width: int  # D
    rows_per_file: int

    def files(self) -> Iterator[range]:
        """The rows of each file."""
        for start in range(0, self.rows, self.rows_per_file):
            yield range(start, min(start + self.rows_per_file, self.rows))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way to write a file, and ways to read a folder of them; a reader prepares, what it returns is timed."""

    name: str
    write: Callable[[Path, Columns], None]
    readers: Mapping[str, Callable[[Path], Callable[[], np.ndarray]]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One line of a table."""

    name: str
    seconds: float
    megabytes: float = 0.0


def vectors(rows: range, name: str, width: int) -> np.ndarray:
    """[n, width] float32, the same for the same rows and name."""
    seed = [rows.start, (VISION_ENCODER, *BY_QUESTION).index(name)]
    return np.random.default_rng(seed).standard_normal((len(rows), width), dtype=np.float32)


def synthetic(rows: range, width: int) -> Columns:
    """The samples of one file."""
    texts = {
        "question_id": [f"question_{row:06d}" for row in rows],
        "image_id": [f"image_{row:06d}.jpg" for row in rows],
        "question": [f"Is there anything to be seen in picture {row}?" for row in rows],
        "answer": [f"Yes, there are {row} things to be seen." for row in rows],
        "ground_truth_answer": ["No" for _ in rows],
        "image_sha256": [f"{row:064x}" for row in rows],
    }
    widths = {**dict.fromkeys(BY_QUESTION, width), VISION_ENCODER: ENCODER_WIDTH}
    return Columns(
        texts=texts,
        numbers={name: np.zeros(len(rows), dtype=dtype) for name, dtype in NUMBERS.items()},
        vectors={name: vectors(rows, name, width) for name, width in widths.items()},
    )


def write_group_per_question(path: Path, columns: Columns, *, compression: str | None) -> None:
    """A file as the HALP authors' scripts write it; synced to disk, as ours are."""
    with h5py.File(path, "w") as file:
        for row, question_id in enumerate(columns.question_ids):
            group = file.create_group(question_id)
            for name in QUESTION_TEXTS:
                group.create_dataset(name, data=columns.texts[name][row], dtype=h5py.string_dtype())
            for name in BY_QUESTION:
                group.create_dataset(name, data=columns.vectors[name][row], compression=compression)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def by_column(folder: Path) -> Callable[[], np.ndarray]:
    return lambda: open_shards(folder).vectors(READ)


def by_column_opened_before(folder: Path) -> Callable[[], np.ndarray]:
    """As when several representations are read: ids and names are known."""
    shards = open_shards(folder)
    return lambda: shards.vectors(READ)


def by_question(folder: Path) -> Callable[[], np.ndarray]:
    """The loop of the HALP authors' training scripts, with one look-up for each array in place of three."""

    def read() -> np.ndarray:
        rows = []
        for path in sorted(folder.iterdir()):
            with h5py.File(path, "r") as file:
                rows += [file[f"{question_id}/{READ}"][:] for question_id in file if question_id != COLUMNS]
        return np.stack(rows)  # [N, D]

    return read


COLUMN_READERS = {
    "open_shards(…).vectors(…)": by_column,
    "vectors(…), opened before": by_column_opened_before,
}
GROUP_READERS = {"h5py loop": by_question, "open_shards(…).vectors(…)": by_column}
LAYOUTS = (
    Layout(name="columns", write=partial(write_shard, attributes={}, question_view=False), readers=COLUMN_READERS),
    Layout(
        name="columns + view",
        write=partial(write_shard, attributes={}),
        readers={**COLUMN_READERS, "h5py loop over the view": by_question},
    ),
    Layout(name="groups, plain", write=partial(write_group_per_question, compression=None), readers=GROUP_READERS),
    Layout(name="groups, gzip", write=partial(write_group_per_question, compression="gzip"), readers=GROUP_READERS),
)


def write(layout: Layout, folder: Path, size: Size, repeats: int) -> Measured:
    """Write every file `repeats` times, over itself, so that its rows are made once."""
    seconds = np.zeros(repeats)
    for part, rows in enumerate(size.files(), start=1):
        columns = synthetic(rows, size.width)
        path = folder / shard_name("synthetic", part)
        for repeat in range(repeats):
            path.unlink(missing_ok=True)
            os.sync()
            start = time.perf_counter()
            layout.write(path, columns)
            seconds[repeat] += time.perf_counter() - start
    return Measured(
        name=layout.name, seconds=seconds.min(), megabytes=sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    )


def read(layout: Layout, folder: Path, size: Size, repeats: int, *, cold: bool) -> list[Measured]:
    """Best of `repeats`, after one that warms the page cache and is compared with what was written."""
    measured = []
    for name, prepare in layout.readers.items():
        run = prepare(folder)
        check_equal(run(), size, f"{layout.name}, {name}")
        best = float("inf")
        for _ in range(repeats):
            if cold:
                drop_from_page_cache(folder)
            start = time.perf_counter()
            found = run()
            best = min(best, time.perf_counter() - start)
            del found  # not before: giving 143 MB back takes its time too
        measured.append(Measured(name=f"{layout.name}: {name}", seconds=best))
    return measured


def check_equal(found: np.ndarray, size: Size, what: str) -> None:
    """Exit with status 1 when `found` [N, D] is not what was written."""
    if found.shape != (size.rows, size.width) or found.dtype != np.float32:
        raise SystemExit(f"{what}: read {found.dtype} {found.shape}, wrote float32 {(size.rows, size.width)}")
    for rows in size.files():
        different = np.flatnonzero((found[rows.start : rows.stop] != vectors(rows, READ, size.width)).any(axis=1))
        if len(different):
            raise SystemExit(f"{what}: row {rows[different[0]]} of {READ} is not what was written")


def drop_from_page_cache(folder: Path) -> None:
    """Linux only; needs no rights, but the pages must be clean."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def print_tables(written: list[Measured], reads: list[Measured], rows: int) -> None:
    print(f"\n{'write':48} {'s':>9} {'rows/s':>10} {'MB':>8}")
    for line in written:
        print(f"{line.name:48} {line.seconds:9.2f} {rows / line.seconds:10,.0f} {line.megabytes:8,.0f}")
    column = reads[0].seconds
    print(f"\n{'read ' + READ:48} {'s':>9} {'rows/s':>10} {'× first':>8}")
    for line in reads:
        print(f"{line.name:48} {line.seconds:9.4f} {rows / line.seconds:10,.0f} {line.seconds / column:8.1f}")
    print()
    opened = reads[1].seconds
    for layout in LAYOUTS:
        if layout.readers is not GROUP_READERS:
            continue
        fastest = min(line.seconds for line in reads if line.name.startswith(layout.name))
        print(
            f"by column {fastest / column:.1f} times as fast as the fastest way from {layout.name} "
            f"({fastest / opened:.1f} with the shards opened before)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[1], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000, help="N")
    parser.add_argument("--width", type=int, default=3584, help="D, of each of eleven arrays")
    parser.add_argument("--rows-per-file", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is reported")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each read")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    add_json(parser)
    parser.add_argument("--check", action="store_true", help="200 rows of width 64: compare, and print no times")
    args = parser.parse_args()
    size = (
        Size(rows=200, width=64, rows_per_file=80)
        if args.check
        else Size(rows=args.rows, width=args.width, rows_per_file=args.rows_per_file)
    )
    repeats = 1 if args.check else args.repeats
    written, reads = [], []
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            written.append(write(layout, Path(folder), size, repeats))
            reads += read(layout, Path(folder), size, repeats, cold=args.cold)
    if args.check:
        print(f"{len(reads)} ways of reading agree")
        return
    print(
        f"{size.rows:,} rows, {len(BY_QUESTION)} arrays of width {size.width}, {size.rows_per_file:,} rows a file, "
        f"best of {repeats}, page cache {'cold' if args.cold else 'warm'}; "
        f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    )
    print_tables(written, reads, size.rows)
    lines = {"written": [asdict(line) for line in written], "read": [asdict(line) for line in reads]}
    versions = {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
    write_figures(args.json, {**asdict(size), **versions, "repeats": repeats, "cold": args.cold, **lines})


if __name__ == "__main__":
    main()
