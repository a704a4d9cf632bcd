"""python benchmarks/missing.py [--all]

Print what the steps of gpu.py need and this Python lacks, as requirement lines with the bounds of setup.cfg; with
`--all` what they need at all. torch, torchvision and transformers are the machine's own: exit with status 1 where one
of them is missing.
"""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

OWN = ("torch", "torchvision", "transformers")
FOR_TESTS = ("hypothesis", "pytest")
OF_OTHERS = ("requests",)  # imported by qwen-vl-utils, which is installed without what it asks for (see gpu.sh)
LEFT_OUT = ("num2words",)  # no preset's family uses it, and a part of it comes without a wheel
INSTALLED_WITH = ("extract",)  # extras that a user of a model installs


def requirements() -> dict[str, str]:
    """Every requirement line of setup.cfg that the steps need, by name; OWN's too."""
    config = ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg")
    extras = dict(config["options.extras_require"])
    needed = config["options"]["install_requires"] + "".join(extras.get(name, "") for name in INSTALLED_WITH)
    known = _by_name("\n".join([config["options"]["install_requires"], *extras.values()]))
    names = {*_by_name(needed), *FOR_TESTS, *OF_OTHERS} - {*LEFT_OUT}
    return {name: known[name] for name in sorted(names)}


def is_met(line: str) -> bool:
    """Whether this Python has a version that fits."""
    from packaging.requirements import Requirement  # transformers brings it

    requirement = Requirement(line)
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def main() -> None:
    lines = requirements()
    own = [lines.pop(name) for name in OWN]
    if "--all" in sys.argv[1:]:
        print(*lines.values(), sep="\n")
        return
    lacking = [line for line in own if not is_met(line)]
    if lacking:
        raise SystemExit(f"{sys.executable} lacks {', '.join(lacking)}: install what fits the machine's GPU first")
    for line in lines.values():
        if not is_met(line):
            print(line)


def _by_name(lines: str) -> dict[str, str]:
    split = (line.strip() for line in lines.splitlines())
    return {re.split(r"[^\w.-]", line)[0].lower(): line for line in split if line}


if __name__ == "__main__":
    main()
