"""OpenAI-compatible server that answers prompts: several requests at once, every reply kept as it arrives."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.pictures import Picture, Pictures
from halp_probe.answering.replies import Reply, fingerprint, now_utc
from halp_probe.asking import Patience, ask_all
from halp_probe.completion import FILTERED, LENGTH, Completion, NoReply
from halp_probe.endpoint import Endpoint, EndpointFlags, check_url
from halp_probe.engine.images import ImageError, ImagesDir, content_sha256
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample

STAGE = "server"
_FLAGS = EndpointFlags(who="the server", url="`base_url`", model="`model`", needs="`engine` server", extra="server")
_GRACE = 2.0  # seconds for requests under way when a run ends early
_SEEDS = 2**31  # servers take seeds below this
_LONGEST = 500  # characters of a reason: some servers repeat the whole request, images and all

_Result: TypeAlias = Reply | Failure | NoReply  # NoReply: no reply, perhaps by the server's fault


class ServerAnswerer:
    """Model behind `base_url`.

    Images go before the text, as PNG, reduced to `max_pixels`; all further processing of them is the server's, as are
    settings of decoding that are not sent, such as top_k. Raises InputError without the openai client, for an invalid
    address, and for flags that a server cannot follow.
    """

    def __init__(self, options: AnswerOptions, images_dir: ImagesDir) -> None:
        _check_flags(options)
        name, url = str(options.model.model), check_url(str(options.base_url), _FLAGS)
        self._options, self._decoding = options, options.decoding
        # At temperature 1 a model that samples in a way of its own is asked for nothing else.
        optional = ("temperature",) if self._decoding.temperature == 1 else ()
        self._endpoint = Endpoint(url, name, _FLAGS, timeout=options.timeout, tries=options.tries, optional=optional)
        largest = options.max_pixels or options.usual_max_pixels
        self._pictures = Pictures(images_dir, largest, cache_size=2 * options.concurrency)
        self._patience = Patience()
        self._shown: dict[tuple[str, ...], str] = {}  # subject -> hash of the first images shown for it
        self.settings: Mapping[str, Any] = {
            "engine": "server",
            "model_name": name,
            **self._decoding.settings(),
            "max_new_tokens": options.max_new_tokens,
            "max_pixels": largest,
            "system_prompt": options.system_prompt,
            "template_options": options.template_options,
        }

    def answer(
        self,
        samples: Sequence[Sample],
        done: Mapping[str, Reply],
        attempt: int,
        should_stop: Callable[[], bool],
        failed_before: Collection[str] = (),
    ) -> Generator[list[Reply | Failure], None, None]:
        """Yield replies and failures of the samples that are not done, as they come.

        Raises InputError where the server requires a key, has no such model or refuses the temperature, and where it
        fails for ten prompts in a row, whatever the failure; all replies so far have been yielded by then.
        """
        self._shown.update(
            {each.subject: done[each.question_id].image_sha256 for each in samples if each.question_id in done}
        )
        batches = ask_all(
            lambda sample: self._ask(sample, attempt),
            (sample for sample in samples if sample.question_id not in done),
            self._endpoint.stop,
            at_once=self._options.concurrency,
            grace=_GRACE,
            should_stop=should_stop,
        )
        last_straw = None
        with closing(batches):
            for answers in batches:
                yield [_reply_or_failure(answer.item, answer.result) for answer in answers]
                for answer in answers:
                    if isinstance(answer.result, Reply):
                        self._patience.note_reply()
                    elif isinstance(answer.result, NoReply) and self._patience.ends_with(
                        answer.result, failed_before=answer.item.question_id in failed_before
                    ):
                        last_straw = last_straw or answer.result
                        self._endpoint.stop.set()
        if last_straw is not None:
            raise InputError(
                f"the server failed for {self._patience.describe('prompts', last_straw)}; {self._patience.replies} new "
                "replies are kept: fix the server and run the same command again; prompts that fail a second time do "
                "not end it"
            )

    def _ask(self, sample: Sample, attempt: int) -> _Result:
        """Ask for one sample, in one of the asking threads."""
        try:
            sample.question.encode()
            pictures = [self._pictures[name] for name in sample.files]
        except UnicodeEncodeError as error:
            return Failure(
                question_id=sample.question_id, stage="prompt", reason=f"the text is not valid Unicode ({error.reason})"
            )
        except ImageError as error:
            return Failure(question_id=sample.question_id, stage="image", reason=str(error))
        shown = content_sha256(sample.image_id, [picture.sha256 for picture in pictures])
        if self._shown.setdefault(sample.subject, shown) != shown:
            reason = (
                f"{', '.join(sample.files)}: not the content that other prompts of this run were asked about; "
                "restore it, or choose another `output_path`"
            )
            return Failure(question_id=sample.question_id, stage="image", reason=reason)
        reply = self._endpoint.ask(self._messages(sample, pictures), **self._request(sample.question_id, attempt))
        return reply if isinstance(reply, NoReply) else _read(reply, sample, attempt, shown)

    def _messages(self, sample: Sample, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        images = [{"type": "image_url", "image_url": {"url": picture.url}} for picture in pictures]
        content = [*images, {"type": "text", "text": sample.question}] if images else sample.question
        user = {"role": "user", "content": content}
        system = self._options.system_prompt
        return [user] if system is None else [{"role": "system", "content": system}, user]

    def _request(self, key: str, attempt: int) -> dict[str, Any]:
        """Return all settings that are sent. A sampled reply has its own seed, independent of other requests."""
        decoding, body = self._decoding, {}
        settings: dict[str, Any] = {"max_tokens": self._options.max_new_tokens, "temperature": 0.0}
        if decoding.is_sampled:
            seed = decoding.stream(key, attempt) % _SEEDS
            settings |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": seed}
        if decoding.repetition_penalty is not None:
            body["repetition_penalty"] = decoding.repetition_penalty  # vLLM's name, and others'
        if self._options.template_options is not None:
            body["chat_template_kwargs"] = json.loads(self._options.template_options)
        return {**settings, "extra_body": body} if body else settings


def _read(reply: Completion, sample: Sample, attempt: int, shown: str) -> Reply | Failure:
    """Return the reply, or a failure where the server refused or ended it abnormally."""
    if reply.refusal or reply.finish == FILTERED:
        return Failure(
            question_id=sample.question_id,
            stage=STAGE,
            reason=f"refused: {reply.refusal or 'content filter'}"[:_LONGEST],
        )
    return Reply(
        key=sample.question_id,
        text=reply.text.strip(),
        finished=reply.finish != LENGTH,
        asked=fingerprint(sample),
        date=now_utc(),
        attempt=attempt,
        tokens=reply.tokens,
        image_sha256=shown,
    )


def _reply_or_failure(sample: Sample, result: _Result) -> Reply | Failure:
    if not isinstance(result, NoReply):
        return result
    reason = " ".join(f"{result.reason}{': ' + result.detail if result.detail else ''}".split())
    return Failure(
        question_id=sample.question_id,
        stage=STAGE,
        reason=reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…",
    )


def _check_flags(options: AnswerOptions) -> None:
    """Refuse flags that would change the replies of a loaded model and have no effect on a server."""
    model = options.model
    flags = {
        "`adapter`": model.adapter,
        "`revision`": model.revision,
        "`quantization`": model.quantization,
        "`dtype`": model.dtype != "auto",
        "`min_pixels`": options.min_pixels,
        "`prompt_date`": options.prompt_date,
    }
    if refused := [flag for flag, value in flags.items() if value]:
        raise InputError(
            f"{', '.join(refused)}: a server loads its model and makes its prompts itself; set this on the server and "
            "leave it out here"
        )
