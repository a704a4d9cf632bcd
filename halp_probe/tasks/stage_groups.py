"""Groups of images of one mission, and what was said of their images: what Stage-A writes and Stage-B reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PASS, FAIL = "pass", "fail"
LABEL_FOLDERS: Mapping[str, str] = {"审核不通过": FAIL, "审核通过": PASS}  # in the order of the output


@dataclass(frozen=True, kw_only=True)
class Group:
    """One folder of images. The same id may stand under both labels: the two are different groups."""

    mission: str
    label: str  # PASS or FAIL
    group_id: str
    images: tuple[str, ...]  # file names, in order
    folder: str  # of the images, below the data root, with "/"


@dataclass(frozen=True, kw_only=True)
class Described:
    """What became of one image: a summary, or why there is none."""

    summary: str | None
    problem: str = ""
    reply: str | None = None  # as it came, where it is no summary; None where none came
    date: str | None = None  # of the reply: ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """One line of Stage-A's output. `described` has an entry for each image."""

    group_id: str
    mission: str
    label: str  # PASS or FAIL
    images: tuple[str, ...]  # file names; () where a file of other code does not tell
    described: tuple[Described, ...]
    timestamp: str | None  # of the last reply: ISO 8601

    @property
    def complete(self) -> bool:
        """Whether every image has a summary."""
        return all(image.summary is not None for image in self.described)


@dataclass(frozen=True, kw_only=True)
class Summarised:
    """A group as it was read from Stage-A's output."""

    mission: str
    label: str  # PASS or FAIL
    group_id: str
    summaries: tuple[str, ...]  # of the images that have one, in order, one line each
    lacking: str  # why the group is not complete; "" where it is


def group_line(group: Group, described: Sequence[Described | None]) -> GroupLine | None:
    """The line of a group; None while an image has neither a reply nor a failure. `described`: one for each image."""
    known = tuple(image for image in described if image is not None)
    if len(known) < len(group.images):
        return None
    dates = [image.date for image in known if image.date is not None]
    return GroupLine(
        group_id=group.group_id,
        mission=group.mission,
        label=group.label,
        images=group.images,
        described=known,
        timestamp=max(dates, default=None),
    )
