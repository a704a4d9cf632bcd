"""A tree of groups of images for Stage-A."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

MISSION = "挡风板安装检查"
FOLDERS = {"pass": "审核通过", "fail": "审核不通过"}
# label -> group -> file names in the order that people count
GROUPS = {
    "fail": {"QC-2": ("img1.jpg", "img2.JPEG", "img10.png"), "QC-10": ("a.png",)},
    "pass": {"QC-1": ("1.png", "2.png", "3.png", "4.png", "5.png"), "QC-2": ("b.jpg", "c.jpg")},
}


def colour(seed: int) -> tuple[int, int, int]:
    """Of the background: no two of the first twenty pictures are near each other."""
    return seed * 231 % 256, seed * 147 % 256, 200


def draw(path: Path, seed: int) -> None:
    """A picture that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (64, 48), colour(seed))
    ImageDraw.Draw(image).rectangle((seed % 20, 5, 20 + seed % 20, 30), fill=(255, seed * 13 % 256, 0))
    image.save(path)


def write_tree(root: Path, groups: dict[str, dict[str, tuple[str, ...]]] = GROUPS, mission: str = MISSION) -> Path:
    """The tree under `root`, which is returned; every picture is another."""
    seed = 0
    for label, folders in groups.items():
        for group, names in folders.items():
            for name in names:
                seed += 1
                draw(root / mission / FOLDERS[label] / group / name, seed)
    return root
