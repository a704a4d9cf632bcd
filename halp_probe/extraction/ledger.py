"""Record of every sample's outcome: stored, or listed as failed. Not thread-safe: one thread at a time calls it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.progress import Counter
from halp_probe.records import Captured, Failure, SampledAnswers
from halp_probe.shards.columns import from_captured
from halp_probe.shards.failures import write_failures
from halp_probe.shards.run_folder import RunFolder


class Ledger:
    """Writer of a run's folder and its failures.csv. `captured` counts this run's samples."""

    def __init__(
        self,
        engine: Engine,
        folder: RunFolder,
        table_failures: Sequence[Failure],
        failed_before: Sequence[Failure],
        progress: Counter,
    ) -> None:
        self.captured = 0
        self._engine, self._folder, self._progress = engine, folder, progress
        self._table_failures = tuple(table_failures)
        self._failed = {failure.question_id: failure for failure in failed_before}
        self.write_failures()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Rows of the table that cannot be samples, and samples that failed and have not been captured since."""
        done = self._folder.done
        return (*self._table_failures, *(f for question_id, f in self._failed.items() if question_id not in done))

    def store(self, computed: Sequence[ComputedBatch], failures: Sequence[Failure]) -> None:
        """Store the samples of a batch; record those that failed, and those with numbers that are not finite."""
        rows = [row for batch in computed for row in self._engine.collect(batch)]
        broken = [failure for row in rows if (failure := _not_finite(row)) is not None]
        bad = {failure.question_id for failure in broken}
        finite = [row for row in rows if row.sample.question_id not in bad]
        if finite:
            self._folder.append(from_captured(finite))
        self.captured += len(finite)
        self._failed.update({failure.question_id: failure for failure in [*failures, *broken]})
        self._progress.advance(len(rows) + len(failures), failed=len(failures) + len(broken))

    def close_window(self, attempted: int) -> None:
        """End a window: no more of the first `attempted` samples of the run's order can arrive."""
        self.write_failures()
        self._folder.flush(attempted)

    def write_failures(self) -> None:
        """Write failures.csv as of now."""
        write_failures(self._folder.path, self.failures)


def _not_finite(row: Captured) -> Failure | None:
    vectors = {
        **({} if row.vision_only is None else {"the vision-only mean": row.vision_only}),
        **({} if row.vision_encoder is None else {"the vision-encoder mean": row.vision_encoder}),
        **{f"the vision token at layer {layer}": vector for layer, vector in row.vision_token.items()},
        **{f"the query token at layer {layer}": vector for layer, vector in row.query_token.items()},
        **{f"the mean over the image at layer {layer}": vector for layer, vector in row.image_mean.items()},
        **{f"the question's end at layer {layer}": vector for layer, vector in row.question_end.items()},
        "the first token's distribution": np.array([row.first_token_logprob, row.first_token_entropy]),
        **({} if row.sampled is None else {"a sampled answer's log-probability": _answered(row.sampled)}),
    }
    bad = next((name for name, vector in vectors.items() if not np.isfinite(vector).all()), None)
    if bad is None:
        return None
    return Failure(
        question_id=row.sample.question_id,
        stage="forward",
        reason=f"{bad} is not finite; try `dtype='float32'` or bfloat16",
    )


def _answered(sampled: SampledAnswers) -> np.ndarray:
    """Return the log-probabilities of the answers that there are: those of a question that the gate refused are nan."""
    return sampled.logprobs[sampled.tokens > 0]
