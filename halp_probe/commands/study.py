"""`halp-probe study`: extract, label, train and report in one command, which can be killed and run again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from halp_probe.catalog.benchmark import FOLD
from halp_probe.commands import extract, train_probes, vqa
from halp_probe.commands.image_flags import add_link_argument
from halp_probe.commands.label import label_into
from halp_probe.commands.named_flags import named_dataset
from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.task_inputs import PLAIN
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.errors import InputError
from halp_probe.extraction.options import ExtractOptions
from halp_probe.labels.rules import RULES
from halp_probe.locking import lock_folder
from halp_probe.records import Sample
from halp_probe.steps import Steps, content_fingerprint, files_fingerprint, fingerprint
from halp_probe.tasks.task import TaskInput
from halp_probe.version import __version__

RECORD, SHARDS, LABELS, REPORT, LEADERBOARD = "study.json", "shards", "labels.csv", "report", "leaderboard.csv"
COMPARISON = "comparison.csv"
_EXTRACT, _LABEL, _TRAIN = "extract", "label", "train"
_FASTER = ("output_dir", "source", "checkpoint_interval", "batch_tokens", "workers")  # options that change no state
_MOST_GROUPS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `study`."""
    vqa.add_input_arguments(parser)
    add_link_argument(parser)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, metavar="DIR", help="for shards/, labels.csv, report/, study.json")
    extract.add_capture_arguments(parser, {PLAIN: vqa.USUAL.max_new_tokens})
    add("--compare", nargs="+", type=Path, metavar="DIR", help="compare finished studies of the same questions, paired")
    add("--retry-failed", action="store_true", help="extract again what failed, although nothing has changed")
    add("--rule", choices=RULES, help="how answers are judged (the benchmark's own rule, or auto)")
    train_probes.add_design_arguments(parser)
    parser.set_defaults(task=PLAIN, no_answers=False, test=False)


def run(args: argparse.Namespace) -> int:
    """Do the steps that are not done; the exit status is that of the first step that ends early, or 0."""
    if args.compare is not None:
        return _compare(args)
    with lock_folder(args.output_dir):
        plan = _plan(args)
        steps = Steps(args.output_dir / RECORD)
        if status := _extract(args, plan, steps):
            return status
        _label(args, plan, steps)
        _train(args, plan, steps)
        _leaderboard(args, plan)
    return 0


def _compare(args: argparse.Namespace) -> int:
    """Print and write the paired differences of finished studies."""
    from halp_probe.bootstrap import Draws
    from halp_probe.probes.compared import compare_studies, read_study, write_comparison

    if len(set(args.compare)) < 2:
        raise InputError("--compare takes the folders of two or more studies")
    studies = [read_study(folder, str(folder)) for folder in dict.fromkeys(args.compare)]
    found = compare_studies(studies, Draws(count=args.bootstrap, seed=args.seed))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    write_comparison(args.output_dir / COMPARISON, found)
    for each in found:
        what = "AUROC of the selected probe" if each.measure == "auroc" else "share of wrong answers"
        difference = each.difference
        print(
            f"{each.b} − {each.a}, {what}: {each.value_b:.3f} − {each.value_a:.3f} = {difference.value:+.3f} "
            f"({difference.low:+.3f} to {difference.high:+.3f}), p = {each.p_value:.2g}; "
            f"{each.questions} questions on {each.images} images"
        )
    print(f"{args.output_dir / COMPARISON} holds {len(found)} differences")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Questions of a study, and what their benchmark says of how answers are judged."""

    task_input: TaskInput[Sample, str]
    name: str  # of the benchmark, or of the table's file
    split: str | None = None  # hash of the benchmark's fixed folds
    rule: str | None
    decimals_column: str | None = None
    groups: tuple[str, ...]
    folds: int | str | None


def _plan(args: argparse.Namespace) -> _Plan:
    """Read what is asked. Raises what reading it raises."""
    if args.dataset is None:
        if args.vqa_dataset is None:
            raise InputError("`dataset` NAME or `vqa_dataset` FILE is needed: what the model is asked")
        return _Plan(
            task_input=vqa.read_input(args),
            name=args.vqa_dataset.name,
            rule=args.rule,
            groups=tuple(args.group_columns),
            folds=args.folds,
        )
    found = named_dataset(args)
    return _Plan(
        task_input=found.task_input(),
        name=found.benchmark.name,
        split=found.split,
        rule=args.rule or found.benchmark.rule,
        decimals_column=found.benchmark.decimals_column,
        groups=tuple(args.group_columns) or _usable(found.benchmark.groups, found.samples),
        folds=args.folds or (None if args.preset else FOLD),
    )


def _usable(groups: Sequence[str], samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the groups of which there are at least two, and not too many to look into."""
    return tuple(name for name in groups if 2 <= len({sample.extra[name] for sample in samples}) <= _MOST_GROUPS)


def _extract(args: argparse.Namespace, plan: _Plan, steps: Steps) -> int:
    from halp_probe.extraction.extract import extract_items

    folder, samples = args.output_dir / SHARDS, plan.task_input.items
    options = replace(extract.extract_options(args), output_dir=folder)
    inputs = {
        "rows": fingerprint([asdict(sample) for sample in samples]),
        "pictures": files_fingerprint({Path(str(plan.task_input.images_dir)) / each.image_id for each in samples}),
        "settings": _settings(options),
    }
    if not args.retry_failed and steps.result(_EXTRACT, inputs) == _shards(folder):
        print(f"{_EXTRACT}: done already, {folder}")
        return 0
    if (before := steps.inputs(_EXTRACT).get("rows")) not in (None, inputs["rows"]):
        _set_aside(folder, before, samples)
    steps.begin(_EXTRACT, inputs)
    stop = StopSignals()
    with progress_on_terminal() as progress:
        extraction = extract_items(options, plan.task_input, progress=progress, stopping=stop)
    if status := extract.report(extraction, stop):
        return status
    steps.finish(_EXTRACT, _shards(folder))
    return 0


def _settings(options: ExtractOptions) -> str:
    return fingerprint({name: value for name, value in asdict(options).items() if name not in _FASTER})


def _shards(folder: Path) -> str:
    return files_fingerprint(folder.glob("*.h5"))


def _set_aside(folder: Path, before: str, samples: Sequence[Sample]) -> None:
    """Rename the folder of shards unless all its questions are asked as before: then only new ones are added."""
    from halp_probe.shards.columns import table_texts
    from halp_probe.shards.reader import open_shards

    if not folder.exists():
        return
    if any(folder.glob("*.h5")):
        shards = open_shards(folder)
        now = {sample.question_id: table_texts(sample) for sample in samples}
        names = next(iter(now.values()))
        stored = zip(shards.question_ids, *(shards.text(name) for name in names if shards.has(name)), strict=True)
        if all(shards.has(name) for name in names) and all(
            tuple(now.get(question_id, {}).values()) == tuple(texts) for question_id, *texts in stored
        ):
            return
    aside = folder.with_name(f"{folder.name}-of-{before[:8]}")
    if aside.exists():
        raise InputError(f"{aside} is there already, from another input; move it away, and run this again")
    folder.rename(aside)
    print(f"the questions have changed: {folder} is now {aside}, and they are asked anew")


def _label(args: argparse.Namespace, plan: _Plan, steps: Steps) -> None:
    path = args.output_dir / LABELS
    inputs = {
        "shards": _shards(args.output_dir / SHARDS),
        "rule": plan.rule,
        "decimals": plan.decimals_column,
        "version": __version__,
    }
    last, now = steps.last(_LABEL), content_fingerprint(path)
    edited = bool(now) and last not in (None, now)
    if now and steps.result(_LABEL, inputs) is not None:
        print(f"{_LABEL}: done already, {path}{', edited since, and taken as it is' if edited else ''}")
        return
    if edited:
        raise InputError(
            f"{path} was edited, and its shards or its rule have changed since; move it away to label anew"
        )
    steps.begin(_LABEL, inputs)
    label_into(path, args.output_dir / SHARDS, plan.rule, decimals_column=plan.decimals_column)
    steps.finish(_LABEL, content_fingerprint(path))


def _train(args: argparse.Namespace, plan: _Plan, steps: Steps) -> None:
    folder, labels, shards = args.output_dir / REPORT, args.output_dir / LABELS, args.output_dir / SHARDS
    flags = _train_flags(args, plan, shards, labels, folder)
    inputs = {
        "shards": _shards(shards),
        "labels": content_fingerprint(labels),
        "design": fingerprint({name: value for name, value in vars(flags).items() if name != "output_dir"}),
        "version": __version__,
    }
    page = folder / "report.html"
    if steps.result(_TRAIN, inputs) == content_fingerprint(page):
        print(f"{_TRAIN}: done already, {page}")
        return
    steps.begin(_TRAIN, inputs)
    train_probes.run(flags)
    steps.finish(_TRAIN, content_fingerprint(page))


def _train_flags(args: argparse.Namespace, plan: _Plan, shards: Path, labels: Path, folder: Path) -> argparse.Namespace:
    """Return the flags of train-probes: its own defaults, those given here, and what the benchmark says."""
    parser, design = argparse.ArgumentParser(), argparse.ArgumentParser()
    train_probes.add_arguments(parser)
    train_probes.add_design_arguments(design)
    flags = parser.parse_args(["--shards", str(shards), "--labels", str(labels), "--output-dir", str(folder)])
    for name in (*vars(design.parse_args([])), "allow_links", "seed"):
        setattr(flags, name, getattr(args, name))
    flags.group_columns, flags.folds = list(plan.groups), plan.folds
    return flags


def _leaderboard(args: argparse.Namespace, plan: _Plan) -> None:
    """Write the study as one row of a table, which rows of others can be put below."""
    import csv

    from halp_probe.files import atomic_text
    from halp_probe.report.reading import REPORT_FILE, read_report

    report = read_report(args.output_dir / REPORT / REPORT_FILE)
    row = _row(report, plan)
    path = args.output_dir / LEADERBOARD
    with atomic_text(path) as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    print(f"{path}: one row, to compare with others of the same split")


def _row(report: dict[str, Any], plan: _Plan) -> dict[str, Any]:
    headline, data, made = report["headline"], report["data"], report["made"]
    best = headline["best_baseline"]
    return {
        "dataset": plan.name,
        "split_sha256": plan.split,
        "trained_split_sha256": (made["fixed_split"] or {}).get("sha256"),
        "questions": len(plan.task_input.items),
        "labelled": data["n"],
        "hallucinated": data["n_positive"],
        "images": data["n_images"],
        "model": data["model_name"],
        "revision": data["revision"],
        "rule": plan.rule or "auto",
        "probe": made["probe"],
        "folds": made["folds"],
        **{f"auroc{end}": headline["auroc"][key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))},
        "best_baseline": best and best["name"],
        "best_baseline_auroc": best and best["auroc"]["value"],
        "halp_probe_version": made["halp_probe_version"],
    }
