"""Layout of a VQA table: which of its columns hold what a sample has, under what names, and which are further ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from halp_probe.csv_files import columns_text, header_fault
from halp_probe.errors import InputError
from halp_probe.plain_text import is_whole, shorten
from halp_probe.tables.mapping import column_of

CORE = ("question_id", "image_id", "question", "answer")
PICTURES = "image"  # the column that holds pictures, or names them if no other does
NAMES = "image_name"  # a further column: the name of a picture that the table holds
BROKEN = "a NUL character or half a surrogate pair"
_ALIASES = {"image_id": NAMES, "answer": "gt_answer"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Columns of a table. `sources`: our names, each with its place in a record; `taken`: those that are not further.

    `pictures` is a column in which a picture, where it holds one, goes before what `image_id` names.
    """

    sources: Mapping[str, str]
    taken: frozenset[str]
    pictures: str | None


@dataclass(frozen=True, kw_only=True)
class LayoutRules:
    """Rules for the columns of a table: those that it needs, names that none may have, and who `name` is in errors."""

    required: Sequence[str]
    reserved: Collection[str]
    name: str
    error: type[InputError]
    separated: bool  # whether its text is split into cells, so that a header can be one by mistake

    def layout(self, columns: Sequence[str], mapping: Mapping[str, str]) -> Layout:
        """Find the columns; `mapping` has our names, each with the name of theirs or a dotted path.

        Raises the error for columns that are missing, ambiguous, or have no name of their own.
        """
        names = [column.strip() for column in columns]
        if not any(names):
            needs = "a header" if self.separated else "rows"
            raise self.error(f"{self.name} is empty; it needs {needs} with {', '.join(self.required)}")
        fault = header_fault(columns) if self.separated else ""
        for ours, theirs in mapping.items():
            if column_of(theirs, names) is None:
                raise self.error(
                    f"{self.name} has no column {shorten(theirs, 100)!r}, which `columns` names for {ours}; it has "
                    f"{columns_text(names)}{f' ({fault})' if fault else ''}"
                )
        sources = {**self._own(names, mapping), **mapping}
        if missing := [name for name in self.required if name not in sources]:
            raise self.error(f"{self.name}: {fault}" if fault else self._lacking(missing, names))
        self._check_names(names, fault)
        own_picture = sources["image_id"] != PICTURES and PICTURES in names and "image_id" not in mapping
        roots = {path: column_of(path, names) or path for path in sources.values()}
        taken = {column for path, column in roots.items() if column in (path, *self.reserved)}
        layout = Layout(
            sources=sources,
            taken=frozenset({*taken, *CORE}),
            pictures=PICTURES if own_picture else None,
        )
        self.check_further([*mapping, *(name for name in names if name not in layout.taken)])
        return layout

    def check_further(self, names: Sequence[str]) -> None:
        """Raise the error for the name of a further column that cannot be written, or is reserved."""
        if unwritable := [name for name in names if not is_whole(name)]:
            raise self.error(f"{self.name}: the column name {unwritable[0]!r} holds {BROKEN}; rename the column")
        if taken := sorted(set(names) & set(self.reserved) - set(CORE)):
            raise self.error(
                f"{self.name}: the columns {', '.join(taken)} are written by the extraction itself; rename them, or "
                f"give them other names with `columns`, such as its_{taken[0]}={taken[0]}"
            )

    def _own(self, names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
        """Return the columns that have a sample's own names, or the others that are accepted."""
        own = {name: name for name in CORE if name in names}
        for name, alias in _ALIASES.items():
            if name in mapping or alias not in names:
                continue
            if name in own:
                raise self.error(
                    f"{self.name} has both {name!r} and {alias!r}: which one is meant? rename or remove one"
                )
            own[name] = alias
        if PICTURES in names:
            own.setdefault("image_id", PICTURES)
        return own

    def _lacking(self, missing: Sequence[str], names: Sequence[str]) -> str:
        alone = "; separate cells by commas" if self.separated and len(names) == 1 else ""
        return (
            f"{self.name} lacks the columns {', '.join(missing)} (image_name and gt_answer are accepted too); it has "
            f"{columns_text(names)}; name others with `columns`, such as {missing[0]}=THEIRS{alone}"
        )

    def _check_names(self, names: Sequence[str], fault: str) -> None:
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or "" in names:
            which = columns_text(doubled) if doubled else "blank"
            problem = f"every column needs a name of its own (repeated or blank: {which})"
            raise self.error(f"{self.name}: {fault or problem}")
