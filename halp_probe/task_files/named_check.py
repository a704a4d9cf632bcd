"""Check of a benchmark's download: each file, the number of questions, the pictures, the folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from halp_probe.catalog.benchmark import FOLD, FOLD_UNIT, File
from halp_probe.catalog.entries import Chosen
from halp_probe.catalog.folds import FOLDS, split_hash
from halp_probe.datasets import Table
from halp_probe.engine.images import folder_path
from halp_probe.errors import InputError
from halp_probe.tables.picture_folder import picture_ending
from halp_probe.task_files.named_files import TEXTS, NamedFiles
from halp_probe.task_files.named_hub import HubRows
from halp_probe.task_files.named_reading import Reading, find_images, open_source, read_questions, table_of
from halp_probe.task_files.named_rows import Asked

_SHOWN = 3  # names of pictures that are missing
_LARGE = 0.25  # share of the rows in one unit, beyond which folds cannot be even


@dataclass
class Check:
    """Findings: `facts` (name, value), `warnings` of what is not the whole, and `errors` that forbid its use."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def check_download(chosen: Chosen, root: Path | None, reading: Reading) -> Check:
    """Check all that can be checked; an error in one place does not keep the others from being checked."""
    check = Check()
    if chosen.benchmark.files and root is not None and root.is_dir():
        _check_files(NamedFiles(chosen.benchmark, chosen.parts, root), check)
    if check.errors:
        return check
    try:
        source = open_source(chosen, root, None)
        held: set[str] = set()
        asked = read_questions(source, lambda data: _name(data, held))
        images_dir = folder_path(find_images(source, asked, reading))
        table, failures = table_of(source.benchmark, asked, images_dir)
    except InputError as error:
        check.errors.append(str(error))
        return check
    check.warnings += source.notes if isinstance(source, HubRows) else []
    check.warnings += [f"question {each.question_id}: {each.reason}" for each in (*table.failures, *failures)[:_SHOWN]]
    _check_questions(chosen, asked, table, check)
    if not isinstance(source, HubRows):
        _check_pictures(images_dir, set(asked.names) - held, check)
    _check_folds(table, check)
    return check


def _name(data: bytes, held: set[str]) -> str:
    name = f"{hashlib.sha256(data).hexdigest()}{picture_ending(data)}"
    held.add(name)
    return name


def _check_files(files: NamedFiles, check: Check) -> None:
    """Read each file on its own. A file that is missing is an error where nothing is left to read without it."""
    title, where = files.benchmark.title, files.benchmark.where
    absent: list[File] = []
    for file in files.files:
        try:
            paths = files.paths(file)
            if not paths:
                absent.append(file)
                continue
            found = _count(files, file)
        except InputError as error:
            check.errors.append(str(error))
            continue
        of = "" if file.rows is None else f" of {file.rows:,}"
        check.facts.append((file.name, f"{found:,}{of} rows"))
        if file.rows is not None and found < file.rows:
            check.warnings.append(f"{paths[0]} has {found:,} of {file.rows:,} rows: it is not the whole of {title}")
        elif file.rows is not None and found > file.rows:
            check.warnings.append(f"{paths[0]} has {found:,} rows, {title} published {file.rows:,}: another version?")
    needed = [file for file in absent if file.needed]
    lost = {file.part for file in needed}
    unusable = "" in lost or (bool(files.parts) and lost >= set(files.parts))
    for file in absent:
        line = f"{files.root / file.name} is missing; get it from {where}"
        (check.errors if unusable and file in needed else check.warnings).append(line)


def _count(files: NamedFiles, file: File) -> int:
    if file.role == TEXTS:
        files.parts = (file.part,)
        return sum(1 for _ in files.texts()) and files.counts[file]
    return sum(1 for _ in files.rows_of(file))


def _check_questions(chosen: Chosen, asked: Asked, table: Table, check: Check) -> None:
    whole = sum(chosen.benchmark.questions.get(part, 0) for part in chosen.parts or ("",))
    count = len(table.samples)
    check.facts.append(("questions", f"{count:,} of {whole:,}" if whole else f"{count:,}"))
    check.facts += [("not asked", f"{number:,} rows: {reason}") for reason, number in asked.left_out.items()]
    blank = sum(not sample.answer.strip() for sample in table.samples)
    if blank:
        check.facts.append(("without truth", f"{blank:,}: their labels will be unknown"))
    if whole and count != whole:
        check.warnings.append(f"{count:,} questions where the whole has {whole:,}: results are of this part alone")


def _check_pictures(folder: Path, names: set[str], check: Check) -> None:
    missing = sorted(name for name in names if not _is_there(folder / name))
    if not names:
        return
    check.facts.append(("pictures", f"{len(names) - len(missing):,} of {len(names):,} in {folder}"))
    if missing:
        first = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        line = f"{len(missing):,} of {len(names):,} pictures are missing or empty in {folder} (first: {first})"
        everything = len(missing) == len(names)
        remedy = "pass their folder as `images_dir`" if everything else "questions on them fail; get the pictures again"
        (check.errors if everything else check.warnings).append(f"{line}; {remedy}")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:  # a name too long
        return False


def _check_folds(table: Table, check: Check) -> None:
    samples = table.samples
    sizes = Counter(sample.extra[FOLD] for sample in samples)
    units = Counter(sample.extra[FOLD_UNIT] for sample in samples)
    check.facts.append(("folds", " + ".join(f"{sizes[str(fold)]:,}" for fold in range(FOLDS))))
    split = split_hash((sample.question_id for sample in samples), (sample.extra[FOLD] for sample in samples))
    check.facts.append(("split", f"sha256 {split}"))
    for unit, rows in units.most_common(1):
        if rows > _LARGE * len(samples):
            check.warnings.append(f"{rows:,} of {len(samples):,} questions belong to one fold together ({unit})")
    if empty := [str(fold) for fold in range(FOLDS) if not sizes[str(fold)]]:
        check.warnings.append(f"no question is in fold {', '.join(empty)}: too few are here")


def card_lines(chosen: Chosen) -> Iterator[tuple[str, str]]:
    """Yield what a benchmark's declaration says: a name and a value for each line."""
    benchmark = chosen.benchmark
    yield "from", benchmark.where
    if benchmark.parts:
        yield "parts", f"{', '.join(benchmark.parts)} (read here: {', '.join(chosen.parts) or 'none'})"
    yield "pictures are", f"{benchmark.pictures}; looked for in {', '.join(benchmark.images)}"
    yield "label rule", benchmark.rule or "auto (by each truth's form)"
    yield "groups", ", ".join(benchmark.groups) or "none"
    yield "in one fold", benchmark.fold_unit + (f" (the folds of {benchmark.folds_of})" if benchmark.folds_of else "")
    for fault in benchmark.faults:
        yield "known", fault
    for oddity in benchmark.mended:
        yield "mended", oddity
    yield "licence", benchmark.licence
    yield "citation", benchmark.citation
