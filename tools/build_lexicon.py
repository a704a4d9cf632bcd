"""Write halp_probe/labels/wordnet/senses.txt.gz, the part of WordNet 3.0 that the label rules read.

    python tools/build_lexicon.py /usr/share/wordnet      (of the Debian package wordnet-base)

Kept are nouns, verbs and adjectives of at most three words, each with the synsets of its first senses, most frequent
first; and of each synset its hypernyms (of an adjective, the one that it is similar to) and antonyms. Left out are
names of persons, taxa in Latin, and whatever only they lead to. The file is text: "lemma<TAB>synsets" lines, a blank
line, "synset<TAB>hypernyms<TAB>antonyms" lines; synsets are a letter for the part of speech and a number. The output
depends on the input alone.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

OUT = Path(__file__).parents[1] / "halp_probe" / "labels" / "wordnet" / "senses.txt.gz"
_FILES = {"n": "noun", "v": "verb", "a": "adj"}
_WRITABLE = re.compile(r"[a-z0-9][a-z0-9 '\-]*")
_TAXA = {"05", "20"}  # lexicographer files of animals and plants
_SENSES = 8  # of a word; rarer ones say little of what an answer means


def main(folder: Path) -> None:
    """Read WordNet's database in `folder`, and write OUT."""
    links: dict[str, tuple[list[str], list[str]]] = {}
    left_out: set[str] = set()
    for letter, name in _FILES.items():
        for synset, parents, opposites, keep in _synsets(folder / f"data.{name}", letter):
            links[synset] = (parents, opposites)
            if not keep:
                left_out.add(synset)
    words: dict[str, list[str]] = {}
    for letter, name in _FILES.items():
        for lemma, senses in _lemmas(folder / f"index.{name}", letter):
            kept = [sense for sense in senses[:_SENSES] if sense not in left_out]
            if kept:
                words.setdefault(lemma, []).extend(kept)
    used = _closure({sense for senses in words.values() for sense in senses}, links)
    number = {synset: f"{synset[0]}{place}" for place, synset in enumerate(sorted(used))}
    lines = [f"{lemma}\t{' '.join(number[sense] for sense in senses)}" for lemma, senses in sorted(words.items())]
    lines.append("")
    for synset in sorted(used):
        above, against = (" ".join(number[one] for one in some if one in number) for some in links[synset])
        if above or against:
            lines.append(f"{number[synset]}\t{above}\t{against}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    print(f"{len(words)} words, {len(used)} synsets, {OUT.stat().st_size} bytes")


def _synsets(path: Path, letter: str) -> Iterator[tuple[str, list[str], list[str], bool]]:
    for line in _lines(path):
        parts = line.partition(" | ")[0].split()
        n_words = int(parts[3], 16)
        names = parts[4 : 4 + 2 * n_words : 2]
        rest = parts[5 + 2 * n_words :]
        pointers = [rest[i : i + 4] for i in range(0, 4 * int(parts[4 + 2 * n_words]), 4)]
        parents = [letter + offset for symbol, offset, pos, _ in pointers if symbol in ("@", "@i") and pos == letter]
        if parts[2] == "s":  # an adjective like another one: its cluster's head
            parents = [letter + offset for symbol, offset, _, _ in pointers if symbol == "&"]
        opposites = [letter + offset for symbol, offset, pos, _ in pointers if symbol == "!" and pos in (letter, "a")]
        person = parts[1] == "18" and any(symbol == "@i" for symbol, *_ in pointers)
        taxon = parts[1] in _TAXA and all(name[0].isupper() for name in names)
        yield letter + parts[0], parents, opposites, not (person or taxon)


def _lemmas(path: Path, letter: str) -> Iterator[tuple[str, list[str]]]:
    for line in _lines(path):
        parts = line.split()
        lemma = parts[0].replace("_", " ")
        if _WRITABLE.fullmatch(lemma) and lemma.count(" ") <= 2 and len(lemma) > 1:
            yield lemma, [letter + offset for offset in parts[-int(parts[2]) :]]


def _closure(synsets: set[str], links: dict[str, tuple[list[str], list[str]]]) -> set[str]:
    found, todo = set(synsets), list(synsets)
    while todo:
        for parent in links[todo.pop()][0]:
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="latin-1") as file:
        yield from (line for line in file if not line.startswith(" "))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
