"""Model in this process that answers prompts in batches: the engine of extraction, without the states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply, fingerprint, now_utc
from halp_probe.engine.batched import BatchRunner, samples_by_image
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import ImagesDir
from halp_probe.engine.preparing import Preparer, default_workers
from halp_probe.engine.prompting import Prompter, largest_area
from halp_probe.engine.provenance import run_settings
from halp_probe.engine.proving import prove_looked_up
from halp_probe.engine.sharing import NO_IMAGES, try_sharing
from halp_probe.models.loading import LoadedModel
from halp_probe.models.options import load_model_weights, open_model
from halp_probe.records import Captured, CaptureSpec, Failure, Sample

_log = logging.getLogger(__name__)
_BATCH_TOKENS = {"cpu": 8192, "cuda": 16384}  # enough for a command's default batch of images of half a megapixel


class LocalAnswerer:
    """Model in this process; `prompter` makes prompts for it from the files in `images_dir`."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompter: Prompter,
        images_dir: ImagesDir,
        options: AnswerOptions,
        *,
        text_only: bool = False,
    ) -> None:
        self._loaded, self._images_dir, self._options = loaded, images_dir, options
        self._preparer = Preparer(prompter, images_dir)
        self._spec = CaptureSpec((), options.max_new_tokens)
        self._shares_prefix: bool | None = None
        settings = run_settings(loaded, prompter, self._spec, text_only=text_only)
        self.settings: Mapping[str, Any] = {
            "engine": "local",
            **options.decoding.settings(),
            **{name: value for name, value in settings.items() if name != "layers"},
        }

    @classmethod
    def load(cls, options: AnswerOptions, images_dir: ImagesDir, *, text_only: bool) -> LocalAnswerer:
        """Load the model that the options name. `text_only`: prompts show no images. Raises what loading raises."""
        checkpoint = open_model(options.model)
        prompter = Prompter(
            checkpoint=checkpoint,
            min_pixels=options.min_pixels,
            max_pixels=largest_area(
                options.max_pixels, options.usual_max_pixels, adjustable=checkpoint.family.qwen_vl_utils
            ),
            answer_tokens=options.max_new_tokens,
            date=options.prompt_date,
            template_options=options.template_options,
            system=options.system_prompt,
        )
        return cls(load_model_weights(options.model, checkpoint), prompter, images_dir, options, text_only=text_only)

    def answer(
        self,
        samples: Sequence[Sample],
        done: Mapping[str, Reply],
        attempt: int,
        should_stop: Callable[[], bool],
        failed_before: Collection[str] = (),
    ) -> Generator[list[Reply | Failure], None, None]:
        """Yield replies and failures of the samples that are not done, as batches end."""
        self._preparer.prompter.check(samples)
        images = samples_by_image(samples, self._images_dir)
        on_cuda = self._loaded.device.type == "cuda"
        workers = self._options.workers
        engine = Engine(
            self._loaded,
            self._spec,
            share_prefix=self._shares(images),
            decoding=self._options.decoding,
            attempt=attempt,
        )
        batched = BatchRunner(
            engine,
            self._preparer,
            done,
            token_budget=self._options.batch_tokens or _BATCH_TOKENS["cuda" if on_cuda else "cpu"],
            workers=default_workers(on_cuda) if workers is None else workers,
            images_a_batch=self._options.batch_size,
            contents={
                sample.subject: done[key].image_sha256 for sample in samples if (key := sample.question_id) in done
            },
        )
        with closing(batched.results(images, frozenset())) as results:
            for result in results:
                yield [*self._replies(engine, result.computed, attempt), *result.failures]
                if should_stop():
                    return

    def _shares(self, images: list[list[Sample]]) -> bool:
        """Return whether prompts share a prefix; this is tested on the first images of a run, as extraction does."""
        if self._shares_prefix is None:
            if self._loaded.checkpoint.family.looked_up:
                prove_looked_up(self._loaded, (self._loaded.num_layers - 1,), self._preparer, images)
            sharing = try_sharing(self._loaded, (), self._preparer, images)
            if not sharing.shared and sharing != NO_IMAGES and any(len(image) > 1 for image in images):
                _log.warning("Prompts on one image run one by one: %s.", sharing.reason)
            self._shares_prefix = sharing.shared
        return self._shares_prefix

    def _replies(self, engine: Engine, computed: Sequence[ComputedBatch], attempt: int) -> Iterator[Reply | Failure]:
        date = now_utc()
        for row in (row for batch in computed for row in engine.collect(batch)):
            if not np.isfinite([row.first_token_entropy, row.answer_logprob]).all():
                reason = "the tokens' distribution is not finite; try `dtype='float32'` or bfloat16"
                yield Failure(question_id=row.sample.question_id, stage="forward", reason=reason)
            else:
                yield self._reply(row, attempt, date)

    def _reply(self, row: Captured, attempt: int, date: str) -> Reply:
        return Reply(
            key=row.sample.question_id,
            text=row.answer,
            finished=row.finished,
            asked=fingerprint(row.sample),
            date=date,
            attempt=attempt,
            tokens=row.answer_tokens,
            image_sha256=row.image_sha256,
            prefix_tokens=row.vision_index + 1,
            prompt_tokens=row.prompt_tokens,
        )
