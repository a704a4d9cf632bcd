"""The page's logic, run by Streamlit's own test harness on the bundled model and its probes."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from PIL import Image
from report_data import empty_report, full_report

pytest.importorskip("streamlit")

import streamlit
from streamlit.testing.v1 import AppTest

from halp_probe import cli
from halp_probe.app import chat as chat_module
from halp_probe.app import examples, history, shards_view, shelf
from halp_probe.app.conversation import Picture, Session, State
from halp_probe.app.report_view import heatmap
from halp_probe.app.settings import Choice, PageSettings
from halp_probe.app.tables import table
from halp_probe.app.wording import percent
from halp_probe.commands.app import PAGE, is_loopback, server_options
from halp_probe.engine import engine
from halp_probe.engine.images import from_pixels
from halp_probe.models.options import ModelOptions, load
from halp_probe.probes.files import SavedProbe, load_probes, save_probe
from halp_probe.report.colours import fill
from halp_probe.report.heatmap import Cell
from halp_probe.report.wording import decimal
from halp_probe.scoring.conversation import ProbedChat
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow
EASY = examples.example("Easy")
FIRST, SECOND = "What shape is the orange one?", "How many circles are there?"


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit makes the page the main module and leaves it so; other tests' processes would run it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="module")
def chat() -> ProbedChat:
    return ProbedChat(load(ModelOptions(model="shapes")), load_probes("shapes"))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return opened(monkeypatch, "shapes")


def opened(monkeypatch: pytest.MonkeyPatch, probe: str, **settings: Any) -> AppTest:
    choice = Choice.of(ModelOptions(model="shapes"), probe)
    monkeypatch.setattr("sys.argv", [str(PAGE), PageSettings(choice, **settings).as_argument()])
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    return page


def ask(page: AppTest, question: str) -> None:
    page.chat_input[0].set_value(question).run()
    assert not page.exception


def never_answer(page: AppTest) -> None:
    threshold(page).set_value(0.0).run()


def threshold(page: AppTest) -> Any:
    return next(slider for slider in page.sidebar.slider if slider.label.startswith("Stay silent"))


def pressed(page: AppTest, label: str) -> None:
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


def shown(page: AppTest) -> str:
    """All HTML of the page's main part, without the pictures' bytes."""
    return re.sub(r'src="data:[^"]*"', "", " ".join(html.proto.body for html in page.main.get("html")))


def session(page: AppTest) -> Session:
    found: Session = page.session_state["session"]
    return found


def test_the_risk_is_drawn_before_any_token_is_computed(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    real_steps, real_html = engine.steps, chat_module.st.html

    def steps(*arguments: Any) -> Iterator[Any]:
        for step in real_steps(*arguments):
            events.append("token")
            yield step

    def html(body: object, **options: Any) -> Any:
        events.append(next((name for name in ("gauge", "chart") if f"halp-{name}" in str(body)), "text"))
        return real_html(body, **options)

    monkeypatch.setattr(engine, "steps", steps)
    monkeypatch.setattr(chat_module.st, "html", html)
    ask(page, FIRST)
    assert events.index("gauge") < events.index("chart") < events.index("token")
    assert session(page).turns[0].state is State.ANSWERED


def test_risk_and_answer_are_those_of_the_model_and_the_selected_probe(page: AppTest, chat: ProbedChat) -> None:
    asked = chat.ask([EASY.image], FIRST)
    ask(page, FIRST)
    turn = session(page).turns[0]
    assert turn.assessment is not None and not turn.assessment.follow_up
    assert turn.assessment.risks == pytest.approx(asked.risks)
    assert turn.assessment.by == "selected_probe"
    assert turn.answer == asked.answer() == "square"
    assert "likely to be wrong" in shown(page) and "True answer: square" in shown(page)
    assert turn.asked is None and turn.pieces is None  # the model's memory of it is free again


def test_above_the_threshold_it_is_silent_until_it_is_asked_to_answer(page: AppTest, chat: ProbedChat) -> None:
    never_answer(page)
    ask(page, FIRST)
    turn = session(page).turns[0]
    assert turn.abstained and turn.state is State.ABSTAINED and turn.answer == ""
    assert "I would rather not answer" in shown(page) and ">square<" not in shown(page)
    before = turn.assessment
    pressed(page, "Answer anyway")
    assert turn.state is State.ANSWERED and turn.answered_anyway and turn.abstained
    assert turn.answer == chat.ask([EASY.image], FIRST).answer()
    assert turn.assessment is before and ">square<" in shown(page)


def test_an_abstention_is_decided_by_the_threshold_of_its_time(page: AppTest) -> None:
    never_answer(page)
    ask(page, FIRST)
    threshold(page).set_value(100.0).run()
    turn = session(page).turns[0]
    assert turn.state is State.ABSTAINED and turn.assessment is not None and turn.assessment.threshold == 0


def test_the_slider_begins_at_the_cards_threshold_to_the_last_bit(page: AppTest) -> None:
    probe = load_probes("shapes")["selected_probe"]
    assert probe.threshold is not None
    ask(page, FIRST)
    judged = session(page).turns[0].assessment
    assert judged is not None and judged.threshold == probe.threshold.risk


def test_a_second_question_is_asked_after_the_first_and_says_so(page: AppTest, chat: ProbedChat) -> None:
    alone = chat.ask([EASY.image], SECOND)
    after = chat.ask([EASY.image], SECOND, [(FIRST, "square")])
    assert alone.risks != pytest.approx(after.risks) and alone.answer() != after.answer()
    ask(page, FIRST)
    assert "A follow-up" not in shown(page)
    ask(page, SECOND)
    turn = session(page).turns[1]
    assert turn.assessment is not None and turn.assessment.follow_up
    assert turn.assessment.risks == pytest.approx(after.risks)
    assert turn.answer == after.answer()
    assert "A follow-up" in shown(page)


def test_what_was_not_answered_is_not_in_the_next_prompt(page: AppTest, chat: ProbedChat) -> None:
    never_answer(page)
    ask(page, FIRST)
    ask(page, SECOND)
    turn = session(page).turns[1]
    assert turn.assessment is not None and not turn.assessment.follow_up
    assert turn.assessment.risks == pytest.approx(chat.ask([EASY.image], SECOND).risks)
    assert session(page).turns[0].asked is None  # only the newest can be answered anyway
    assert [button.label for button in page.button].count("Answer anyway") == 1


def test_another_picture_and_the_button_begin_a_conversation(page: AppTest) -> None:
    ask(page, FIRST)
    page.button_group(key="example").set_value("Hard").run()
    assert session(page).turns == [] and session(page).history == () and session(page).conversation == 2
    ask(page, SECOND)
    judged = session(page).turns[0].assessment
    assert judged is not None and not judged.follow_up
    pressed(page, "New conversation")
    assert session(page).turns == [] and len(session(page).past) == 2
    pressed(page, "Forget history")
    assert session(page).all_turns == []


def test_an_answer_that_is_cut_off_says_so(page: AppTest) -> None:
    page.sidebar.slider(key="max_new_tokens").set_value(1).run()
    ask(page, FIRST)
    turn = session(page).turns[0]
    assert turn.state is State.ANSWERED and turn.cut_off
    assert "cut off" in shown(page) and history.row(turn)["note"] == "cut off"
    page.sidebar.slider(key="max_new_tokens").set_value(8).run()
    ask(page, FIRST)
    turn = session(page).turns[1]
    assert not turn.cut_off and history.row(turn)["note"] == ""


def test_the_example_that_is_marked_is_the_one_that_is_shown(page: AppTest) -> None:
    page.button_group(key="example").set_value("Hard").run()
    page.button_group(key="source").set_value("Upload").run()
    page.button_group(key="source").set_value("Example").run()
    assert page.button_group(key="example").value == "Hard" and "scene 27" in shown(page)
    session(page).show(Picture(image=from_pixels(Image.new("RGB", (80, 60))), name="mine.png"))
    page.run()
    assert not page.exception and page.button_group(key="example").value is None
    page.button_group(key="example").set_value("Easy").run()
    assert "scene 113" in shown(page)


def test_adapters_stand_beside_the_models_name(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = load(ModelOptions(model="shapes"))
    monkeypatch.setattr(shelf, "load", lambda options: bundled)
    page.sidebar.text_input(key="adapters").set_value("one, two")
    pressed(page, "Use these")
    ask(page, FIRST)
    assert history.row(session(page).turns[0])["model"] == "shapes + one + two"
    streamlit.cache_resource.clear()  # others load what they name


@pytest.mark.parametrize("field", ["model", "adapters", "probe"])
def test_a_name_that_no_file_can_have_is_one_sentence(page: AppTest, field: str) -> None:
    page.sidebar.text_input(key=field).set_value("x" * 300)
    pressed(page, "Use these")
    assert 'role="alert"' in shown(page)


def test_an_interrupted_answer_goes_on_where_it_stopped(page: AppTest) -> None:
    never_answer(page)
    ask(page, FIRST)
    turn = session(page).turns[0]
    assert turn.asked is not None
    turn.answer_anyway()
    turn.pieces = iter(["qu", "are"])
    turn.answer = next(turn.pieces)  # as far as the script came before it was stopped
    page.run()
    assert turn.answer == "quare" and turn.state is State.ANSWERED


def test_visitors_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = opened(monkeypatch, "shapes"), opened(monkeypatch, "shapes")
    ask(one, FIRST)
    other.run()
    assert session(other).all_turns == [] and FIRST not in shown(other).split("Ask, for instance")[0]


def test_the_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr(shelf, "load", lambda options: loads.append(options) or load(options))
    streamlit.cache_resource.clear()
    one, other = opened(monkeypatch, "shapes"), opened(monkeypatch, "shapes")
    ask(one, FIRST)
    ask(other, FIRST)
    opened(monkeypatch, "")  # other probes, the same model
    assert len(loads) == 1


def test_without_a_probe_it_answers_and_says_that_no_risk_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(monkeypatch, "")
    assert "No probe is chosen" in shown(page)
    ask(page, FIRST)
    turn = session(page).turns[0]
    assert turn.answer == "square" and not turn.abstained
    assert "likely to be wrong" not in shown(page) and "No risk is known for this answer" in shown(page)


def test_a_probe_of_another_model_is_named_and_shows_no_risk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe = of_another_model(load_probes("shapes")["selected_probe"])
    save_probe(tmp_path / "other", probe.estimator, probe.metadata, probe.calibration)
    page = opened(monkeypatch, str(tmp_path / "other.json"))
    assert "this probe cannot be used: the probe was trained on" in shown(page)
    ask(page, FIRST)
    assert session(page).turns[0].answer == "square" and "likely to be wrong" not in shown(page)


def of_another_model(probe: SavedProbe) -> SavedProbe:
    return replace(probe, metadata={**probe.metadata, "revision": "0" * 40})


def test_a_probe_without_threshold_says_that_one_is_guessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe = load_probes("shapes")["selected_probe"]
    save_probe(tmp_path / "mine", probe.estimator, {**probe.metadata}, probe.calibration)
    page = opened(monkeypatch, str(tmp_path / "mine.json"))
    assert threshold(page).value == 50
    assert any("is a guess" in caption.value for caption in page.sidebar.caption)


def test_a_model_that_cannot_be_loaded_is_one_sentence(page: AppTest, tmp_path: Path) -> None:
    page.sidebar.text_input(key="model").set_value(str(tmp_path / "nothing"))
    pressed(page, "Use these")
    assert 'role="alert"' in shown(page) and "does not exist" in shown(page) and "Traceback" not in shown(page)
    assert not page.chat_input
    page.sidebar.text_input(key="model").set_value("shapes")
    pressed(page, "Use these")
    ask(page, FIRST)
    assert session(page).turns[0].answer == "square"


def test_a_question_that_cannot_be_asked_is_told_and_is_not_in_the_next_prompt(page: AppTest) -> None:
    ask(page, "What is <|image_pad|>?")
    turn = session(page).turns[0]
    assert turn.state is State.FAILED and turn.error and 'role="alert"' in shown(page)
    assert "<|image_pad|>" not in shown(page) and "&lt;|image_pad|&gt;" in shown(page)
    ask(page, FIRST)
    assert session(page).turns[1].answer == "square"
    assert history.row(turn)["note"] == turn.error


def test_no_markup_of_a_question_reaches_the_page(page: AppTest) -> None:
    ask(page, "<img src=x onerror=alert(1)>")
    assert "<img src=x" not in shown(page) and "&lt;img src=x" in shown(page)


def test_whoever_looks_on_from_elsewhere_may_not_name_files(monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(monkeypatch, "shapes", open_to_all=True)
    assert not page.text_input
    ask(page, FIRST)
    assert session(page).turns[0].answer == "square"


def test_the_history_tells_what_happened(page: AppTest) -> None:
    ask(page, FIRST)
    never_answer(page)
    ask(page, SECOND)
    rows = list(csv.DictReader(io.StringIO(history.as_csv(session(page).all_turns).decode("utf-8-sig"))))
    first, second = rows
    assert (first["question"], first["answer"], first["abstained"], first["answered_anyway"]) == (
        FIRST,
        "square",
        "no",
        "",
    )
    assert (second["abstained"], second["answered_anyway"], second["answer"], second["follow_up"]) == (
        "yes",
        "no",
        "",
        "yes",
    )
    assert float(second["threshold"]) == 0 < float(second["risk"])
    assert first["model"] == "shapes" and first["probe"] == "shapes: selected_probe" and "scene 113" in first["image"]
    assert [button.label for button in page.get("download_button")] == ["Download history as CSV"]


def test_no_markup_of_a_file_reaches_a_table() -> None:
    drawn = table(["<b>"], [["<td><script>", Markup("<img>")]])
    assert "<b>" not in drawn and "<script>" not in drawn and "&lt;script&gt;" in drawn and "<td><img></td>" in drawn


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "＝1", "－1"])
def test_no_cell_of_the_csv_can_become_a_formula(cell: str) -> None:
    assert history.defuse(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "red", "0.5000", "a=b", "it's -1", "2026-11-22 10:00:00"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert history.defuse(cell) == cell


def results(page: AppTest, path: Path | str, probe: str = "", images: Path | str = "") -> str:
    """What the second tab shows when these are opened."""
    for key, value in (("results_path", path), ("results_probe", probe), ("results_images", images)):
        page.text_input(key=key).set_value(str(value))
    pressed(page, "Open")
    return shown(page).split("What was found")[1]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's states of 30 questions on 10 pictures, beside `images`."""
    folder = tmp_path_factory.mktemp("results")
    write_dataset(folder, n_scenes=10, questions_a_scene=3, seed=300)
    arguments = ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images")]
    assert cli.main(["extract", "--model", "shapes", *arguments, "--output-dir", str(folder / "shards")]) == 0
    return folder / "shards"


def test_shards_are_opened_with_their_riskiest_questions(page: AppTest, shards: Path) -> None:
    told = results(page, shards, "shapes", shards.parent / "images")
    probe = load_probes("shapes")["selected_probe"]
    opened = open_shards(shards)
    risks = probe.risk(opened.vectors(str(probe.metadata["representation"])))
    worst = int(risks.argmax())
    first = re.search(
        r"<tr><td>(.*?)</td><td>.*?</td><td>(.*?)</td><td>(.*?)</td>", told.split("Riskiest questions")[1]
    )
    assert first is not None
    assert first.groups() == (percent(risks[worst]), opened.text("question")[worst], opened.text("answer")[worst])
    assert told.count('class="halp-thumbnail"') == 20 and 'role="alert"' not in told
    assert "<dd>30</dd>" in told


def test_a_page_of_questions_is_read_once(page: AppTest, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = shards_view.question_rows
    monkeypatch.setattr(shards_view, "question_rows", lambda *wanted: read.append(wanted[1:]) or real(*wanted))
    results(page, shards)
    page.run()
    page.number_input[0].set_value(2).run()
    page.run()
    assert read == [(0, 20), (20, 20)]


def test_what_keeps_a_probe_or_pictures_from_being_shown_is_told(page: AppTest, shards: Path, tmp_path: Path) -> None:
    told = results(page, shards, str(tmp_path / "none.json"))
    assert 'role="alert"' in told and "none.json" in told and "Riskiest" not in told and "Questions" in told
    told = results(page, shards, "shapes", tmp_path)
    assert "No picture: " in told and "(20 pictures in all)" in told and "Riskiest questions" in told


def test_a_report_is_opened_with_its_heatmap(page: AppTest, tmp_path: Path) -> None:
    content = full_report()
    (tmp_path / "report.json").write_text(json.dumps(content))
    told = results(page, tmp_path)
    judged = [result for result in content["results"] if result["kind"] == "representation"]
    assert judged
    for result in judged:
        auroc = result["auroc"]["value"]
        assert f'style="background:{fill(auroc)}">{decimal(auroc)}<small>' in told
    for example in content["examples"]["most_risky"]:
        assert percent(example["risk"]) in told
    assert "Riskiest answers" in told


def test_a_report_of_nothing_is_shown_as_such(page: AppTest, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(empty_report()))
    assert "AUROC <b>not known</b>" in results(page, tmp_path)


@pytest.mark.parametrize(("path", "words"), [("", "name a folder"), ("nowhere", "does not exist")])
def test_what_is_no_result_is_one_sentence(page: AppTest, path: str, words: str) -> None:
    told = results(page, path)
    assert words in told and 'role="alert"' in told


def test_the_layers_heatmap_tells_what_is_not_known() -> None:
    cells = [
        Cell(position="query_token", layer=3, auroc=0.75, low=0.7, high=0.8),
        Cell(position="vision_token", layer=0, auroc=nan, low=nan, high=nan),
    ]
    (drawn,) = heatmap(cells)
    assert drawn.index("layer 0") < drawn.index("layer 3")
    assert "0.750<small>(0.700 to 0.800)</small>" in drawn and "not known<small></small>" in drawn
    assert drawn.count("<td></td>") == 2  # nothing was probed there


@pytest.mark.parametrize(
    ("share", "beside", "words"),
    [
        (0.624, None, "62\u202f%"),
        (0.0, None, "0\u202f%"),
        (0.004, None, "under 1\u202f%"),
        (0.996, None, "over 99\u202f%"),
        (1.0, None, "100\u202f%"),
        (0.354, 0.352, "35.4\u202f%"),
        (0.35, 0.35, "35\u202f%"),
    ],
)
def test_a_percentage_says_no_more_and_no_less_than_it_knows(share: float, beside: float | None, words: str) -> None:
    assert percent(share, beside) == words


def test_settings_reach_the_page_as_they_are() -> None:
    options = ModelOptions(model="a/b", adapter=("one", "two"), revision="main", trust_lookup=True)
    settings = PageSettings(Choice.of(options, "probe.json"), open_to_all=True)
    assert PageSettings.from_argument(settings.as_argument()) == settings
    assert Choice.of(options, None).probe == "" and Choice.of(ModelOptions(model="shapes"), None).probe == "shapes"


def test_another_model_takes_no_revision_or_trust_from_the_one_before() -> None:
    first = Choice.of(ModelOptions(model="a/b", revision="abc", trust_remote_code="a/b", dtype="float16"), None)
    assert first.with_names("a/b", (), "").model == first.model
    other = first.with_names("c/d", (), "").model
    assert other == ModelOptions(model="c/d", dtype="float16")


def test_without_streamlit_the_command_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit.web", None)
    assert cli.main(["app"]) == 2
    assert "pip install 'halp_probe[app]'" in capsys.readouterr().err


def test_only_this_machine_reaches_the_page_by_default() -> None:
    options = server_options("127.0.0.1", 8501, open_to_all=False)
    assert options["server.address"] == "127.0.0.1" and options["browser.gatherUsageStats"] is False
    assert options["server.allowedHosts"] == ["127.0.0.1", "localhost"]
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "example.com")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
