"""`halp-probe app` in a process of its own, whose first answer token waits while a file `closed` lies in a folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halp_probe import cli
from halp_probe.engine import engine


def main(gate: Path, arguments: list[str]) -> int:
    real = engine.steps

    def steps(*given: Any) -> Iterator[Any]:
        while (gate / "closed").exists():
            time.sleep(0.01)
        yield from real(*given)

    engine.steps = steps
    return cli.main(["app", *arguments])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
