"""Groups of images of one mission, and the descriptions of their images, which Stage-A writes and Stage-B reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PASS, FAIL = "pass", "fail"
LABEL_FOLDERS: Mapping[str, str] = {"审核不通过": FAIL, "审核通过": PASS}  # in the order of the output


@dataclass(frozen=True, kw_only=True)
class Group:
    """Folder of images. One id may stand under both labels: these are two different groups."""

    mission: str
    label: str  # PASS or FAIL
    group_id: str
    images: tuple[str, ...]  # file names, in order
    folder: str  # of the images, below the data root, with "/"


@dataclass(frozen=True, kw_only=True)
class ImageDescription:
    """Outcome for one image: a summary, or why there is none."""

    summary: str | None
    problem: str = ""
    reply: str | None = None  # as received, where it is not a summary; None where there was none
    date: str | None = None  # of the reply: ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """Line of Stage-A's output, with a description for each image."""

    group_id: str
    mission: str
    label: str  # PASS or FAIL
    images: tuple[str, ...]  # file names; () where a file by other code does not list them
    descriptions: tuple[ImageDescription, ...]
    timestamp: str | None  # of the last reply: ISO 8601

    @property
    def complete(self) -> bool:
        """True if every image has a summary."""
        return all(image.summary is not None for image in self.descriptions)


@dataclass(frozen=True, kw_only=True)
class GroupSummaries:
    """Group as read from Stage-A's output."""

    mission: str
    label: str  # PASS or FAIL
    group_id: str
    summaries: tuple[str, ...]  # of the images that have one, in order, one line each
    lacking: str  # why the group is not complete; "" where it is


def group_line(group: Group, descriptions: Sequence[ImageDescription | None]) -> GroupLine | None:
    """Return the line of a group, from one description an image; None while some image has no reply and no failure."""
    complete = tuple(image for image in descriptions if image is not None)
    if len(complete) < len(group.images):
        return None
    dates = [image.date for image in complete if image.date is not None]
    return GroupLine(
        group_id=group.group_id,
        mission=group.mission,
        label=group.label,
        images=group.images,
        descriptions=complete,
        timestamp=max(dates, default=None),
    )
