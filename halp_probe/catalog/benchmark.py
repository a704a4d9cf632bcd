"""Declaration of a benchmark, and what its rows become: questions, or rows that are not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

SEE_PUBLISHER = "see the publisher"
DATASET, FOLD, FOLD_UNIT = "dataset", "fold", "fold_unit"  # columns of every benchmark's questions
QUESTIONS, ANSWERS = "questions", "answers"  # roles of files

Values = Mapping[str, Any]  # a row of a file: column -> value


@dataclass(frozen=True, kw_only=True)
class File:
    """File as a benchmark publishes it.

    Attributes
    ----------
    name
        Path below the data root; its last part alone is looked for too.
    rows
        Rows, or questions of a folder of texts, that the whole has; None where that is not fixed.
    part
        Part of the benchmark that it belongs to; "" if all parts need it.
    role
        What `Benchmark.read` asks for it by.
    member
        List in a JSON object that holds the rows.
    needed
        Whether nothing can be read without it.
    elsewhere
        Further paths below the data root at which it may lie; a name with `*` stands for all files that fit.
    """

    name: str
    rows: int | None = None
    part: str = ""
    role: str = QUESTIONS
    member: str = ""
    needed: bool = True
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a benchmark.

    Attributes
    ----------
    question_id
        Unique in the benchmark, whatever order its rows stand in.
    image
        Name of the picture's file in the folder of images, or its bytes; "" where the question is published without
        one.
    text
        All that the model is asked, options as lines "A. …".
    truth
        Ground truth, blank where it is unknown.
    columns
        Further columns, the same names for every question of a benchmark.
    tied
        Names of what must stay in one fold beside the picture: a pair, a figure. Equal names tie questions together.
    """

    question_id: str
    image: str | bytes
    text: str
    truth: str
    columns: Mapping[str, str] = field(default_factory=dict)
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotAsked:
    """Row that becomes no question, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Text beside a picture of the same name: its path and the picture's in the folder of images ("": not there)."""

    name: str
    text: str
    picture: str


class Source(Protocol):
    """Source of a benchmark's rows: its files, or a data set of the hub."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that are asked for; () for a benchmark in one piece."""

    def rows(self, role: str = QUESTIONS) -> Iterator[tuple[str, Values]]:
        """Yield each row of the files of this role, with the part that its file belongs to."""

    def texts(self) -> Iterator[tuple[str, TextFile]]:
        """Yield the texts of the folders, with the part that each belongs to."""

    def note(self, text: str) -> None:
        """Keep what a reader must know of how the rows were read."""


Read = Callable[[Source], Iterator[Question | NotAsked]]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Declaration of one benchmark.

    Attributes
    ----------
    name
        Name to ask for it by, and its value in the column `dataset`.
    title
        Name as its authors write it.
    asks
        What it asks, in a few words.
    files
        Files that it is published as.
    read
        Makes its questions from the rows of its files.
    parts
        Its parts, in order; () for a benchmark in one piece.
    usual
        Parts that are read where none is asked for; () for all.
    questions
        Number of questions in each part of the whole.
    images
        Folders below the data root in which the pictures may lie.
    pictures
        What the pictures are called, and where they come from.
    rule
        Rule that labels the answers, one of `halp_probe.labels.rules.RULES`; None: by each truth's form.
    groups
        Columns to look into: lookups as baselines, tables by group.
    fold_unit
        What stays in one fold, in words.
    folds_of
        Benchmark with the same pictures whose folds these are; "" for its own.
    faults
        What is known to be wrong with it and bears on results, a sentence each.
    mended
        Oddities of its files, and what is made of them here.
    leaks
        Columns that give the ground truth away -> how.
    where
        Where the files are published.
    licence, citation
        Of the annotations.
    """

    name: str
    title: str
    asks: str
    files: tuple[File, ...]
    read: Read
    parts: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    questions: Mapping[str, int] = field(default_factory=dict)
    images: tuple[str, ...] = (".",)
    pictures: str = ""
    rule: str | None = None
    decimals_column: str | None = None  # of its rows: to how many decimals numbers are compared
    groups: tuple[str, ...] = ()
    fold_unit: str = "picture"
    folds_of: str = ""
    faults: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    leaks: Mapping[str, str] = field(default_factory=dict)
    where: str
    licence: str = SEE_PUBLISHER
    citation: str

    @property
    def salt(self) -> str:
        """Name that its folds are drawn with."""
        return self.folds_of or self.name
