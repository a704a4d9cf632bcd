"""The judge model, asked over HTTP on this machine: only what it says outright becomes a label, and only once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import Asked, Server, completion, error, serving
from test_labels_table import FakeShards, fake_shards

from halp_probe.cli import main
from halp_probe.completion import Completion, read_body
from halp_probe.endpoint import Endpoint, EndpointFlags, Pace, StopAsking
from halp_probe.labels import judge_prompt
from halp_probe.labels.judge import ask_judge
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.judge_prompt import ParsedVerdict, parse, prompt_sha256, shorten, user_message, verdict_key
from halp_probe.labels.table import LabelError, LabelRow, read_labels
from halp_probe.labels.verdict_cache import StoredVerdict, VerdictCache
from halp_probe.tasks.labelling import label

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"
ANYTHING = [{"role": "user", "content": "{}"}]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def truthful(asked: Asked, n: int) -> Any:
    """Right where the answer is the ground truth, wrong otherwise."""
    return completion("right" if asked.texts["answer"] == asked.texts["ground_truth"] else "wrong")


def config(server: Server, which: str = "all", **settings: Any) -> JudgeConfig:
    return JudgeConfig(which=which, url=server.url, **{"model": "m", "rate": 1000.0, "first_wait": 0.001, **settings})


def rows(n: int) -> list[LabelRow]:
    return [
        LabelRow(question_id=f"q{k}", label=None, rule="contains", answer="", truth="", reason="no evidence")
        for k in range(n)
    ]


def ask(server: Server, tmp_path: Path, answers: list[str], truth: str = "red", **settings: Any) -> Any:
    n = len(answers)
    cache = tmp_path / "labels.verdicts.jsonl"
    return ask_judge(rows(n), ["What colour?"] * n, answers, [truth] * n, config(server, **settings), cache)


# what is shown


@given(st.text(), st.text(), st.text(max_size=300))
def test_no_text_breaks_out_of_its_place(question: str, truth: str, answer: str) -> None:
    shown = json.loads(user_message(question, "t" + truth, answer))
    assert shown == {"question": question, "ground_truth": "t" + truth, "answer": answer}


def test_human_answers_are_shown_as_a_list() -> None:
    assert json.loads(user_message("q", '["red", "dark red", 3]', "a"))["ground_truth"] == ["red", "dark red", "3"]


@given(st.integers(0, 9000))
def test_a_long_answer_is_cut_in_its_middle_with_a_mark(length: int) -> None:
    answer = "".join(chr(97 + k % 26) for k in range(length))
    shown = shorten(answer)
    if length <= 4000:
        assert shown == answer
    else:
        begin, _, rest = shown.partition(" [… ")
        left_out, _, end = rest.partition(" characters left out …] ")
        assert answer == begin + answer[len(begin) : len(begin) + int(left_out)] + end
        assert len(begin) + len(end) == 4000 and len(end) == 1000


# what is read


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("right", "right"),
        (" Wrong.\n", "wrong"),
        ("**unknown**", "unknown"),
        ('"RIGHT"', "right"),
        ('{"verdict": "wrong"}', "wrong"),
        ('```json\n{"verdict": "Right"}\n```', "right"),
        ("<think>It says red, which is wrong? No.</think>\nright", "right"),
        ("", None),
        ("The answer is right", None),
        ("right or wrong", None),
        ("not right", None),
        ("incorrect", None),
        ("yes", None),
        ("right\nwrong", None),
        ("<think>right", None),
        ("It says red, which is right? No.</think>wrong", "wrong"),  # where the template opened the thinking
        ("right</think>", None),
        ('{"verdict": "right", "verdict": "wrong"}', None),
        ('{"verdict": "right", "reason": "x"}', None),
        ('{"verdict": true}', None),
        ('{"verdict": ["right"]}', None),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": "right"', None),
        ('["right"]', None),
        ("0", None),
    ],
)
def test_only_a_verdict_is_a_verdict(text: str, verdict: str | None) -> None:
    wanted = ParsedVerdict(verdict) if verdict else ParsedVerdict("unknown", "no verdict in its reply")
    assert parse(Completion(text=text, finish="stop", refusal="", served="m")) == wanted


def test_a_reply_that_was_cut_or_refused_is_no_verdict() -> None:
    assert parse(Completion(text="right", finish="length", refusal="", served="m")) == ParsedVerdict(
        "unknown", "its reply was cut off"
    )
    assert parse(Completion(text="right", finish="content_filter", refusal="", served="m")) == ParsedVerdict(
        "unknown", "refused to judge"
    )
    assert parse(Completion(text="", finish="stop", refusal="I cannot help", served="m")) == ParsedVerdict(
        "unknown", "refused to judge"
    )


@given(st.text(max_size=40))
def test_arbitrary_replies_never_become_labels_by_chance(text: str) -> None:
    said = parse(Completion(text=text, finish="stop", refusal="", served=""))
    assert said.verdict == "unknown" or said.verdict in text.lower()


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": "right"}]}', "3"]
)
def test_a_body_that_is_no_completion_is_a_failure(body: str) -> None:
    failed = read_body(body)
    assert not isinstance(failed, Completion) and failed.reason == "HTTP 200, but no chat completion"


# labels


def test_verdicts_become_labels(tmp_path: Path) -> None:
    def respond(asked: Asked, n: int) -> Any:
        said = {"red": "right", "blue": "wrong", "hm": "unknown", "x": "I think it is right.", "y": None}
        return completion(said[asked.texts["answer"]])

    with serving(respond) as server:
        run = ask(server, tmp_path, ["red", "blue", "hm", "x", "y"])
    assert [(row.label, row.rule, row.reason) for row in run.rows] == [
        (0, "judge", "m says right"),
        (1, "judge", "m says wrong"),
        (None, "judge", "m says unknown"),
        (None, "judge", "m: no verdict in its reply"),
        (None, "judge", "m: no verdict in its reply"),
    ]
    assert [row.question_id for row in run.rows] == ["q0", "q1", "q2", "q3", "q4"]
    assert (run.asked, run.cached, run.failed, run.served_models) == (5, 0, 0, ("judge-2026-01-01",))
    body = server.asked[0].body
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0, 16, "m")
    assert body["messages"][0] == {"role": "system", "content": judge_prompt.PROMPT}
    assert server.asked[0].texts.keys() == {"question", "ground_truth", "answer"}


def test_each_answer_gets_its_own_verdict(tmp_path: Path) -> None:
    answers = [f"{k} apples" for k in range(60)]
    truths = [f"{k if k % 3 else k + 1} apples" for k in range(60)]
    with serving(truthful) as server:
        run = ask_judge(rows(60), ["How many?"] * 60, answers, truths, config(server, workers=8), tmp_path / "c.jsonl")
    assert [row.label for row in run.rows] == [int(k % 3 == 0) for k in range(60)]


def test_the_same_texts_are_asked_about_once(tmp_path: Path) -> None:
    with serving(truthful) as server:
        run = ask(server, tmp_path, ["red", "blue", "red", "red"])
    assert [row.label for row in run.rows] == [0, 1, 0, 0]
    assert len(server.asked) == 2


def test_a_shortened_answer_is_told(tmp_path: Path) -> None:
    with serving(truthful) as server:
        run = ask(server, tmp_path, ["red " * 2000])
    assert run.rows[0].reason == "m says wrong, shown a shortened answer"
    assert run.rows[0].answer == server.asked[0].texts["answer"] != ("red " * 2000).strip()


def test_an_echoed_prompt_and_thinking_are_not_shown(tmp_path: Path) -> None:
    with serving(truthful) as server:
        ask(server, tmp_path, ["User: What colour?\nAssistant: <think>blue?</think>red"])
    assert server.asked[0].texts["answer"] == "red"


# failures


def test_overload_is_asked_again(tmp_path: Path) -> None:
    def respond(asked: Asked, n: int) -> Any:
        return error((429, 503, 500)[n], retry_after="0") if n < 3 else truthful(asked, n)

    with serving(respond) as server:
        assert ask(server, tmp_path, ["red"]).rows[0].label == 0
    assert len(server.asked) == 4


def test_what_fails_for_ever_stays_unknown_and_is_asked_again_the_next_time(tmp_path: Path) -> None:
    healthy = threading.Event()

    def respond(asked: Asked, n: int) -> Any:
        broken = asked.texts["answer"] == "poison" and not healthy.is_set()
        return error(500, "at line 7") if broken else truthful(asked, n)

    with serving(respond) as server:
        run = ask(server, tmp_path, ["red", "poison", "blue", "green"], tries=3)
        assert [row.label for row in run.rows] == [0, None, 1, 1]
        assert run.rows[1].reason == "m failed: HTTP 500 in 3 tries"
        assert 'the judge failed for 1 answers (first: "q1", HTTP 500 in 3 tries)' in run.notes[0]
        assert len(server.asked) == 3 + 3
        healthy.set()
        again = ask(server, tmp_path, ["red", "poison", "blue", "green"])
    assert [row.label for row in again.rows] == [0, 1, 1, 1] and not again.notes
    assert len(server.asked) == 3 + 3 + 1
    assert (again.asked, again.cached, again.failed) == (1, 3, 0)


def test_a_slow_reply_is_given_up(tmp_path: Path) -> None:
    release = threading.Event()

    def respond(asked: Asked, n: int) -> Any:
        if asked.texts["answer"] == "slow":
            release.wait(30)
        return truthful(asked, n)

    with serving(respond) as server:
        run = ask(server, tmp_path, ["slow", "red"], timeout=1.5, tries=2)
        release.set()
    assert [row.label for row in run.rows] == [None, 0]
    assert run.rows[0].reason == "m failed: no reply in time in 2 tries"


@pytest.mark.parametrize("bad", [error(400, "content filter"), (200, "<html>busy</html>", {}), error(403)])
def test_a_refusal_over_http_is_not_repeated(tmp_path: Path, bad: Any) -> None:
    with serving(lambda asked, n: bad if asked.texts["answer"] == "bad" else truthful(asked, n)) as server:
        run = ask(server, tmp_path, ["bad", "red"])
    assert [row.label for row in run.rows] == [None, 0]
    assert run.rows[0].reason.startswith(f"m failed: HTTP {bad[0]}") and len(server.asked) == 2


@pytest.mark.parametrize("status", [500, 400])
def test_an_endpoint_that_is_down_ends_the_run(tmp_path: Path, status: int) -> None:
    with serving(lambda asked, n: error(status, "out of order")) as server:
        with pytest.raises(LabelError) as caught:
            ask(server, tmp_path, [f"a{k}" for k in range(200)], tries=1)
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("asking")]
        assert len(server.asked) < 30
    caught.match(rf"failed for 10 answers in a row .*HTTP {status}.*out of order.* 0 new")


def test_texts_that_the_judge_refuses_end_a_run_once_and_the_next_one_goes_on_behind_them(tmp_path: Path) -> None:
    def respond(asked: Asked, n: int) -> Any:
        return truthful(asked, n) if asked.texts["answer"] == "red" else error(400, "no such words")

    answers = ["red", *(f"a{k}" for k in range(12)), "red "]
    with serving(respond) as server:
        for most in (11 + 2, 13 + 20 + 2):  # and what was under way
            with pytest.raises(LabelError, match=r"failed for 10 answers in a row .*HTTP 400; no such words"):
                ask(server, tmp_path, [*answers, *(f"b{k}" for k in range(9))], workers=1)
            assert len(server.asked) <= most
        run = ask(server, tmp_path, answers, workers=1)
    assert run.failed == 12 and [row.label for row in run.rows] == [0, *[None] * 12, 0]
    assert run.rows[1].reason == "m failed: HTTP 400"


@pytest.mark.parametrize(("status", "message"), [(401, "set OPENAI_API_KEY"), (404, "does not know the model 'm'")])
def test_what_no_further_question_can_mend_ends_the_run_at_once(tmp_path: Path, status: int, message: str) -> None:
    with serving(lambda asked, n: error(status)) as server:
        with pytest.raises(LabelError, match=message):
            ask(server, tmp_path, ["a", "b", "c", "d", "e", "f"], workers=1)
        assert len(server.asked) <= 2


def test_no_server_at_all(tmp_path: Path) -> None:
    with serving(truthful) as server:
        pass
    run = ask(server, tmp_path, ["red"], tries=2)
    assert run.rows[0].label is None and run.rows[0].reason == "m failed: no connection in 2 tries"


def test_ctrl_c_keeps_the_verdicts_so_far(tmp_path: Path) -> None:
    answers = [f"a{k}" for k in range(50)]

    def respond(asked: Asked, n: int) -> Any:
        if n == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return completion("wrong")

    with serving(respond) as server:
        with pytest.raises(KeyboardInterrupt):
            ask(server, tmp_path, answers, rate=20.0)
        before = len(server.asked)
        assert 11 <= before < 50
        run = ask(server, tmp_path, answers)
        assert len(server.asked) == 50, "every verdict that arrived was kept, none asked twice"
    assert [row.label for row in run.rows] == [1] * 50 and run.cached == before


def test_ctrl_c_ends_the_waiting_too(tmp_path: Path) -> None:
    def respond(asked: Asked, n: int) -> Any:
        if n == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return error(500, retry_after="5")

    with serving(respond) as server:
        with pytest.raises(KeyboardInterrupt):
            ask(server, tmp_path, ["a", "b", "c", "d"], tries=2)
        assert len(server.asked) == 4, "no second try after it"


# how hard


def test_never_more_requests_at_once_than_workers(tmp_path: Path) -> None:
    full = threading.Barrier(3)

    def respond(asked: Asked, n: int) -> Any:
        full.wait(30)  # goes on only when three requests are here,
        time.sleep(0.1)  # and leaves a fourth the time to come
        return completion("wrong")

    with serving(respond) as server:
        ask(server, tmp_path, [f"a{k}" for k in range(12)], workers=3)
    assert server.most_at_once == 3


@given(st.floats(0.1, 50), st.lists(st.floats(0, 3), min_size=2, max_size=40))
def test_starts_are_at_least_a_gap_apart(rate: float, pauses: list[float]) -> None:
    now = [0.0]
    pace = Pace(rate, lambda: now[0])
    starts = []
    for pause in pauses:
        now[0] += pause
        starts.append(now[0] + pace.delay())
    gaps = [b - a for a, b in pairwise(starts)]
    assert min(gaps) >= 1 / rate - 1e-9
    assert starts[0] == pauses[0], "the first need not wait"


def test_every_request_waits_for_its_start(tmp_path: Path) -> None:
    waited = []

    class Counting(Pace):
        def delay(self) -> float:
            waited.append(super().delay())
            return 0.0

    with serving(lambda asked, n: error(500, retry_after="0")) as server:
        flags = EndpointFlags(who="the endpoint", url="--url", model="--model", needs="--it", extra="it")
        pace = Counting(0.01, lambda: 0.0)
        endpoint = Endpoint(server.url, "m", flags, timeout=9, tries=4, first_wait=0.001, pace=pace)
        endpoint.ask(ANYTHING)
        assert waited == [0, 100, 200, 300] and len(server.asked) == 4, "repeated requests are paced too"
        endpoint.stop.set()
        with pytest.raises(StopAsking):
            endpoint.ask(ANYTHING)
        assert len(server.asked) == 4


# the cache


def test_a_second_run_asks_nothing_and_another_judge_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda asked, n: completion("what?" if asked.texts["answer"] == "odd" else "wrong")) as server:
        first = ask(server, tmp_path, ["a", "odd"])
        assert len(server.asked) == 2
        again = ask(server, tmp_path, ["a", "odd"])
        assert again.rows == first.rows and len(server.asked) == 2
        assert (again.asked, again.cached, again.served_models) == (0, 2, first.served_models)
        ask(server, tmp_path, ["a", "odd"], model="other")
        assert len(server.asked) == 4
        ask(server, tmp_path, ["a"], truth="blue")
        assert len(server.asked) == 5
        ask(server, tmp_path, ["a"], max_tokens=99)
        assert len(server.asked) == 6
        monkeypatch.setattr(judge_prompt, "PROMPT", "Is it right?")
        ask(server, tmp_path, ["a"])
        assert len(server.asked) == 7


def test_nothing_that_is_cached_needs_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(truthful) as server:
        ask(server, tmp_path, ["red"])
    monkeypatch.setitem(sys.modules, "openai", None)
    assert ask(server, tmp_path, ["red"]).rows[0].label == 0


FOUR = st.lists(st.text("ab", max_size=2), min_size=4, max_size=4)  # texts that often join to the same


@given(FOUR, FOUR)
def test_keys_differ_where_the_texts_do(first: list[str], second: list[str]) -> None:
    hashed = prompt_sha256(16)
    assert (verdict_key(hashed, *first) == verdict_key(hashed, *second)) == (first == second)


def kept(key: str, verdict: str = "right") -> StoredVerdict:
    return StoredVerdict(
        key=key,
        verdict=verdict,
        problem="",
        reply="ré\n",
        model="m",
        served_model="m-1",
        prompt_sha256="p",
        date="2026-01-01",
    )


@given(st.data())
def test_a_torn_last_line_is_left_out_and_the_rest_stays(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("cache") / "verdicts.jsonl"
    for key in "abc":
        VerdictCache(path).add(kept(key))
    whole = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    complete = sum(end <= size for end in ends)
    cache = VerdictCache(path)
    assert [cache.get(key) for key in "abc"] == [kept(key) for key in "abc"[:complete]] + [None] * (3 - complete)
    assert ("half-written" in cache.note) == (size not in (0, *ends))
    cache.add(kept("d", "wrong"))
    after = VerdictCache(path)
    assert after.get("d") == kept("d", "wrong") and after.note == "" and (after.get("a") is None) == (complete == 0)


def test_the_first_verdict_of_a_key_stands(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    cache = VerdictCache(path)
    cache.add(kept("a"))
    VerdictCache(path).add(kept("a", "wrong"))
    assert VerdictCache(path).get("a") == kept("a")


@pytest.mark.parametrize("line", ["{}", "no json", '{"key": 1}', "[]", "3"])
def test_a_damaged_cache_is_an_error_that_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "v.jsonl"
    VerdictCache(path).add(kept("a"))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(LabelError, match=r"v\.jsonl, line 2 is not a stored verdict"):
        VerdictCache(path)


def test_a_verdict_of_another_kind_is_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    VerdictCache(path).add(kept("a", "fine"))
    with pytest.raises(LabelError, match="line 1 is not a stored verdict"):
        VerdictCache(path)


# the command


SHARDS = fake_shards(
    ["s1", "s2", "s3", "s4", "s5"],
    ["Is there a dog?", "What is it?", "Name them.", "Why?", "Which?"],
    ["Yes", "a couch", "hm, couch", "", "C"],
    ["yes", "one very large sofa", "sofa", "because", ""],
)


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> FakeShards:
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: SHARDS)
    return SHARDS


def call(server: Server, out: Path, which: str, *more: str) -> int:
    judge = ["--judge", which, "--judge-url", server.url, "--judge-model", "m/1", "--judge-rate", "500"]
    return main(["label", "--shards", "s", "--out", str(out), *judge, *more])


def test_the_command_asks_about_all_or_only_the_unknown(
    shards: FakeShards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.csv"
    main(["label", "--shards", "s", "--out", str(out)])
    by_rules = read_labels(out)
    unknown = {key for key, label in by_rules.items() if label is None}
    assert unknown == {"s2", "s4", "s5"}, "what this test needs: s4 has no answer, s5 no ground truth"
    with serving(lambda asked, n: completion("right")) as server:
        assert call(server, out, "unknown") == 0
        assert [asked.texts["answer"] for asked in server.asked] == ["a couch"]
        assert read_labels(out) == {**by_rules, "s2": 0}
        assert call(server, out, "all") == 0
        assert len(server.asked) == 3, "what was asked before is not asked again"
        assert read_labels(out) == {"s1": 0, "s2": 0, "s3": 0, "s4": None, "s5": None}
    assert {row.question_id: row.rule for row in read_labels(out).rows}["s1"] == "judge"
    assert "the judge was asked about 2 texts, 1 verdicts were in" in capsys.readouterr().out


def test_the_run_is_recorded_beside_the_labels(shards: FakeShards, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with serving(lambda asked, n: completion("wrong")) as server:
        call(server, out, "all", "--judge-tokens", "99")
    record = json.loads((tmp_path / "labels.judge.json").read_text())
    assert record["model"] == "m/1" and record["served_models"] == ["judge-2026-01-01"]
    assert record["prompt"] == judge_prompt.PROMPT and record["prompt_sha256"] == prompt_sha256(99)
    assert record["texts"] == {"asked": 3, "from_cache": 0, "failed": 0}
    assert record["labels"] == {"right": 0, "wrong": 3, "unknown": 0} and record["which"] == "all"
    assert "127.0.0.1" not in json.dumps(record) and record["endpoint_path"] == "/v1"
    main(["label", "--shards", "s", "--out", str(out)])
    assert not (tmp_path / "labels.judge.json").exists(), "labels by rules have no judge"


def test_the_key_is_sent_and_stands_in_no_file(
    shards: FakeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")

    def respond(asked: Asked, n: int) -> Any:  # a server that repeats the key wherever it can
        return (completion(KEY), error(400, f"bad {KEY}"), (200, f"<{KEY}>", {}))[n % 3]

    with serving(respond) as server:
        assert call(server, tmp_path / "labels.csv", "all") == 0
        assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}
    with serving(lambda asked, n: error(401, f"wrong key {KEY}")) as server:
        assert call(server, tmp_path / "others.csv", "all") == 2
    assert len(list(tmp_path.iterdir())) == 3
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir())
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err and "wrong key [key]" in printed.err


def test_no_half_made_table_is_left_when_the_judge_is_down(
    shards: FakeShards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda asked, n: error(404)) as server:
        assert call(server, tmp_path / "labels.csv", "all") == 2
    assert list(tmp_path.iterdir()) == []
    assert "error: the judge's endpoint does not know the model 'm/1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--judge", "all"], "--judge needs --judge-model"),
        (["--judge", "all", "--judge-model", "m", "--judge-rate", "5"], "--judge-rate needs --judge-url"),
        (
            ["--judge", "all", "--judge-model", "m", "--judge-url", "http://h", "--judge-revision", "x"],
            "--judge-revision goes with a model that is loaded here",
        ),
        (["--judge", "all", "--judge-url", "http://h/v1"], "--judge needs --judge-model"),
        (["--judge-model", "m"], "--judge-model needs --judge all or unknown"),
        (
            ["--judge", "all", "--judge-model", "m", "--judge-url", "localhost:8000"],
            "is not an address; write it in full",
        ),
        (
            ["--judge", "all", "--judge-model", "m", "--judge-url", "http://me:pw@h/v1"],
            "must not hold a name, password",
        ),
        (["--judge", "all", "--judge-model", "m", "--judge-url", "http://h", "--rule", "exact"], "--rule does not go"),
        (
            ["--judge", "all", "--judge-model", "m", "--judge-url", "http://h", "--table", "t", "--column", "c"],
            "--judge",
        ),
    ],
)
def test_flags_that_do_not_fit(
    shards: FakeShards, tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "--shards", "s", "--out", str(tmp_path / "labels.csv"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_a_rate_is_above_zero(value: str) -> None:
    with pytest.raises(SystemExit):
        main(["label", "--shards", "s", "--out", "o", "--judge-rate", value])


def test_without_the_client_the_remedy_is_named(
    shards: FakeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with serving(truthful) as server:
        assert call(server, tmp_path / "labels.csv", "all") == 2
    assert "pip install 'halp_probe[judge]'" in capsys.readouterr().err


def test_labelling_by_rules_loads_no_client() -> None:
    code = "import sys, halp_probe.commands.label; print('openai' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_function_takes_the_same_judge(shards: FakeShards, tmp_path: Path) -> None:
    with serving(lambda asked, n: completion('{"verdict": "wrong"}')) as server:
        asked = replace(config(server, "unknown"), cache=tmp_path / "l.verdicts.jsonl")
        labels = label("s", judge=asked)
    assert labels.counts.rules["judge"] == 1 and (tmp_path / "l.verdicts.jsonl").exists()
    assert labels.judge_record is not None and labels.judge_record["model"] == asked.model
