"""Flags of the command `label`, and checks of which of them go together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from halp_probe.commands.arguments import positive
from halp_probe.labels.comparison import DISAGREEMENTS
from halp_probe.labels.judge_config import WHICH, JudgeConfig
from halp_probe.labels.rules import RULES
from halp_probe.labels.table import LabelError

_TUNING = ("revision", "cache", "rate", "workers", "timeout", "tokens")  # the judge's flags that may be left out
_OF_AN_ENDPOINT = ("rate", "workers", "timeout")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `label`."""
    parser.add_argument("--shards", metavar="DIR", help="folder of shards, or one shard file")
    parser.add_argument("--out", metavar="labels.csv", help="the labels table to write")
    parser.add_argument(
        "--rule", choices=RULES, help="how answers are judged; auto (the default) picks by the ground truth's shape"
    )
    parser.add_argument(
        "--tolerance",
        type=not_negative_number,
        default=0.0,
        metavar="SHARE",
        help="numbers are right within this share of the truth (0.05 for charts; 0)",
    )
    parser.add_argument(
        "--decimals-column",
        metavar="NAME",
        help="column of the shards that says to how many decimals numbers are compared (MathVista: precision)",
    )
    parser.add_argument("--table", metavar="FILE", help="table of labels made elsewhere, of any form; needs --column")
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of labels in --table, or in --compare (there: label): 0 right, 1 hallucinated, empty unknown",
    )
    _add_judge(
        parser.add_argument_group(
            "a judge model", "at an endpoint (extra `judge`; its key: OPENAI_API_KEY), or loaded here (extra `extract`)"
        )
    )
    compare = parser.add_argument_group("agreement with a person")
    compare.add_argument(
        "--compare",
        metavar="reviewed.csv",
        help="compare with a person's labels: agreement, Cohen's kappa, and disagreements.csv beside the labels",
    )
    compare.add_argument(
        "--labels",
        metavar="labels.csv",
        help="existing labels, to --compare, --report or --check them without making new ones",
    )
    report = parser.add_argument_group("what the labels rest on")
    report.add_argument(
        "--report",
        action="store_true",
        help="write labels.report.md (counts by rule, samples, what absence decided, the lean) and labels.check.csv, a "
        "sheet to check by hand",
    )
    report.add_argument(
        "--report-columns",
        nargs="+",
        metavar="NAME",
        help="report by these columns of --shards too (dataset, category, …)",
    )
    report.add_argument(
        "--check", metavar="labels.check.csv", help="error rates and kappa from a sheet that was filled in"
    )


def _add_judge(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--judge",
        choices=WHICH,
        help="ask a model about all answers, those that the rules leave unknown, or those of the rule contains that it "
        "leaves unknown or calls hallucinated by absence alone",
    )
    group.add_argument(
        "--judge-url",
        metavar="URL",
        help="OpenAI-compatible endpoint, as http://localhost:8000/v1; without it the model is loaded here",
    )
    group.add_argument(
        "--judge-model", metavar="NAME", help="the model to ask there, or to load: a hub name or a folder"
    )
    group.add_argument("--judge-revision", metavar="COMMIT", help="of a model that is loaded")
    group.add_argument(
        "--judge-cache", metavar="FILE", help="verdicts so far, never asked again (beside --out: labels.verdicts.jsonl)"
    )
    group.add_argument("--judge-rate", type=_above_zero, metavar="N", help="requests a second at most (5)")
    group.add_argument("--judge-workers", type=positive, metavar="N", help="requests at once at most (4)")
    group.add_argument("--judge-timeout", type=_above_zero, metavar="SECONDS", help="for one reply (60)")
    group.add_argument("--judge-tokens", type=positive, metavar="N", help="of one reply (16); more if it thinks aloud")


def check(args: argparse.Namespace) -> None:
    """Raise LabelError for flags that contradict each other or need another one."""
    if args.report_columns is not None and not (args.report and args.shards):
        raise LabelError("--report-columns needs --report, and --shards, which hold the columns")
    if args.labels is not None:
        _check_labels(args)
    elif args.compare is not None and args.shards is None and args.out is None:
        raise LabelError(
            "--compare needs labels to compare with: pass --labels labels.csv, or make them: --shards DIR --out FILE"
        )
    elif args.shards is None or args.out is None:
        raise LabelError("--shards DIR and --out labels.csv are both needed to label")
    if args.compare is None:
        return
    if args.table is not None:
        raise LabelError("--compare does not go with --table: write labels.csv first, then pass it as --labels")
    compare, labels = Path(args.compare), Path(args.labels or args.out)
    if args.out is not None and compare.resolve() == labels.resolve():
        raise LabelError(f"--out would overwrite {compare}, the table to compare with; name another file")
    if labels.with_name(DISAGREEMENTS).resolve() in (compare.resolve(), labels.resolve()):
        raise LabelError(
            f"--compare would overwrite {labels.with_name(DISAGREEMENTS)}, a table that you passed; rename it"
        )


def _check_labels(args: argparse.Namespace) -> None:
    if args.compare is None and args.check is None and not args.report:
        raise LabelError("--labels goes with --compare, --report or --check: pass one of them too")
    for name in ("out", "rule", "table", "judge"):
        if getattr(args, name) is not None:
            raise LabelError(f"--{name} does not go with --labels: those labels are taken as they are")


def judge_config(args: argparse.Namespace) -> JudgeConfig | None:
    """Return the judge that the flags ask for, or None. Raises LabelError for an incomplete one."""
    flags = {name: getattr(args, f"judge_{name}") for name in ("url", "model", *_TUNING)}
    flags = {name: value for name, value in flags.items() if value is not None}
    if args.judge is None:
        if flags:
            raise LabelError(f"--judge-{next(iter(flags))} needs --judge {' or '.join(WHICH)}")
        return None
    if not flags.get("model"):
        raise LabelError("--judge needs --judge-model: the model to load, or with --judge-url the one to ask there")
    if useless := [name for name in _OF_AN_ENDPOINT if name in flags and not flags.get("url")]:
        raise LabelError(f"--judge-{useless[0]} needs --judge-url: a model that is loaded here has no such limit")
    if "tokens" in flags:
        flags["max_tokens"] = flags.pop("tokens")
    return JudgeConfig(which=args.judge, **flags)


def tolerances(args: argparse.Namespace) -> dict[str, Any]:
    """Return how far numbers may be from the truth, as `label` takes it."""
    return {"tolerance": args.tolerance, "decimals_column": args.decimals_column}


def not_negative_number(text: str) -> float:
    """Parse a number of 0 or more, for argparse's `type`."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return value


def _above_zero(text: str) -> float:
    """Parse a number above 0, for argparse's `type`."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value
