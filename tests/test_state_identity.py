"""Each field of a `StateIdentity` in each of its users: another value is refused by name, or let pass by design.

The cases are the fields of the class, so a field that is added is tested by itself. Files are written with the
attributes of a real extraction; models, processors and commands are the real ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from probes_fake import BLOCK_TORCH
from shard_data import columns

from halp_probe.app.shards_contents import open_shards_contents, riskiest
from halp_probe.bootstrap import Draws
from halp_probe.cli import main
from halp_probe.comparison.compare import compare
from halp_probe.comparison.outputs import side_name
from halp_probe.comparison.pairing import PairError, pair
from halp_probe.engine.identity import add_prompts, identity_of_model
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.extraction.audit import audit
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.probes.card import vectors_card
from halp_probe.probes.files import SavedProbe, load_probe, load_probes, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.scoring.compatibility import check_fits, check_same_prompts
from halp_probe.scoring.conversation import ProbedChat
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import ShardError, Shards, open_shards
from halp_probe.shards.run_folder import RunFolder
from halp_probe.shards.writer import write_shard
from halp_probe.state_identity import (
    AUDITED,
    ONE_FOLDER,
    PAIRED,
    PROBE_ON_MODEL,
    PROBE_ON_OTHER_MODEL,
    PROBE_ON_SHARDS,
    PROBES_TOGETHER,
    SAME_RUN,
    UNKNOWN,
    StateIdentity,
)

QUERY = "query_token_representation/layer_3"
FIELDS = StateIdentity.compared_fields()
# A prompter makes prompts as these say; the bundled template writes no date and takes no option.
GIVEN = frozenset(StateIdentity().prompt_options()) - {"prompt_date", "template_options"}
# Of a run's record; the others are in its shards alone.
RECORDED = [each for each in FIELDS if each.name not in ("config_model_type", "layer_meaning")]
every_field = pytest.mark.parametrize("which", FIELDS, ids=lambda each: each.name)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A finished extraction with the bundled model, labels, a saved probe of its states, and the model."""

    folder: Path
    shards: Shards
    probe: SavedProbe
    loaded: LoadedModel

    @property
    def call(self) -> list[str]:
        """The flags of the extraction, but for its folder."""
        table = ["--vqa-dataset", str(self.folder / "vqa.csv"), "--images-dir", str(self.folder / "images")]
        return [*table, "--model", "shapes", "--layers", "3", "--no-answers"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("setting")
    write_dataset(folder, n_scenes=8, questions_a_scene=3, seed=700)
    loaded = load_weights(open_checkpoint("shapes"))
    made = Setting(folder=folder, shards=None, probe=None, loaded=loaded)  # type: ignore[arg-type]
    assert main(["extract", *made.call, "--output-dir", str(folder / "run")]) == 0
    shards = open_shards(folder / "run")
    y = np.arange(len(shards.question_ids)) % 2
    save_probe(folder / "probe", LinearProbe().fit(shards.vectors(QUERY), y), vectors_card(QUERY, shards.attributes))
    lines = [f"{question_id},{label}" for question_id, label in zip(shards.question_ids, y, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["question_id,label", *lines]) + "\n")
    return replace(made, shards=shards, probe=load_probe(folder / "probe"))


def another(which: Field[Any]) -> Any:
    """A value that the field of the bundled model's states does not have."""
    special = {"template_options": '{"other": 1}', "revision": "local-0"}
    kinds = {"Number": 4242, "bool": True}
    kind = next((value for name, value in kinds.items() if str(which.type).startswith(name)), "another")
    return special.get(which.name, kind)


def attribute(which: Field[Any]) -> str:
    """The name under which shards have it."""
    return "intervention_to" if which.name == "intervention_settings" else which.name


def changed_copy(setting: Setting, folder: Path, which: Field[Any], **more: Any) -> Path:
    """The run's folder with another value in its shards' attributes."""
    shutil.copytree(setting.folder / "run", folder)
    for path in folder.glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs.update({attribute(which): another(which), **more})
    return folder


def changed(probe: SavedProbe, which: Field[Any]) -> SavedProbe:
    return replace(probe, metadata={**probe.metadata, which.name: another(which)})


def refused(which: Field[Any], do: Callable[[], object], error: type[InputError] = InputError) -> None:
    with pytest.raises(error, match=which.name):
        do()


# Users


@every_field
@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["another after it", "another before it"])
def test_files_of_one_folder(setting: Setting, tmp_path: Path, which: Field[Any], order: Sequence[int]) -> None:
    attributes = {name: value for name, value in setting.shards.attributes.items() if name != "created_at"}
    for part, given in zip(order, (attributes, {**attributes, attribute(which): another(which)}), strict=True):
        write_shard(tmp_path / f"m_embeddings_part_{part:03d}.h5", columns([f"q{part}"]), given)
    assert which.name not in ONE_FOLDER.may_differ
    refused(which, lambda: open_shards(tmp_path), ShardError)


@pytest.mark.parametrize("which", RECORDED, ids=lambda each: each.name)
def test_a_run_that_is_taken_up_again(
    setting: Setting, tmp_path: Path, which: Field[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By its record; that of a run without a change goes on."""
    folder = tmp_path / "run"
    shutil.copytree(setting.folder / "run", folder)
    record = json.loads((folder / "run.json").read_text())
    record["settings"][attribute(which)] = another(which)
    (folder / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    flags = ["--prompt-date", "2026-01-02"] if which.name == "prompt_date" else []
    assert main(["extract", *setting.call, "--output-dir", str(folder), *flags]) == 2
    assert f"{attribute(which)} is {another(which)!r} there and" in capsys.readouterr().err


@every_field
def test_the_shards_of_a_run_that_is_taken_up_again(setting: Setting, tmp_path: Path, which: Field[Any]) -> None:
    def taken_up(path: Path) -> RunFolder:
        return RunFolder(path, "shapes", setting.shards.question_ids, attributes=setting.shards.attributes)

    assert len(taken_up(setting.folder / "run").done) == len(setting.shards.question_ids)
    assert which.name not in SAME_RUN.may_differ
    refused(which, lambda: taken_up(changed_copy(setting, tmp_path / "run", which)), ShardError)


@every_field
def test_a_threshold(setting: Setting, tmp_path: Path, which: Field[Any], capsys: pytest.CaptureFixture[str]) -> None:
    def set_threshold(shards: Path) -> int:
        what = ["--labels", str(setting.folder / "labels.csv"), "--min-coverage", "0.5"]
        return main(["set-threshold", "--probe", str(setting.folder / "probe"), "--shards", str(shards), *what])

    assert which.name not in PROBE_ON_SHARDS.may_differ
    assert set_threshold(setting.folder / "run") == 0
    card = (setting.folder / "probe.json").read_bytes()
    assert set_threshold(changed_copy(setting, tmp_path / "run", which)) == 2
    assert f"trained on other states: {which.name} is " in capsys.readouterr().err
    assert (setting.folder / "probe.json").read_bytes() == card


@every_field
def test_the_questions_of_highest_risk_on_the_page(setting: Setting, tmp_path: Path, which: Field[Any]) -> None:
    assert len(riskiest(open_shards_contents(setting.folder / "run"), setting.probe, 3).rows) == 3
    found = open_shards_contents(changed_copy(setting, tmp_path / "run", which))
    refused(which, lambda: riskiest(found, setting.probe, 3))


@every_field
def test_a_probe_and_a_model(setting: Setting, which: Field[Any]) -> None:
    """What a prompter can be given, it is given: the model's prompts are then those of the card."""
    loaded, probe = setting.loaded, changed(setting.probe, which)
    check_fits(setting.probe, loaded)
    if which.name in GIVEN:
        check_fits(probe, loaded)
        prompter = Prompter.for_identity(loaded.checkpoint, StateIdentity.of_card(probe.metadata))
        assert getattr(add_prompts(identity_of_model(loaded), prompter), which.name) == another(which)
    elif which.name in PROBE_ON_MODEL.may_differ:
        check_fits(probe, loaded)
    else:
        refused(which, lambda: check_fits(probe, loaded))
        refused(which, lambda: ProbedChat(loaded, {"one": probe}))


@every_field
def test_a_probe_and_another_model_that_the_user_allows(setting: Setting, which: Field[Any]) -> None:
    loaded, probe = setting.loaded, changed(setting.probe, which)
    if which.name in PROBE_ON_OTHER_MODEL.may_differ | {"system_prompt"}:
        check_fits(probe, loaded, allow_other_model=True)
    else:
        refused(which, lambda: check_fits(probe, loaded, allow_other_model=True))


@every_field
def test_probes_of_one_conversation(setting: Setting, which: Field[Any]) -> None:
    cards = {"one": setting.probe.metadata, "other": changed(setting.probe, which).metadata}
    if which.name in PROBES_TOGETHER.may_differ:
        check_same_prompts(cards)
        assert which.name not in PROBE_ON_MODEL.may_differ  # which each of them is asked
    else:
        refused(which, lambda: check_same_prompts(cards))


@every_field
def test_two_folders_that_are_compared(setting: Setting, tmp_path: Path, which: Field[Any]) -> None:
    more = {"adapter_names": '["another"]'} if which.name == "adapters" else {}
    other = open_shards(changed_copy(setting, tmp_path / "run", which, **more))
    if which.name not in PAIRED.may_differ:
        refused(which, lambda: pair(setting.shards, other), PairError)
        return
    found = compare(pair(setting.shards, other), Draws(count=20, seed=0))
    words = [*found.notes, side_name(other), *(movement.note for movement in found.movements)]
    assert any(str(another(which)) in text for text in words), words  # it differs by design, and is said
    same = compare(pair(setting.shards, open_shards(_copy(setting, tmp_path / "same"))), Draws(count=20, seed=0))
    assert set(found.notes) >= set(same.notes)


def _copy(setting: Setting, folder: Path) -> Path:
    shutil.copytree(setting.folder / "run", folder)
    return folder


@every_field
def test_the_audit(setting: Setting, tmp_path: Path, which: Field[Any]) -> None:
    shards = open_shards(changed_copy(setting, tmp_path / "run", which))

    def mismatches() -> int:
        return len(list(audit(shards, setting.folder / "images", None)))

    if which.name in GIVEN:  # to the prompter, and so the stored positions are wrong
        assert mismatches() > 0 or which.name == "min_pixels"  # the pictures are larger than either
    elif which.name in AUDITED.may_differ:
        assert mismatches() == 0
    else:
        refused(which, mismatches)


# What is not told


@pytest.mark.parametrize("which", [each for each in FIELDS if each.metadata.get("optional")], ids=lambda f: f.name)
def test_absent_from_a_shard_of_ours_means_none(which: Field[Any]) -> None:
    ours = StateIdentity.of_shards({"format": "halp_probe", "revision": "r"})
    assert getattr(ours, which.name) is None
    told = StateIdentity.of_shards({"format": "halp_probe", "revision": "r", attribute(which): another(which)})
    assert [each.name for each in ours.differences(told, PROBE_ON_SHARDS)] == [which.name]


@every_field
def test_absent_from_a_file_of_other_code_means_unknown(which: Field[Any]) -> None:
    foreign = StateIdentity.of_shards({"model_name": "somebody's"})
    assert not foreign.complete and getattr(foreign, which.name) is UNKNOWN
    ours = StateIdentity.of_shards({"format": "halp_probe", "revision": "r", attribute(which): another(which)})
    assert not ours.differences(foreign, PROBE_ON_SHARDS) and not foreign.differences(ours, PROBE_ON_SHARDS)


def test_what_every_extraction_writes_is_unknown_where_it_is_absent() -> None:
    """As in the archived shard, which has no attribute but those that the format demands."""
    archived = StateIdentity.of_shards(open_shards(Path(__file__).parent / "data" / "shard_v1.h5").attributes)
    unknown = [each.name for each in FIELDS if getattr(archived, each.name) is UNKNOWN]
    assert unknown == ["config_model_type", "layer_meaning", "prompt", "chat_template_sha256"]


def test_cards_of_older_releases_do_not_tell_the_task(setting: Setting) -> None:
    card = setting.probe.metadata
    assert card["task"] is None and StateIdentity.of_card(card).task is None
    older = {name: value for name, value in card.items() if name not in ("task", "intervention_settings", "adapters")}
    assert StateIdentity.of_card(older).task is UNKNOWN and StateIdentity.of_card(older).adapters is None
    of_task = StateIdentity.of_shards({**setting.shards.attributes, "task": "qa"})
    assert not StateIdentity.of_card(older).differences(of_task, PROBE_ON_SHARDS)
    assert [each.name for each in StateIdentity.of_card(card).differences(of_task, PROBE_ON_SHARDS)] == ["task"]


def test_a_card_without_a_revision_tells_no_absence(setting: Setting) -> None:
    card = {**setting.probe.metadata, "revision": None, "system_prompt": None}
    assert StateIdentity.of_card(card).system_prompt is UNKNOWN
    refused(
        next(f for f in FIELDS if f.name == "revision"),
        lambda: check_fits(replace(setting.probe, metadata=card), setting.loaded),
    )


# One identity by three ways


def test_shards_card_and_model_say_the_same(setting: Setting) -> None:
    of_shards = StateIdentity.of_shards(setting.shards.attributes)
    of_card = StateIdentity.of_card(setting.probe.metadata)
    prompter = Prompter.for_identity(setting.loaded.checkpoint, of_card)
    of_model = add_prompts(identity_of_model(setting.loaded), prompter)
    assert of_shards == of_card == replace(of_model, task=None)
    assert UNKNOWN not in [getattr(of_shards, each.name) for each in FIELDS]


def test_the_bundled_probes_fit_the_bundled_model(setting: Setting) -> None:
    """Their cards are of a release before the task was told."""
    probes = load_probes("shapes")
    assert probes and all("task" not in probe.metadata for probe in probes.values())
    for probe in probes.values():
        check_fits(probe, setting.loaded)
        assert not StateIdentity.of_card(probe.metadata).differences(
            StateIdentity.of_shards(setting.shards.attributes), PROBE_ON_SHARDS
        )


def test_numbers_of_numpy_are_numbers(setting: Setting) -> None:
    attributes = {**setting.shards.attributes, "min_pixels": np.int64(3136), "family_looked_up": np.bool_(False)}
    assert attributes["min_pixels"] == setting.shards.attributes["min_pixels"]
    found = StateIdentity.of_shards(attributes)
    assert found == StateIdentity.of_shards(setting.shards.attributes)
    assert type(found.min_pixels) is int and json.dumps(found.card())


def test_dtype_and_versions_are_no_part_of_it(setting: Setting) -> None:
    changes = {"dtype": "bfloat16", "torch_version": "0", "device": "cuda", "max_new_tokens": 9, "task_split": "val"}
    other = StateIdentity.of_shards({**setting.shards.attributes, **changes})
    assert other == StateIdentity.of_shards(setting.shards.attributes)


def test_a_threshold_is_set_without_torch(setting: Setting) -> None:
    code = f"{BLOCK_TORCH}\nfrom halp_probe.cli import main\nsys.exit(main(sys.argv[1:]))"
    flags = ["--shards", setting.folder / "run", "--labels", setting.folder / "labels.csv", "--min-coverage", "0.5"]
    call = [sys.executable, "-c", code, "set-threshold", "--probe", setting.folder / "probe", *flags]
    done = subprocess.run([str(part) for part in call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
