"""`halp-probe rivals`: measures of uncertainty from the sampled answers in shards, as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.arguments import share
from halp_probe.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `rivals`."""
    add = parser.add_argument
    add("--shards", type=Path, required=True, help="shards of a run with --samples")
    add("--out", type=Path, default=Path("rivals.csv"), help="the table: question_id and the measures (./rivals.csv)")
    add("--entailment", metavar="MODEL", help="classifier of MNLI that sorts answers by meaning (equal texts)")
    add("--entailment-threshold", type=share, help="least probability of entailment, both ways (the likeliest class)")
    add("--device", default="auto", help="of the classifier: auto, cpu or cuda (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the table; the exit status is 0."""
    from halp_probe.rivals.entailment import entailment_clusters, load_entailment
    from halp_probe.rivals.measures import sampled_measures
    from halp_probe.rivals.table import write_rivals
    from halp_probe.shards.reader import open_shards

    if args.entailment is None and args.entailment_threshold is not None:
        raise InputError("--entailment-threshold goes with --entailment")
    shards = open_shards(args.shards)
    clusters = None
    if args.entailment is not None:
        model = load_entailment(args.entailment, device=args.device, threshold=args.entailment_threshold)
        clusters = entailment_clusters(shards, model)
    measures = sampled_measures(shards, clusters)
    write_rivals(args.out, shards.question_ids, measures)
    print(f"{args.out} holds {len(measures)} measures of {len(shards.question_ids)} questions, higher = riskier")
    return 0
