"""Further positions of the prompt: which are known, where a question ends, and a whole run with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import halp_probe
from halp_probe.cli import main
from halp_probe.engine.positions import parse_positions
from halp_probe.engine.question_end import (
    MARK,
    QuestionEndError,
    Surroundings,
    TokenizedText,
    find_question_end,
)
from halp_probe.errors import InputError
from halp_probe.probes.card import vectors_card
from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.records import POSITIONS
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.validation import problems

pytestmark = pytest.mark.slow

ALL = ",".join(POSITIONS)


def test_positions_come_in_one_order() -> None:
    assert parse_positions("query, vision") == parse_positions(["query", "vision"]) == ("vision", "query")
    assert parse_positions(ALL) == tuple(POSITIONS)


@pytest.mark.parametrize(
    ("positions", "message"),
    [("first:3", "states of the answer's tokens are not read"), ("middle", "'middle': choose among"), ("", "is empty")],
)
def test_positions_that_are_unknown_are_refused(positions: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_positions(positions)


class Characters:
    """A tokenizer of two characters a token, which may tell something else than it was given."""

    def __init__(self, says: str = "") -> None:
        self.says = says

    def decode(self, ids: list[int], **options: object) -> str:
        return "".join(map(chr, (part for pair in ids for part in divmod(pair, 1 << 20)))) + self.says


def tokenized(text: str) -> TokenizedText:
    pairs = [text[k : k + 2] for k in range(0, len(text), 2)]
    ids = [(ord(pair[0]) << 20) + ord(pair[1]) for pair in pairs]
    return TokenizedText(text=text, input_ids=ids, offsets=[(k, k + 2) for k in range(0, len(text), 2)])


@pytest.mark.parametrize(
    ("question", "text", "last"),
    [
        ("a?", "[a?]: a?<U>a?", 3 + 4),  # the same text in front and behind
        ("a ? \n", "[a?]: a ? \n<U>a?", 8),
        ("  a?", "[a?]: a?<U>a?", 7),  # the template strips
    ],
)
def test_the_question_stands_between_what_a_mark_has_around_it(question: str, text: str, last: int) -> None:
    surroundings = Surroundings.of_mark(f"[a?]: {MARK}<U>a?")
    assert surroundings.last_character(question, text) == last
    padded = text if len(text) % 2 == 0 else f"{text} "
    assert find_question_end(tokenized(padded), last, Characters()) == last // 2


def test_what_is_not_certain_is_refused() -> None:
    surroundings = Surroundings.of_mark(f"Q: {MARK} A:")
    for text in ("Q: a? B:", "a? A:", "Q: b? A:", "Q: A:"):
        with pytest.raises(QuestionEndError, match="not that of another question"):
            surroundings.last_character("a?", text)
    with pytest.raises(QuestionEndError, match="blank"):
        surroundings.last_character("  ", "Q:    A:")
    with pytest.raises(QuestionEndError, match="2 times"):
        Surroundings.of_mark(MARK + MARK)
    with pytest.raises(QuestionEndError, match="no token holds"):
        find_question_end(replace(tokenized("abcd"), offsets=[(0, 2), (0, 0)]), 3, Characters())
    with pytest.raises(QuestionEndError, match="decoded, end in"):
        find_question_end(tokenized("abcd"), 3, Characters("x"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=6, questions_a_scene=4, seed=500)
    return folder


def extract(data: Path, output: Path, positions: str) -> int:
    table = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", "shapes"]
    return main(["extract", *table, "--output-dir", str(output), "--no-answers", "--positions", positions])


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("all") / "out"
    assert extract(data, output, ALL) == 0
    return output


def test_a_run_stores_every_position(data: Path, run: Path) -> None:
    shards = halp_probe.open_shards(run)
    assert not [problem for path in shards.files for problem in problems(path)]
    assert {name.split("/")[0] for name in shards.representations} >= set(POSITIONS.values())
    end, last = (shards.numbers(f"token_index/{at}") for at in ("question_end", "query"))
    assert (end < last).all() and (end > shards.numbers("token_index/vision")).all()
    assert len(set(shards.numbers("token_id/question_end"))) == 1  # every question of this table ends in its mark
    row, about = 5, shards.frame().iloc[5]
    captured = halp_probe.capture(
        "shapes", data / "images" / about["image_id"], about["question"], positions=ALL, layers=[3]
    )
    for name, states in (("image_mean", captured.image_mean), ("question_end", captured.question_end)):
        stored = shards.vectors(f"{name}_representation/layer_3")[row]
        assert np.abs(stored - states[3]).max() <= 1e-5 * np.abs(stored).max()
        with h5py.File(shards.files[0]) as file:
            assert np.array_equal(file[about["question_id"]][f"{name}_representation/layer_3"][()], stored)


def test_the_usual_positions_leave_no_trace(data: Path, run: Path, tmp_path: Path) -> None:
    assert extract(data, tmp_path / "usual", "vision,query") == 0
    usual, shards = halp_probe.open_shards(tmp_path / "usual"), halp_probe.open_shards(run)
    assert "positions" not in usual.attributes and shards.attributes["positions"] == ALL
    assert not usual.has("token_index/question_end")
    assert set(usual.representations) == {
        name for name in shards.representations if not name.startswith(("question_end", "image_mean"))
    }
    for name in usual.representations:
        expected = usual.vectors(name)
        assert np.abs(shards.vectors(name) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_run_is_not_resumed_with_other_positions(data: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(data, run, "vision,query") == 2
    assert f"positions is {ALL!r} there and None now" in capsys.readouterr().err


def test_the_audit_checks_the_question_end(data: Path, run: Path, tmp_path: Path) -> None:
    call = ["audit", "--shards", str(run), "--images-dir", str(data / "images")]
    assert main(call) == 0
    (shard,) = run.glob("*.h5")
    copy = tmp_path / shard.name
    copy.write_bytes(shard.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["_columns/token_index/question_end"][4] -= 1
    assert main(["audit", "--shards", str(copy), "--images-dir", str(data / "images")]) == 1
    with h5py.File(copy, "r+") as file:
        file["_columns/token_index/question_end"][4] = -1
    asked = halp_probe.open_shards(copy).question_ids[4]
    assert problems(copy) == [f"token_index/question_end of {asked!r} is outside of the prompt"]
    with h5py.File(copy, "r+") as file:
        del file["_columns/token_id/question_end"]
    assert "token_id/question_end is missing beside" in problems(copy)[0]


@pytest.mark.parametrize("position", ["question_end", "image_mean"])
def test_the_risk_of_a_further_position_is_that_of_the_shards(
    data: Path, run: Path, tmp_path: Path, position: str
) -> None:
    shards, name = halp_probe.open_shards(run), f"{position}_representation/layer_3"
    x = shards.vectors(name)
    y = (x[:, 0] > np.median(x[:, 0])).astype(int)
    save_probe(tmp_path / "probe", LinearProbe(Cs=(1e-2,)).fit(x, y), vectors_card(name, shards.attributes))
    probe = load_probe(tmp_path / "probe")
    expected = probe.risk(x)
    scorer = halp_probe.RiskScorer("shapes", probe)
    about = shards.frame()
    for row in range(0, len(x), 5):
        risk = scorer.score(data / "images" / about["image_id"][row], about["question"][row])
        assert risk == pytest.approx(expected[row], abs=1e-5)
    call = ["score", "--probe", str(tmp_path / "probe"), "--output-dir", str(tmp_path / "scored")]
    call += ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--no-answers"]
    assert main(call) == 0
    scored = halp_probe.open_shards(tmp_path / "scored")
    order = [scored.question_ids.index(question_id) for question_id in shards.question_ids]
    assert np.allclose(probe.risk(scored.vectors(name))[order], expected, atol=1e-5)
