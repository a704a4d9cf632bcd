"""What was measured, what follows from it, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ways import OURS, THREE_PASSES, Difference


@dataclass(frozen=True, kw_only=True)
class Result:
    """One way at one setting."""

    way: str
    rows: int
    seconds: tuple[float, ...]  # of each repeat, over all rows
    flops_per_row: float  # that the way needs
    peak_bytes: int

    @property
    def rows_per_second(self) -> float:
        """Of the best repeat."""
        return self.rows / min(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All ways on one table; `protocol` is the three passes with answers, at the same questions an image."""

    questions_per_image: int
    rows: int
    new_tokens: int  # 0: without answers
    results: dict[str, Result]
    protocol: Result
    matmul_flops: float  # FLOP/s of a large product, the best between the repeats
    differences: dict[tuple[str, str], Difference]

    @property
    def allowed(self) -> float:
        """How many times faster than the whole protocol ours would be if every operation took equally long."""
        return self.protocol.flops_per_row / self.results[OURS].flops_per_row

    @property
    def reached(self) -> float:
        """How many times faster it is."""
        return self.results[OURS].rows_per_second / self.protocol.rows_per_second

    def as_json(self) -> dict[str, Any]:
        ways = {
            name: asdict(result)
            | {
                "rows_per_second": result.rows_per_second,
                "ratio_to_protocol": result.rows_per_second / self.protocol.rows_per_second,
                "ratio_to_same_kind": result.rows_per_second / self.results[THREE_PASSES].rows_per_second,
                "share_of_matmul": result.flops_per_row * result.rows_per_second / self.matmul_flops,
            }
            for name, result in self.results.items()
        }
        return {
            "questions_per_image": self.questions_per_image,
            "rows": self.rows,
            "new_tokens": self.new_tokens,
            "matmul_flops": self.matmul_flops,
            "ways": ways,
            "ratio_flops_allow": self.allowed,
            "ratio_reached": self.reached,
            "differences": {f"{left} and {right}": asdict(gap) for (left, right), gap in self.differences.items()},
        }


def print_head(report: dict[str, Any]) -> None:
    """What the numbers were taken on, and how to read them."""
    size = report["matmul_size"]
    width, height = report["picture"]
    lines = [
        f"{report['date']}  {report['machine']}, {report['device']}, {report['threads']} threads",
        f"torch {report['torch']}, transformers {report['transformers']}, Python {report['python']}",
        f"model: {report['preset']}, {report['parameters'] / 1e6:.3g} M random weights, {report['dtype']}; "
        f"vision attention: {report['vision_attention']} ({THREE_PASSES}: sdpa)",
        f"data: {report['images']} pictures of {width} × {height}; batches of at most {report['batch_tokens']} tokens",
        f"bound: a product of {size}³ between the repeats; of {report['repeats']} interleaved repeats the best counts",
        f"peak memory: {report['peak_memory']}",
        f"× whole: speed over {THREE_PASSES} with answers; × same: over {THREE_PASSES} of this table",
    ]
    print("\n".join(lines), flush=True)


def print_setting(setting: Setting) -> None:
    """A line a way, then what the counts allow and how far the ways are apart."""
    answers = f"answers of {setting.new_tokens} tokens" if setting.new_tokens else "no answers"
    bound = f"bound {setting.matmul_flops / 1e9:.0f} GFLOP/s"
    print(f"\nquestions an image: {setting.questions_per_image}; {setting.rows} rows; {answers}; {bound}")
    header = ["", "rows", "rows/s", "× whole", "× same", "GFLOP/row", "of bound", "peak MB"]
    ways = setting.as_json()["ways"]
    lines = [
        [
            name,
            str(way["rows"]),
            f"{way['rows_per_second']:.3g}",
            f"{way['ratio_to_protocol']:.2f}",
            f"{way['ratio_to_same_kind']:.2f}",
            f"{way['flops_per_row'] / 1e9:.4g}",
            f"{way['share_of_matmul']:.0%}",
            f"{way['peak_bytes'] / 1e6:.0f}",
        ]
        for name, way in ways.items()
    ]
    _print_table([header, *lines])
    print(
        f"counted operations allow ours × {setting.allowed:.2f} over the whole protocol; it reaches "
        f"× {setting.reached:.2f}, {setting.reached / setting.allowed:.0%} of that"
    )
    for (left, right), gap in setting.differences.items():
        answers = f"; {gap.same_answers} of {gap.rows} answers identical" if setting.new_tokens else ""
        print(
            f"{left} and {right}: states differ by at most {gap.relative:.1e} of a vector's largest value, "
            f"1 − cosine is at most {max(0.0, 1 - gap.cosine):.0e}{answers}"
        )


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]), flush=True)
