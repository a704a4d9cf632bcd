"""What servers say in other words than OpenAI's: read for what it means, and nothing lost."""

from __future__ import annotations

import json
import logging
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import Asked, completion, error, serving
from test_server_engine import REAL, answerer, asked_text, echo, reason, results, texts

from halp_probe.answering import server as engine
from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply
from halp_probe.answering.run import answer_task
from halp_probe.completion import Completion, ErrorBody, NoReply, read_body, read_error
from halp_probe.engine.sampling import Decoding
from halp_probe.errors import InputError
from halp_probe.labels.judge import ask_judge, judge_record
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.table import LabelRow
from halp_probe.models.options import ModelOptions
from halp_probe.records import Failure, Sample
from halp_probe.refused_parameters import is_refused
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import VQA

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for, without the time."""
    found: list[float] = []

    class Waiting(REAL):  # type: ignore[misc, valid-type]
        def _wait(self, seconds: float) -> None:
            found.append(seconds)

    monkeypatch.setattr(engine, "Endpoint", Waiting)
    return found


def body(**fields: Any) -> tuple[int, str, dict[str, str]]:
    return 200, json.dumps({"object": "chat.completion", "model": "m", **fields}), {}


def choice(content: Any, finish: Any = "stop", **more: Any) -> tuple[int, str, dict[str, str]]:
    return body(choices=[{"index": 0, "finish_reason": finish, "message": {"content": content}, **more}])


# why a reply ended


@pytest.mark.parametrize(
    "finish",
    ["stop", "STOP", "eos_token", "eos", "end_turn", "stop_sequence", "stop_token", "COMPLETE", "none", "", None],
)
def test_any_other_word_is_a_whole_replys_end(tmp_path: Path, finish: str | None) -> None:
    with serving(lambda asked, n: choice("red", finish)) as server:
        found = results(answerer(server, tmp_path), texts(1))["q0"]
    assert isinstance(found, Reply) and found.finished and found.text == "red"


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens"])
def test_a_reply_that_was_cut_off_says_so(tmp_path: Path, finish: str) -> None:
    with serving(lambda asked, n: choice("red and", finish)) as server:
        found = results(answerer(server, tmp_path), texts(1))["q0"]
    assert isinstance(found, Reply) and not found.finished


@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "abort", "cancelled", "network_error", "pause_turn"])
def test_a_reply_that_ended_abnormally_is_none(tmp_path: Path, finish: str) -> None:
    with serving(lambda asked, n: choice("red", finish)) as server:
        found = results(answerer(server, tmp_path), texts(1))["q0"]
    assert reason(found) == f"the server ended its reply with {finish!r}"


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "refusal", "sensitive"])
def test_a_filtered_reply_is_a_refusal(tmp_path: Path, finish: str) -> None:
    with serving(lambda asked, n: choice("re", finish)) as server:
        assert reason(results(answerer(server, tmp_path), texts(1))["q0"]) == "refused: content filter"


# what it says


def part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text, "annotations": []}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([part("text", "a red "), part("output_text", "ball")], "a red ball"),
        (["a red", " ball"], "a red ball"),
        ([{"text": "red"}], "red"),
        ([{"type": "thinking", "thinking": [part("text", "blue?")]}, part("text", "red")], "red"),
        ([{"type": "reasoning", "text": "blue?"}, part("text", "red")], "red"),
        ([], ""),
    ],
)
def test_parts_are_joined_without_thinking(tmp_path: Path, content: Any, text: str) -> None:
    with serving(lambda asked, n: choice(content)) as server:
        found = results(answerer(server, tmp_path), texts(1))["q0"]
    assert isinstance(found, Reply) and found.text == text


def test_a_refusal_among_the_parts_is_one(tmp_path: Path) -> None:
    with serving(lambda asked, n: choice([{"type": "refusal", "refusal": "I cannot"}])) as server:
        assert reason(results(answerer(server, tmp_path), texts(1))["q0"]) == "refused: I cannot"


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": {}}], [3], [{"type": "text"}], {"text": "a"}, 3]
)
def test_what_holds_no_text_is_no_reply(content: Any) -> None:
    found = read_body(choice(content)[1])
    assert isinstance(found, NoReply) and not found.passing and found.reason.startswith("HTTP 200, but ")


@given(st.lists(st.text(max_size=9), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_parts_say_what_one_text_does(words: list[str], chance: Any) -> None:
    parts = [part(chance.choice(["text", "output_text"]), word) for word in words]
    assert read_body(choice(parts)[1]) == read_body(choice("".join(words))[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)


@given(JSON, JSON, JSON)
def test_any_json_is_read_without_an_exception(content: Any, finish: Any, fault: Any) -> None:
    for made in ([{"message": {"content": content}, "finish_reason": finish}], content, None):
        found = read_body(json.dumps({"choices": made, "error": fault}))
        assert isinstance(found, Completion | NoReply | ErrorBody)


# an error inside HTTP 200


def inside(code: Any = None, **more: Any) -> Any:
    return body(choices=None, error={"message": "Provider returned error", "code": code, **more})


@pytest.mark.parametrize(
    "passing",
    [
        inside(429),
        inside("503"),
        inside(502, metadata={"raw": "x"}),
        inside("rate_limit_exceeded"),
        inside(None, type="overloaded_error"),
        inside(),
        body(error="the model is loading"),
        body(choices=[], error={"code": 500, "message": "x"}),
        body(choices=[{"index": 0, "error": {"code": 502, "message": "x"}, "finish_reason": "error"}]),
        (200, json.dumps({"object": "error", "message": "x", "code": 503}), {}),
        (200, json.dumps({"error": {"message": "x"}, "status": 503}), {}),
    ],
)
def test_an_error_inside_that_may_pass_is_asked_again(tmp_path: Path, waited: list[float], passing: Any) -> None:
    with serving(lambda asked, n: passing if n < 2 else echo(asked, n)) as server:
        found = results(answerer(server, tmp_path, concurrency=1), texts(1))["q0"]
    assert isinstance(found, Reply) and len(server.asked) == 3


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (inside(400), "HTTP 400: Provider returned error"),
        (inside("invalid_request_error"), "HTTP 400: Provider returned error"),
        (inside(None, type="context_length_exceeded"), "HTTP 400: Provider returned error"),
        (body(choices=None), "HTTP 200, but no chat completion"),
        (body(choices=[]), "HTTP 200, but no chat completion"),
    ],
)
def test_an_error_inside_that_cannot_pass_is_not(tmp_path: Path, bad: Any, told: str) -> None:
    with serving(lambda asked, n: bad if asked_text(asked) == "1" else echo(asked, n)) as server:
        found = results(answerer(server, tmp_path), texts(3))
    assert reason(found["q1"]).startswith(told) and len(server.asked) == 3
    assert isinstance(found["q2"], Reply)


@pytest.mark.parametrize(
    ("bad", "message"),
    [(inside(401), "requires a key"), (inside("model_not_found"), "does not know the model 'm'")],
)
def test_an_error_inside_ends_the_run_where_its_code_does(tmp_path: Path, bad: Any, message: str) -> None:
    with serving(lambda asked, n: bad) as server, pytest.raises(InputError, match=message):
        results(answerer(server, tmp_path), texts(3))


def test_a_reply_beside_an_error_counts() -> None:
    assert isinstance(read_body(body(choices=json.loads(choice("red")[1])["choices"], error=None)[1]), Completion)


@pytest.mark.parametrize(("code", "status"), [(200, None), (True, None), (0, None), ("4290", None), (429.0, None)])
def test_what_is_no_status_of_an_error_is_not_taken_for_one(code: Any, status: int | None) -> None:
    assert read_error({"code": code, "message": "x"}).status == status


# parameters that a model refuses

NO_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
NO_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is supported."
)


def reasoner(asked: Asked, n: int) -> Any:
    """Refuse as OpenAI's reasoning models do."""
    if "max_tokens" in asked.body:
        return error(400, NO_MAX_TOKENS)
    if asked.body.get("temperature", 1) != 1:
        return error(400, NO_TEMPERATURE)
    assert asked.body["max_completion_tokens"] in (9, 16)
    return completion("wrong") if asked.body["messages"][0]["role"] == "system" else echo(asked, n)


def test_the_newer_name_is_tried_once_and_remembered(tmp_path: Path) -> None:
    with serving(reasoner) as server:
        own = answerer(server, tmp_path, concurrency=1, decoding=Decoding(temperature=1.0))
        found = results(own, texts(5))
    assert all(isinstance(each, Reply) for each in found.values())
    assert ["max_tokens" in asked.body for asked in server.asked] == [True, *[False] * 5]


def test_a_limit_that_is_too_large_is_no_refusal_of_its_name(tmp_path: Path) -> None:
    told = "max_tokens or max_completion_tokens is too large: 9000. This model supports at most 4096."
    with serving(lambda asked, n: error(400, told)) as server:
        found = results(answerer(server, tmp_path), texts(2))
    assert "too large" in reason(found["q0"]) and len(server.asked) == 2


def test_what_is_refused_under_both_names_is_a_failure_and_not_remembered(tmp_path: Path) -> None:
    with serving(lambda asked, n: error(400, NO_MAX_TOKENS)) as server:
        found = results(answerer(server, tmp_path, concurrency=1), texts(2))
    assert all(isinstance(each, Failure) for each in found.values())
    assert ["max_tokens" in asked.body for asked in server.asked] == [True, False] * 2


def test_a_refused_temperature_ends_a_greedy_run_with_the_remedy(tmp_path: Path) -> None:
    """Without it the replies would be sampled, which nobody asked for."""
    with serving(reasoner) as server, pytest.raises(InputError, match=r"refuses `temperature` 0.0 .* `temperature` 1"):
        results(answerer(server, tmp_path, concurrency=1), texts(5))


def test_at_temperature_1_it_is_left_out_where_it_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def respond(asked: Asked, n: int) -> Any:
        refused = "temperature" in asked.body
        return error(400, "`temperature` is deprecated for this model.") if refused else echo(asked, n)

    with serving(respond) as server, caplog.at_level(logging.WARNING):
        found = results(answerer(server, tmp_path, concurrency=1, decoding=Decoding(temperature=1.0)), texts(3))
    assert all(isinstance(each, Reply) for each in found.values()) and len(server.asked) == 4
    assert "refuses temperature, which is left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "status", "message", "param", "refused"),
    [
        ("max_tokens", 400, NO_MAX_TOKENS, "", True),
        ("max_tokens", 422, "Unknown field", "max_tokens", True),
        ("max_tokens", 400, "max_tokens 9000 is not supported: this model takes at most 4096", "", False),
        ("max_tokens", 429, NO_MAX_TOKENS, "", False),
        ("max_tokens", 400, "Unsupported parameter: 'top_p'", "", False),
        ("max_tokens", 400, "Unsupported parameter: 'my_max_tokens'", "", False),
        ("temperature", 400, NO_TEMPERATURE, "", True),
        ("temperature", 400, "temperature must be a number", "temperature", False),
    ],
)
def test_only_a_refusal_of_the_name_is_one(name: str, status: int, message: str, param: str, refused: bool) -> None:
    assert is_refused(name, ErrorBody(status=status, message=message, param=param)) == refused


def ask_about(url: str, folder: Path, answers: list[str], **settings: Any) -> Any:
    rows = [
        LabelRow(question_id=f"q{n}", label=None, rule="contains", answer="", truth="", reason="")
        for n in range(len(answers))
    ]
    config = JudgeConfig(**{"which": "all", "url": url, "model": "m", "rate": 1000.0, "first_wait": 0.001, **settings})
    n = len(answers)
    run = ask_judge(rows, ["?"] * n, answers, ["red"] * n, config, folder / "verdicts.jsonl")
    return run, judge_record(config, run)


def test_a_judge_that_takes_neither_temperature_nor_max_tokens_judges(tmp_path: Path) -> None:
    with serving(reasoner) as server:
        run, record = ask_about(server.url, tmp_path, ["a", "b", "c"], workers=1)
        assert [row.label for row in run.rows] == [1, 1, 1] and len(server.asked) == 2 + 3
        assert record["temperature"] is None and record["refused_by_the_model"] == ("temperature",)
        again, later = ask_about(server.url, tmp_path, ["a", "b", "c"])
    assert again.cached == 3 and later["refused_by_the_model"] == ("temperature",), "the cache remembers it"


def test_an_ordinary_judges_record_says_its_temperature(tmp_path: Path) -> None:
    with serving(lambda asked, n: completion("right")) as server:
        _, record = ask_about(server.url, tmp_path, ["a"])
    assert record["temperature"] == 0.0 and record["refused_by_the_model"] == ()
    assert "left_out" not in (tmp_path / "verdicts.jsonl").read_text()


def test_a_judge_is_read_like_any_server(tmp_path: Path) -> None:
    said = {
        "a": choice([part("text", "right")], "eos_token"),
        "b": choice("wrong", None),
        "c": choice("right", "abort"),
    }

    def respond(asked: Asked, n: int) -> Any:
        return inside(429) if n == 0 else said[asked.texts["answer"]]

    with serving(respond) as server:
        run, _ = ask_about(server.url, tmp_path, ["a", "b", "c"], workers=1)
    assert [row.label for row in run.rows] == [0, 1, None]
    assert run.rows[2].reason == "m failed: the server ended its reply with 'abort'" and run.failed == 1


# how long to wait


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("17", 17, 17),
        ("in a while", 0, 1.3),
        ("9999999", 60, 60),
        ("inf", 60, 60),
        ("nan", 0, 1.3),
        ("-5", 0, 1.3),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 1.3),
        ("Wed, 21 Oct 9999 07:28:00 GMT", 60, 60),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(
    tmp_path: Path, waited: list[float], value: str, low: float, high: float
) -> None:
    with serving(lambda asked, n: error(503, retry_after=value) if n == 0 else echo(asked, n)) as server:
        results(answerer(server, tmp_path, concurrency=1), texts(1))
    assert waited[0] == waited[2] == 0 and low <= waited[1] <= high


def test_a_date_is_told_by_the_servers_clock(tmp_path: Path, waited: list[float]) -> None:
    """Which need not be ours: the stub's own Date is now, and the date asked for half a minute from it."""
    import time

    with serving(
        lambda asked, n: error(429, retry_after=formatdate(time.time() + 30, usegmt=True)) if n == 0 else echo(asked, n)
    ) as server:
        results(answerer(server, tmp_path, concurrency=1), texts(1))
    assert 28 <= waited[1] <= 31


def test_an_error_inside_is_waited_for_as_its_header_asks(tmp_path: Path, waited: list[float]) -> None:
    status, text, _ = inside(429)
    with serving(lambda asked, n: (status, text, {"retry_after": "21"}) if n == 0 else echo(asked, n)) as server:
        results(answerer(server, tmp_path, concurrency=1), texts(1))
    assert waited == [0, 21, 0]


# a whole run


def task(folder: Path, count: int) -> TaskInput[Sample, str]:
    return TaskInput(task=VQA, items=texts(count), failures=(), images_dir=folder, about={})


def run(url: str, folder: Path, count: int) -> Any:
    options = AnswerOptions(
        model=ModelOptions(model="m"),
        template_options=None,
        max_new_tokens=9,
        batch_size=1,
        engine="server",
        base_url=url,
        concurrency=1,
    )
    return answer_task(task(folder, count), options, folder / "out.csv")


def test_a_run_that_ended_after_ten_failures_goes_on_behind_them(tmp_path: Path) -> None:
    """Twelve questions on one picture that the server does not take: the second run has passed them."""
    with serving(lambda asked, n: error(400, "odd") if int(asked_text(asked)) in range(3, 15) else echo(asked, n)) as s:
        with pytest.raises(
            InputError, match=r"10 prompts in a row \(the last: HTTP 400; odd\); 3 new replies are kept"
        ):
            run(s.url, tmp_path, 30)
        assert 13 <= len(s.asked) <= 15, "and what was under way"
        assert (tmp_path / "out.failures.csv").read_text().count("odd") == len(s.asked) - 3
        done = run(s.url, tmp_path, 30)
    assert len(done.replies) == 18 and {each.question_id for each in done.failures} == {f"q{n}" for n in range(3, 15)}


def test_a_server_that_was_mended_loses_nothing(tmp_path: Path) -> None:
    broken = True
    with serving(lambda asked, n: inside(402) if broken and n >= 5 else echo(asked, n)) as server:
        with pytest.raises(InputError, match="HTTP 402"):
            run(server.url, tmp_path, 40)
        broken = False
        done = run(server.url, tmp_path, 40)
    assert len(done.replies) == 40 and not done.failures
