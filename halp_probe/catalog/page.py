"""Text of `docs/datasets.md`, and the list for a terminal, written from the benchmarks' declarations."""

from __future__ import annotations

from halp_probe.catalog.benchmark import Benchmark
from halp_probe.catalog.entries import ANY, BENCHMARKS, choose

_HEAD = """\
# Benchmarks by name

Written from `halp_probe/catalog/` by `halp-probe datasets --markdown`; a test keeps the two in step.

A benchmark that you have as its authors publish it needs no table of your own:

```bash
halp-probe datasets repope --data-root data/pope
python extract.py --dataset repope --data-root data/pope --output-dir output
halp-probe study --dataset repope --data-root data/pope --output-dir study
```

The first line checks the download: which files are missing, which numbers differ, which pictures are not there.
`--data-root` is the folder of the files; each is looked for under its published path, and by its name alone. The
pictures are looked for in folders below it, or in `--images-dir`. `halp-probe study` extracts, labels by the
benchmark's rule, trains on its fixed folds and writes the report; run again after a kill, it goes on, and it redoes
what depends on an input that has changed.

Parts are named after a colon: `pope:random,popular`, `haloquest:train`. Without, those marked in the table are read.

**Columns.** Every question has `dataset`, the columns of its benchmark, `fold_unit` and `fold`. Ids begin with the
benchmark's name and do not depend on the order of the rows. `repope` has the ids and the folds of `pope`, so that its
labels can be compared with those on POPE's own.

**Fixed folds.** What belongs together is one unit: questions on one picture (equal files under two names count as
one), and what the table names, also through others. The fold of a unit is the remainder modulo 5 of SHA-256 of two
lines, the benchmark's name and the unit's. So it depends neither on the order of the rows nor on the machine, a slice
has the folds of the whole, and rows that are added elsewhere move no unit; only rows that tie two units together do.
The folds are of about one size, not of exactly one: `halp-probe datasets NAME --data-root DIR` prints their sizes,
and SHA-256 of all sorted lines `question_id TAB fold`. The same hash is in `run.json`, in the report and in each
probe's card: two labs whose hashes are equal judge the same split. `train_probes.py --folds column:fold` trains on
them; an image on both sides is an error, told by the content of the files.

**Known faults** are printed with the results and stand in the report, and a group column that gives the truth away is
a serious warning there.

In Python: `halp_probe.dataset("repope", "data/pope")`, whose `rows` and `images_dir` go to `halp_probe.extract`.

"""
_TABLE = (
    "| name | questions | what it asks | label rule | groups | in one fold |\n| --- | --- | --- | --- | --- | --- |\n"
)
_COLLECTIONS = """\
## Collections

`vlmevalkit:FILE.tsv` reads a table of VLMEvalKit: `index`, `image` (base64, or the index of the row that has the
picture) or `image_path`, `question`, `A`, `B`, …, `answer`; the prompt is the one that VLMEvalKit builds.
`lmms-eval:REPOSITORY:SPLIT` reads a data set of the hub, or a folder of it, through the package `datasets`, as
lmms-eval does: fields are told by their common names, which the output says; `--column question=query` names one that
is called otherwise (`question_id`, `question`, `answer`, `image`, `options`). Of both, what is wrong with the
benchmark itself is not known here. Data sets with several configurations are read from a folder: `save_to_disk` the
one that is meant.

"""


def datasets_page() -> str:
    """Return the whole page."""
    rows = "".join(_row(each) for each in BENCHMARKS.values())
    details = "\n".join(_details(each) for each in BENCHMARKS.values())
    return f"{_HEAD}{_TABLE}{rows}\n{_COLLECTIONS}## One by one\n\n{details}"


def datasets_list() -> str:
    """Return the table as lines for a terminal."""
    names = [*BENCHMARKS, *(f"{name}:{what}" for name, what in ANY.items())]
    width = max(map(len, names))
    head = f"{'name':{width}}  {'questions':>9}  {'rule':8}  what it asks"
    lines = [head, *(_line(each, width) for each in BENCHMARKS.values())]
    for name, what in ANY.items():
        lines.append(f"{name + ':' + what:{width}}  {'':>9}  {'auto':8}  {choose(f'{name}:x').benchmark.asks}")
    return "\n".join(
        [*lines, "halp-probe datasets NAME says what is known of one; with --data-root DIR it checks a download"]
    )


def _line(benchmark: Benchmark, width: int) -> str:
    count = _questions(benchmark)
    first = f"{benchmark.name:{width}}  {count:>9}  {benchmark.rule or 'auto':8}  {benchmark.asks}"
    return "\n".join([first, *(f"{'':{width}}    {fault}" for fault in benchmark.faults)])


def _questions(benchmark: Benchmark) -> str:
    """Return the number of questions in the parts that are read where none is named."""
    count = sum(benchmark.questions.get(part, 0) for part in benchmark.usual or benchmark.parts or ("",))
    return f"{count:,}" if count else "–"


def _row(benchmark: Benchmark) -> str:
    cells = (
        f"[`{benchmark.name}`](#{benchmark.name})",
        _questions(benchmark),
        benchmark.asks,
        f"`{benchmark.rule or 'auto'}`",
        ", ".join(f"`{group}`" for group in benchmark.groups) or "–",
        benchmark.fold_unit,
    )
    return f"| {' | '.join(cells)} |\n"


def _details(benchmark: Benchmark) -> str:
    usual = benchmark.usual or benchmark.parts
    parts = [f"`{part}`{' (read)' if part in usual else ''}" for part in benchmark.parts]
    files = [f"`{file.name}`" + (f" ({file.rows:,} rows)" if file.rows else "") for file in benchmark.files]
    lines = [
        f"### {benchmark.name}\n",
        f"{benchmark.title}: {benchmark.asks}.\n",
        f"- From: {benchmark.where}.",
        f"- Files: {', '.join(files) or 'through the package `datasets`'}.",
        *([f"- Parts: {', '.join(parts)}."] if parts else []),
        f"- Pictures: {benchmark.pictures}; looked for in {', '.join(f'`{name}`' for name in benchmark.images)}.",
        *(f"- Known: {fault}." for fault in benchmark.faults),
        *(f"- Mended: {oddity}." for oddity in benchmark.mended),
        f"- Licence: {benchmark.licence}. Citation: {benchmark.citation}.",
    ]
    return "\n".join(lines) + "\n"
