"""Tasks through a server: what is sent, what is made of a reply, and that nothing is lost when it fails."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import Asked, Server, completion, error, serving
from PIL import Image

from halp_probe.answering import server as engine
from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.pictures import shrink
from halp_probe.answering.replies import Reply
from halp_probe.answering.server import ServerAnswerer
from halp_probe.engine.images import load_image
from halp_probe.engine.sampling import Decoding
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions
from halp_probe.records import Failure, Sample

KEY = "sk-very-secret-0123456789"
DROPPED = (0, "", {})


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(engine, "Endpoint", lambda *args, **settings: REAL(*args, **settings, first_wait=0.001))


REAL = engine.Endpoint


def options(server: Server, **settings: Any) -> AnswerOptions:
    named = {"model": ModelOptions(model="m"), "engine": "server", "base_url": server.url, "template_options": None}
    return AnswerOptions(**{**named, "max_new_tokens": 9, "batch_size": 1, "concurrency": 4, **settings})


def answerer(server: Server, folder: Path, system: str | None = None, **settings: Any) -> ServerAnswerer:
    return ServerAnswerer(options(server, system_prompt=system, **settings), folder)


def texts(count: int) -> list[Sample]:
    """Prompts without images: q0 asks "0"."""
    return [
        Sample(question_id=f"q{n}", image_id=f"group {n}", question=str(n), answer="", images=()) for n in range(count)
    ]


def asked_text(asked: Asked) -> str:
    content = asked.body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def echo(asked: Asked, n: int) -> Any:
    return completion(f"said {asked_text(asked)}")


def results(
    asked: ServerAnswerer, samples: Sequence[Sample], done: Any = (), attempt: int = 1
) -> dict[str, Reply | Failure]:
    """By key; no key twice."""
    found: list[Reply | Failure] = []
    for some in asked.answer(samples, dict(done), attempt, lambda: False):
        found.extend(some)
    return by_key(found)


def by_key(found: Sequence[Reply | Failure]) -> dict[str, Reply | Failure]:
    keyed = {each.key if isinstance(each, Reply) else each.question_id: each for each in found}
    assert len(keyed) == len(found)
    return keyed


def reason(found: Reply | Failure) -> str:
    assert isinstance(found, Failure) and found.stage == "server"
    return found.reason


# what is sent


def sent_pixels(part: dict[str, Any]) -> Image.Image:
    assert part["type"] == "image_url" and set(part["image_url"]) == {"url"}
    kind, _, data = part["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert image.format == "PNG" and not image.info and not image.getexif()
    return image


def test_images_come_first_with_the_very_pixels_that_a_loaded_model_sees(tmp_path: Path) -> None:
    """The oracle is `load_image`, and Pillow's own reading of what was sent."""
    noise = Image.effect_noise((40, 30), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    noise.save(tmp_path / "turned.jpg", exif=exif, quality=60, icc_profile=b"some profile")
    layered = noise.convert("RGBA")
    layered.putalpha(Image.effect_noise((40, 30), 60))
    layered.save(tmp_path / "clear.png")
    names = ("turned.jpg", "clear.png")
    with serving(echo) as server:
        found = results(
            answerer(server, tmp_path, "Be brief."),
            [Sample(question_id="k", image_id="pair", question="Same?", answer="", images=names)],
        )
    system, user = server.asked[0].body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    *images, text = user["content"]
    assert user["role"] == "user" and text == {"type": "text", "text": "Same?"}
    for name, part in zip(names, images, strict=True):
        wanted = load_image(tmp_path / name).pixels
        assert (sent_pixels(part).size, sent_pixels(part).tobytes()) == (wanted.size, wanted.tobytes())
    assert sent_pixels(images[0]).size == (30, 40)
    assert isinstance(found["k"], Reply) and found["k"].text == "said Same?"


def test_a_prompt_without_images_is_plain_text(tmp_path: Path) -> None:
    with serving(echo) as server:
        results(answerer(server, tmp_path), texts(1))
    assert server.asked[0].body == {
        "messages": [{"role": "user", "content": "0"}],
        "model": "m",
        "max_tokens": 9,
        "temperature": 0.0,
    }


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 3000))
def test_a_shrunk_image_keeps_its_shape(width: int, height: int, most: int) -> None:
    size = shrink(Image.new("RGB", (width, height)), most).size
    assert size[0] * size[1] <= most
    if width * height <= most:
        assert size == (width, height)
    else:
        scale = (most / (width * height)) ** 0.5
        if min(width, height) * scale >= 1:
            assert width * scale - 1 < size[0] <= width * scale and height * scale - 1 < size[1] <= height * scale


def test_max_pixels_shrinks_before_sending(tmp_path: Path) -> None:
    Image.effect_noise((200, 100), 90).convert("RGB").save(tmp_path / "a.png")
    with serving(echo) as server:
        results(
            answerer(server, tmp_path, max_pixels=5000),
            [Sample(question_id="k", image_id="a.png", question="?", answer="")],
        )
    image = sent_pixels(server.asked[0].body["messages"][0]["content"][0])
    wanted = load_image(tmp_path / "a.png").pixels.resize((100, 50), Image.Resampling.LANCZOS)
    assert (image.size, image.tobytes()) == ((100, 50), wanted.tobytes())


def seeds(server: Server) -> dict[str, int]:
    return {asked_text(asked): asked.body["seed"] for asked in server.asked}


def test_a_sampled_reply_has_a_seed_of_its_own_whatever_is_asked_beside_it(tmp_path: Path) -> None:
    sampled = Decoding(temperature=0.7, top_p=0.9, seed=3)
    with serving(echo) as server:
        results(answerer(server, tmp_path, decoding=sampled), texts(20))
    body = server.asked[0].body
    assert (body["temperature"], body["top_p"]) == (0.7, 0.9)
    first = seeds(server)
    assert len(set(first.values())) == 20 and all(0 <= seed < 2**31 for seed in first.values())
    with serving(echo) as server:
        results(answerer(server, tmp_path, decoding=sampled, concurrency=1), texts(20)[::-3])
        assert seeds(server).items() <= first.items()
        results(answerer(server, tmp_path, decoding=sampled), texts(1), attempt=2)
        assert seeds(server)["0"] != first["0"]
        results(answerer(server, tmp_path, decoding=replace(sampled, seed=4)), texts(2)[1:])
        assert seeds(server)["1"] != first["1"]


def test_only_what_was_asked_for_is_sent_beside_it(tmp_path: Path) -> None:
    with serving(echo) as server:
        penalised = Decoding(repetition_penalty=1.1)
        options = {"decoding": penalised, "template_options": '{"enable_thinking": false}'}
        results(answerer(server, tmp_path, **options), texts(1))
    body = server.asked[0].body
    assert body["repetition_penalty"] == 1.1 and body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "seed" not in body and "top_p" not in body


def test_the_settings_tell_all_that_shows_in_replies_and_neither_host_nor_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(echo) as server:
        plain = answerer(server, tmp_path).settings
        for name, value in {
            "decoding": Decoding(temperature=0.5, repetition_penalty=1.2),
            "max_new_tokens": 8,
            "max_pixels": 99,
            "template_options": "{}",
            "model": ModelOptions(model="other"),
        }.items():
            assert answerer(server, tmp_path, **{name: value}).settings != plain, name
        assert answerer(server, tmp_path, "system").settings != plain
        assert answerer(server, tmp_path, concurrency=2, tries=2, timeout=3.0).settings == plain
    assert "127.0.0.1" not in json.dumps(plain) and KEY not in json.dumps(plain)


# what is made of a reply


@pytest.mark.parametrize(
    ("reply", "text", "finished"),
    [
        (completion(" red\n"), "red", True),
        (completion("red and", "length"), "red and", False),
        (completion(None), "", True),
        (completion("", "length"), "", False),
        (completion("red", reasoning_content="It is red.", reasoning="It is red."), "red", True),
        ((200, '{"choices": [{"message": {"content": "a\\ud800b"}}]}', {}), "a?b", True),
    ],
)
def test_a_reply_is_what_the_model_said(tmp_path: Path, reply: Any, text: str, finished: bool) -> None:
    with serving(lambda asked, n: reply) as server:
        found = results(answerer(server, tmp_path), texts(1), attempt=2)["q0"]
    assert isinstance(found, Reply)
    assert (found.text, found.finished, found.attempt, found.tokens) == (text, finished, 2, None)


def test_tokens_are_told_where_the_server_tells_them(tmp_path: Path) -> None:
    status, body, headers = completion("red")
    body = json.dumps({**json.loads(body), "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    with serving(lambda asked, n: (status, body, headers)) as server:
        found = results(answerer(server, tmp_path), texts(1))["q0"]
    assert isinstance(found, Reply) and found.tokens == 2


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (completion("re", "content_filter"), "refused: content filter"),
        (completion(None, refusal="I cannot help"), "refused: I cannot help"),
        (completion(None, "tool_calls"), "ended its reply with 'tool_calls'"),
        (completion("re", "abort"), "ended its reply with 'abort'"),
        (error(400, "prompt of 9000 tokens is too long"), "prompt of 9000 tokens is too long"),
        (error(422, "x" * 9000), "HTTP 422: xxxx"),
        ((400, json.dumps({"detail": "Unexpected fields"}), {}), "HTTP 400: Unexpected fields"),
        ((400, "no JSON", {}), "HTTP 400: no JSON"),
        ((400, "", {}), "HTTP 400"),
        ((200, "<html>busy</html>", {}), "no chat completion: <html>busy</html>"),
    ],
)
def test_what_is_no_reply_is_a_failure_in_the_servers_words_and_others_go_on(
    tmp_path: Path, bad: Any, told: str
) -> None:
    with serving(lambda asked, n: bad if asked_text(asked) in "12" else echo(asked, n)) as server:
        found = results(answerer(server, tmp_path), texts(5))
    assert [key for key, each in sorted(found.items()) if isinstance(each, Failure)] == ["q1", "q2"]
    assert told in reason(found["q1"]) and len(reason(found["q1"])) < 600 and "\n" not in reason(found["q1"])
    assert len(server.asked) == 5, "none of these is asked again"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("passing", [error(429, retry_after="0"), error(500), error(503), DROPPED])
def test_what_may_pass_is_asked_again(tmp_path: Path, passing: Any) -> None:
    with serving(lambda asked, n: passing if n < 2 else echo(asked, n)) as server:
        found = results(answerer(server, tmp_path, concurrency=1), texts(1))
    assert isinstance(found["q0"], Reply) and len(server.asked) == 3


def test_retry_after_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Waiting(REAL):  # type: ignore[misc, valid-type]
        def _wait(self, seconds: float) -> None:
            waited.append(seconds)

    monkeypatch.setattr(engine, "Endpoint", Waiting)
    with serving(lambda asked, n: error(429, retry_after="17") if n == 0 else echo(asked, n)) as server:
        results(answerer(server, tmp_path, concurrency=1), texts(1))
    assert waited == [0, 17, 0]


@pytest.mark.usefixtures("impatient")
def test_a_slow_reply_is_given_up(tmp_path: Path) -> None:
    release = threading.Event()

    def respond(asked: Asked, n: int) -> Any:
        if asked_text(asked) == "1":
            release.wait(30)
        return echo(asked, n)

    with serving(respond) as server:
        found = results(answerer(server, tmp_path, timeout=1.0, tries=2), texts(3))
        release.set()
    assert reason(found["q1"]) == "no reply in time in 2 tries" and isinstance(found["q2"], Reply)


def test_an_image_or_a_text_that_cannot_be_sent_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no")
    broken = [Sample(question_id=f"i{n}", image_id="torn.png", question="?", answer="") for n in range(15)]
    half = Sample(question_id="half", image_id="group", question="\ud800", answer="", images=())
    with serving(echo) as server:
        found = results(answerer(server, tmp_path), [*broken, half, *texts(2)])
    stages = {key: each.stage for key, each in found.items() if isinstance(each, Failure)}
    assert stages == {**{f"i{n}": "image" for n in range(15)}, "half": "prompt"}
    assert len(server.asked) == 2


# the end of a run


def test_no_key_stands_in_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda asked, n: completion(KEY) if asked_text(asked) == "0" else error(400, f"bad {KEY}")) as server:
        found = results(answerer(server, tmp_path, concurrency=1), texts(2))
    assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}
    assert KEY not in str(found) and "bad [key]" in reason(found["q1"])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the server requires a key .* OPENAI_API_KEY"),
        (404, "does not know the model 'm'.* `model`, and `base_url`"),
    ],
)
def test_what_no_further_prompt_can_mend_ends_the_run_after_what_came(
    tmp_path: Path, status: int, message: str
) -> None:
    with serving(lambda asked, n: echo(asked, n) if n < 5 else error(status)) as server:
        found: list[Reply | Failure] = []
        with pytest.raises(InputError, match=message):
            for some in answerer(server, tmp_path).answer(texts(50), {}, 1, lambda: False):
                found.extend(some)
    assert len(by_key(found)) == 5 and all(isinstance(each, Reply) for each in found)
    assert len(server.asked) < 15


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("down", [error(500, "out of order"), DROPPED])
def test_a_server_that_is_down_ends_the_run_after_all_that_came(tmp_path: Path, down: Any) -> None:
    with serving(lambda asked, n: echo(asked, n) if n < 7 else down) as server:
        found: list[Reply | Failure] = []
        with pytest.raises(InputError, match=r"failed for 10 prompts in a row .* 7 new replies are kept"):
            for some in answerer(server, tmp_path, tries=1).answer(texts(500), {}, 1, lambda: False):
                found.extend(some)
        answered = sum(isinstance(each, Reply) for each in by_key(found).values())
        assert answered == 7 and 10 <= len(found) - answered < 30
        assert len(server.asked) == len(found), "whatever was asked has its place among the results"


@pytest.mark.parametrize("bad", [error(400, "too long"), error(403, "no credit"), completion("re", "abort")])
def test_one_failure_ten_times_in_a_row_ends_the_run_whatever_its_kind(tmp_path: Path, bad: Any) -> None:
    with serving(lambda asked, n: echo(asked, n) if n < 7 else bad) as server:
        found: list[Reply | Failure] = []
        with pytest.raises(InputError, match=r"failed for 10 prompts in a row .* 7 new replies are kept"):
            for some in answerer(server, tmp_path).answer(texts(500), {}, 1, lambda: False):
                found.extend(some)
        assert sum(isinstance(each, Reply) for each in by_key(found).values()) == 7
        assert len(server.asked) == len(found) < 40, "whatever was asked has its place among the results"


def test_prompts_that_failed_before_do_not_end_the_run(tmp_path: Path) -> None:
    failing = {f"q{n}" for n in range(25)}
    with serving(lambda asked, n: error(400) if f"q{asked_text(asked)}" in failing else echo(asked, n)) as server:
        asked = answerer(server, tmp_path, concurrency=1)
        found = by_key(
            [each for some in asked.answer(texts(40), {}, 1, lambda: False, frozenset(failing)) for each in some]
        )
    assert {key for key, each in found.items() if isinstance(each, Failure)} == failing and len(found) == 40


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_down_ends_the_run_also_for_prompts_that_failed_before(tmp_path: Path) -> None:
    with serving(lambda asked, n: error(500)) as server, pytest.raises(InputError, match="HTTP 500"):
        list(answerer(server, tmp_path, tries=1).answer(texts(40), {}, 1, lambda: False, {f"q{n}" for n in range(40)}))


def test_a_stopped_run_asks_nothing_more_and_waits_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_GRACE", 0.5)
    release, held = threading.Event(), []

    def respond(asked: Asked, n: int) -> Any:
        if asked_text(asked) == "3":
            held.append(not release.wait(60))
        return echo(asked, n)

    found: list[Reply | Failure] = []
    with serving(respond) as server:
        for some in answerer(server, tmp_path, concurrency=2).answer(texts(300), {}, 1, lambda: len(found) >= 20):
            found.extend(some)
        count = len(server.asked)
        assert not held, "the generator has ended before the reply that hangs"
        release.set()
    assert 20 <= len(by_key(found)) == count - 1 < 300, "all but the one that hangs have arrived"


def test_stopping_ends_the_waiting_before_another_try(tmp_path: Path) -> None:
    stopping = threading.Event()

    def respond(asked: Asked, n: int) -> Any:
        stopping.set()
        return error(500, retry_after="60")

    with serving(respond) as server:
        assert not list(answerer(server, tmp_path).answer(texts(4), {}, 1, stopping.is_set))
        assert len(server.asked) <= 4


def test_never_more_requests_at_once_than_asked_for_and_what_is_done_is_not_asked(tmp_path: Path) -> None:
    full = threading.Barrier(3)

    def respond(asked: Asked, n: int) -> Any:
        full.wait(30)  # goes on only when three requests are here
        return echo(asked, n)

    done = {f"q{n}": Reply(key=f"q{n}", text="", finished=True, asked="", date="") for n in range(0, 24, 2)}
    with serving(respond) as server:
        found = results(answerer(server, tmp_path, concurrency=3), texts(24), done)
    assert server.most_at_once == 3
    assert Counter(map(asked_text, server.asked)) == Counter(str(n) for n in range(1, 24, 2))
    assert all(isinstance(each, Reply) and each.text == f"said {key[1:]}" for key, each in found.items())


def test_an_image_that_has_changed_since_is_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9), "red").save(tmp_path / name)
    samples = [
        Sample(question_id=f"{name}{n}", image_id=f"{name}.png", question="?", answer="")
        for name in "ab"
        for n in range(2)
    ]
    with serving(echo) as server:
        first = results(answerer(server, tmp_path), samples)
        Image.new("RGB", (9, 9), "blue").save(tmp_path / "b.png")
        done = {key: each for key, each in first.items() if key.endswith("0")}
        second = results(answerer(server, tmp_path), samples, done)
    assert isinstance(second["a1"], Reply)
    assert second["b1"] == Failure(
        question_id="b1",
        stage="image",
        reason="b.png: not the content that other prompts of this run were asked about; restore it, or choose another "
        "`output_path`",
    )


# before anything is asked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "`base_url` 'localhost:8000' is not an address"),
        ({"base_url": "http://[::1/v1"}, "is not an address"),
        ({"base_url": "http://me:pw@h/v1"}, "`base_url` must not hold a name, password"),
        ({"model": ModelOptions(model="m", adapter=("lora",))}, "`adapter`: a server loads its model"),
        ({"min_pixels": 9, "prompt_date": "2026-01-01"}, "`min_pixels`, `prompt_date`: a server"),
        ({"model": ModelOptions(model="m", dtype="float16", revision="v2")}, "`revision`, `dtype`: a server"),
    ],
)
def test_flags_that_a_server_cannot_follow(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        answerer(Server(echo, "http://h/v1"), tmp_path, **settings)


def test_without_the_client_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(
        InputError, match=r"`engine` server needs the openai client; run: pip install 'halp_probe\[server\]'"
    ):
        answerer(Server(echo, "http://h/v1"), tmp_path)


def test_asking_a_server_needs_no_torch() -> None:
    code = (
        "import sys, halp_probe.answering.run, halp_probe.answering.server; "
        "print(*sorted({'torch', 'transformers', 'openai'} & set(sys.modules)), '.')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "."
