"""python benchmarks/table_reading.py --rows 1000000

How much memory the reading of a table takes, and how long: record by record, and into samples, for each form.
Each reading is a process of its own, whose peak is compared with the file's size, and with a process that only imports.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from figures import add_json, write_figures

from halp_probe.datasets import read_table
from halp_probe.tables.reading import read_records

NAMES = ("question_id", "image_id", "question", "answer", "category", "source")
READINGS: dict[str, Callable[[Path], int]] = {
    "nothing": lambda path: 0,
    "records": lambda path: sum(1 for _ in read_records(path)),
    "samples": lambda path: len(read_table(path).samples),
}
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One process; `peak` in bytes, as the system counts the resident set."""

    form: str
    what: str
    rows: int
    file_bytes: int
    seconds: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each table (%(default)s)")
    parser.add_argument("--read", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    add_json(parser)
    args = parser.parse_args()
    if args.read:
        print(json.dumps(_read(args.read[0], Path(args.read[1]))))
        return
    readings = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in WRITERS.items():
            path = Path(folder) / name
            write(path, args.rows)
            for what in READINGS:
                readings.append(_in_a_process(what, path))
                _show(readings[-1], readings)
            path.unlink()
    write_figures(args.json, {"rows": args.rows, "readings": [asdict(each) for each in readings]})


def rows(count: int) -> Iterator[tuple[str, ...]]:
    """Rows as a benchmark has them: six questions an image, short answers, few categories."""
    for number in range(count):
        question = f"Is there a thing of the kind {number % 997} beside the other one in the {number // 6}th image?"
        truth = "yes" if number % 2 else "no"
        yield f"benchmark_{number:08d}", f"val2014_{number // 6:012d}.jpg", question, truth, f"c{number % 12}", "made"


def _separated(separator: str) -> Callable[[Path, int], None]:
    def write(path: Path, count: int) -> None:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(NAMES)
            writer.writerows(rows(count))

    return write


def _json(opening: str, between: str, closing: str) -> Callable[[Path, int], None]:
    def write(path: Path, count: int) -> None:
        with path.open("w") as file:
            for number, row in enumerate(rows(count)):
                file.write(f"{between if number else opening}{json.dumps(dict(zip(NAMES, row, strict=True)))}")
            file.write(closing)

    return write


def _parquet(path: Path, count: int) -> None:
    schema = pa.schema([(name, pa.string()) for name in NAMES])
    made = rows(count)
    with pq.ParquetWriter(path, schema) as writer:
        while block := list(islice(made, _ROWS_AT_ONCE)):
            writer.write_table(pa.table([list(column) for column in zip(*block, strict=True)], schema=schema))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "table.csv": _separated(","),
    "table.tsv": _separated("\t"),
    "table.jsonl": _json("", "\n", "\n"),
    "table.json": _json("[", ",\n", "]\n"),
    "table.parquet": _parquet,
}


def _read(what: str, path: Path) -> dict[str, float]:
    start = time.perf_counter()
    count = READINGS[what](path)
    scale = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return {"rows": count, "seconds": time.perf_counter() - start, "peak": peak}


def _in_a_process(what: str, path: Path) -> Reading:
    command = [sys.executable, __file__, "--read", what, str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return Reading(form=path.suffix, what=what, file_bytes=path.stat().st_size, **found)


def _show(reading: Reading, before: Sequence[Reading]) -> None:
    imports = next(each.peak for each in before if each.form == reading.form and each.what == "nothing")
    if reading.what == "nothing":
        print(f"{reading.form}: {reading.file_bytes / 1e6:.0f} MB on disk, {imports / 1e6:.0f} MB resident without it")
        return
    own = reading.peak - imports
    print(
        f"  {reading.what}: {reading.rows} rows in {reading.seconds:.1f} s, {reading.peak / 1e6:.0f} MB resident; "
        f"{own / reading.file_bytes:.2f} of the file's size above the imports"
    )


if __name__ == "__main__":
    main()
