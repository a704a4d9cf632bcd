"""All benchmarks by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from halp_probe.catalog.amber import AMBER
from halp_probe.catalog.benchmark import Benchmark
from halp_probe.catalog.captionqa import CAPTIONQA
from halp_probe.catalog.gqa import GQA
from halp_probe.catalog.hallusionbench import HALLUSIONBENCH
from halp_probe.catalog.haloquest import HALOQUEST
from halp_probe.catalog.human_answers import TEXTVQA, VIZWIZ, VQAV2
from halp_probe.catalog.lmms_eval import lmms_eval
from halp_probe.catalog.mathvista import MATHVISTA
from halp_probe.catalog.mme import MME
from halp_probe.catalog.mmvp import MMVP
from halp_probe.catalog.pope import POPE, REPOPE
from halp_probe.catalog.scienceqa import SCIENCEQA
from halp_probe.catalog.vlmevalkit import vlmevalkit
from halp_probe.errors import InputError

BENCHMARKS: Mapping[str, Benchmark] = {
    each.name: each
    for each in (
        *(POPE, REPOPE, AMBER, HALLUSIONBENCH, HALOQUEST, MME, MMVP, MATHVISTA),
        *(VIZWIZ, TEXTVQA, VQAV2, GQA, SCIENCEQA, CAPTIONQA),
    )
}
VLMEVALKIT, LMMS_EVAL = "vlmevalkit", "lmms-eval"
ANY = {VLMEVALKIT: "FILE.tsv", LMMS_EVAL: "REPOSITORY"}  # names of whole collections, and what follows the colon


@dataclass(frozen=True)
class Chosen:
    """Benchmark and the parts of it that are asked for."""

    benchmark: Benchmark
    parts: tuple[str, ...]


def choose(name: str, columns: Mapping[str, str] | None = None) -> Chosen:
    """Return the benchmark of a name: `pope`, some parts of it (`pope:random,popular`), or one of a collection.

    `columns` maps names of fields, for `lmms-eval`. Raises InputError for a name that there is not.
    """
    first, _, rest = name.partition(":")
    if first in ANY:
        if not rest:
            raise InputError(f"`dataset` {first} needs a name after a colon: {first}:{ANY[first]}")
        repository, _, split = rest.partition(":")
        found = vlmevalkit(rest) if first == VLMEVALKIT else lmms_eval(repository, columns or {})
        return Chosen(found, tuple(filter(None, split.split(","))) if first == LMMS_EVAL else ())
    if columns:
        raise InputError("`column` goes with `dataset` lmms-eval:REPOSITORY; the other benchmarks know their columns")
    if first not in BENCHMARKS:
        known = [*BENCHMARKS, *(f"{each}:{what}" for each, what in ANY.items())]
        near = difflib.get_close_matches(first.lower(), BENCHMARKS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"`dataset` {first!r} is no benchmark that is known by name; {hint}there are {', '.join(known)}"
        )
    benchmark = BENCHMARKS[first]
    return Chosen(benchmark, _parts(benchmark, rest))


def _parts(benchmark: Benchmark, wanted: str) -> tuple[str, ...]:
    if not wanted:
        return benchmark.usual or benchmark.parts
    named = tuple(dict.fromkeys(wanted.split(",")))
    if unknown := [part for part in named if part not in benchmark.parts]:
        there = f"its parts are {', '.join(benchmark.parts)}" if benchmark.parts else "it has none"
        raise InputError(f"`dataset` {benchmark.name} has no part {unknown[0]!r}; {there}")
    return named
