"""An adapter's states are PEFT's own; a stack is the merges in its order; what does not fit is never passed over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from family_proof import single_inputs
from safetensors.torch import load_file, save_file
from tiny_adapters import LANGUAGE_ATTENTION, LANGUAGE_MLP, train_adapter, train_lora
from transformers import AutoModelForImageTextToText

from halp_probe.cli import main
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import from_pixels
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.models.adapters import open_adapter, write_merge_record
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER, same_model
from halp_probe.records import Captured, CaptureSpec, Sample
from halp_probe.shapes import scenes
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

LAYERS = (0, 3, 5)
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains an adapter of this name once, with the arguments of `train_lora`."""
    made: dict[str, Path] = {}

    def adapter(name: str, **settings: object) -> Path:
        if name not in made:
            made[name] = train_lora(tmp_path_factory.mktemp("adapters") / name, **settings)  # type: ignore[arg-type]
        return made[name]

    return adapter


@pytest.fixture(scope="module")
def plain() -> LoadedModel:
    return load_weights(open_checkpoint("shapes"))


def with_adapters(*folders: Path, base: str | None = "shapes", **how: str) -> LoadedModel:
    return load_weights(open_checkpoint(base, adapters=[str(folder) for folder in folders]), **how)


def prompts_of(loaded: LoadedModel, count: int = 3) -> list[Prompt]:
    prompter = Prompter(checkpoint=loaded.checkpoint)
    pictures = [from_pixels(scenes.render(scenes.make_scene(seed))) for seed in range(count)]
    samples = [
        Sample(question_id=f"q{k}", image_id="", question=f"How many circles are there{'?' * (k + 1)}", answer="")
        for k in range(count)
    ]
    return [prompter.prompt(sample, picture) for sample, picture in zip(samples, pictures, strict=True)]


def captured(loaded: LoadedModel) -> list[Captured]:
    return Engine(loaded, CaptureSpec(LAYERS, 4)).run(prompts_of(loaded))


def vectors(rows: list[Captured]) -> np.ndarray:
    """All states of these rows and their confidence, a line each."""
    return np.stack(
        [
            np.concatenate(
                [
                    *row.vision_token.values(),
                    *row.query_token.values(),
                    row.vision_only,
                    row.vision_encoder,
                    [row.first_token_logprob, row.first_token_entropy],
                ]
            )
            for row in rows
        ]
    )


def difference(rows: list[Captured], others: list[Captured]) -> float:
    a, b = vectors(rows), vectors(others)
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def peft_states(*folders: Path) -> list[list[np.ndarray]]:
    """[prompt][layer]: PEFT's own loading of the first, of the second on its merge, …, one prompt at a time."""
    model = AutoModelForImageTextToText.from_pretrained(str(BUNDLED_FOLDER), dtype=torch.float32)
    for folder in folders[:-1]:
        model = peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    wrapped = peft.PeftModel.from_pretrained(model, str(folders[-1])).eval()
    checkpoint = open_checkpoint("shapes")
    found = []
    for prompt in prompts_of(LoadedModel(checkpoint=checkpoint, model=None)):
        inputs = single_inputs(LoadedModel(checkpoint=checkpoint, model=wrapped.get_base_model()), prompt)
        with torch.no_grad():
            hidden = wrapped(**inputs, output_hidden_states=True).hidden_states
        found.append([hidden[layer + 1][0, -1].numpy() for layer in LAYERS[:-1]])  # the last one is after the norm
    return found


def assert_peft_s_own(loaded: LoadedModel, *folders: Path) -> None:
    for row, expected in zip(captured(loaded), peft_states(*folders), strict=True):
        for layer, vector in zip(LAYERS, expected, strict=False):
            assert np.abs(row.query_token[layer] - vector).max() <= 1e-5 * np.abs(vector).max()


KINDS = {
    "lora": lambda: peft.LoraConfig(r=4, target_modules=LANGUAGE_ATTENTION, init_lora_weights=False),
    "dora": lambda: peft.LoraConfig(r=4, target_modules=LANGUAGE_MLP, use_dora=True, init_lora_weights=False),
    "vision": lambda: peft.LoraConfig(
        r=4, target_modules=r".*visual.*(attn\.qkv|patch_embed\.proj|merger.*mlp.*[02])", init_lora_weights=False
    ),
    "embeddings": lambda: peft.LoraConfig(r=4, target_modules=["embed_tokens"], init_lora_weights=False),
    "saved": lambda: peft.LoraConfig(r=4, target_modules=LANGUAGE_ATTENTION, modules_to_save=["merger", "norm"]),
    "tokens": lambda: peft.LoraConfig(r=4, target_modules=LANGUAGE_ATTENTION, trainable_token_indices=[5, 373]),
    "adalora": lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=LANGUAGE_ATTENTION),
    "ia3": lambda: peft.IA3Config(target_modules=LANGUAGE_MLP, feedforward_modules=r".*down_proj"),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=LANGUAGE_ATTENTION, init_weights=False),
    "lokr": lambda: peft.LoKrConfig(r=4, target_modules=LANGUAGE_ATTENTION, init_weights=False),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=r".*language_model.*q_proj", init_weights=False),
    "oft": lambda: peft.OFTConfig(oft_block_size=4, r=0, target_modules=LANGUAGE_ATTENTION, init_weights=False),
    "boft": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=LANGUAGE_ATTENTION, init_weights=False),
    "norms": lambda: peft.LNTuningConfig(target_modules=r".*language_model.*input_layernorm"),
    "only tokens": lambda: peft.TrainableTokensConfig(token_indices=[5, 373], target_modules=["embed_tokens"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_peft(kind: str, plain: LoadedModel, tmp_path: Path) -> None:
    """And they are not those without the adapter; nor is any weight forgotten by the way it is loaded."""
    folder = train_adapter(tmp_path / "adapter", KINDS[kind](), rate=3e-2)
    loaded = with_adapters(folder)
    assert difference(captured(loaded), captured(plain)) > 1e-3
    assert_peft_s_own(loaded, folder)


def test_the_answer_s_confidence_is_that_of_peft(adapters: Callable[..., Path]) -> None:
    """The last layer too, which hidden states tell only after the norm."""
    folder = adapters("first")
    loaded = with_adapters(folder)
    model = AutoModelForImageTextToText.from_pretrained(str(BUNDLED_FOLDER), dtype=torch.float32)
    wrapped = peft.PeftModel.from_pretrained(model, str(folder)).eval()
    for row, prompt in zip(captured(loaded), prompts_of(loaded), strict=True):
        with torch.no_grad():
            logits = wrapped(**single_inputs(loaded, prompt)).logits[0, -1]
        assert row.first_token_logprob == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-5)


def test_two_in_order_are_their_merges(adapters: Callable[..., Path]) -> None:
    first, second = adapters("first"), adapters("second", seed=1)
    stacked = with_adapters(first, second)
    assert_peft_s_own(stacked, first, second)
    assert difference(captured(stacked), captured(with_adapters(second))) > 1e-3
    assert stacked.checkpoint.stack != with_adapters(second, first).checkpoint.stack


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["norm"]}], ids=["dora", "saved"])
def test_the_other_order_gives_other_states(adapters: Callable[..., Path], settings: dict[str, object]) -> None:
    """Where a later one sees the weights of the earlier, or takes their place."""
    pair = [adapters(f"{k} {settings}", seed=k, **settings) for k in range(2)]
    one, other = with_adapters(*pair), with_adapters(*reversed(pair))
    assert_peft_s_own(one, *pair)
    assert_peft_s_own(other, *reversed(pair))
    assert difference(captured(one), captured(other)) > 1e-5


def test_the_later_of_two_saved_modules_stays(adapters: Callable[..., Path]) -> None:
    pair = [adapters(f"norm {k}", seed=k, modules_to_save=["norm"]) for k in range(2)]
    for stack in (pair, pair[::-1]):
        weight = with_adapters(*stack).model.model.language_model.norm.modules_to_save["default"].weight
        assert torch.equal(weight, load_file(stack[-1] / WEIGHTS)["base_model.model.model.language_model.norm.weight"])


def test_the_model_is_the_adapter_s_when_none_is_named(adapters: Callable[..., Path]) -> None:
    checkpoint = open_checkpoint(None, adapters=[str(adapters("first"))])
    assert checkpoint.name == "shapes" and checkpoint.revision == open_checkpoint("shapes").revision
    with pytest.raises(ModelError, match="no model is named"):
        open_checkpoint(None)


def changed(folder: Path, to: Path, **config: object) -> Path:
    shutil.copytree(folder, to)
    content = json.loads((to / CONFIG).read_text())
    (to / CONFIG).write_text(json.dumps({**content, **config}))
    return to


def with_weights(folder: Path, to: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    shutil.copytree(folder, to)
    save_file(change(load_file(to / WEIGHTS)), to / WEIGHTS)
    return to


MISFITS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "a module too few": (lambda w: dict(list(w.items())[2:]), r"2 of its modules have no weights .*lora_A"),
    "a module too many": (
        lambda w: {
            **w,
            "base_model.model.model.language_model.layers.9.self_attn.q_proj.lora_A.weight": next(
                iter(w.values())
            ).clone(),
        },
        r"1 weights belong to no module of the model \(first: .*layers\.9",
    ),
    "all modules called otherwise": (
        lambda w: {key.replace("self_attn", "attn"): value for key, value in w.items()},
        "weights belong to no module",
    ),
    "another rank": (lambda w: {key: value.repeat_interleave(2, 0) for key, value in w.items()}, "size mismatch"),
    "nothing": (lambda w: {}, "have no weights"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_refused(adapters: Callable[..., Path], tmp_path: Path, misfit: str) -> None:
    change, message = MISFITS[misfit]
    with pytest.raises(ModelError, match=f"does not fit the model: .*{message}"):
        with_adapters(with_weights(adapters("first"), tmp_path / "misfit", change))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_model_name_or_path": "somebody/else"}, r"trained on somebody/else, the model is shapes: pass `model`"),
        ({"base_model_name_or_path": "/there/before"}, r"trained on /there/before, the model is shapes"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING acts outside of the model's own modules"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens acts outside"),
        ({"target_modules": "nothing_like_it"}, "does not fit the model: .*nothing_like_it"),
        ({"modules_to_save": ["lm_head"]}, "does not fit the model"),
    ],
)
def test_what_cannot_be_used_is_refused(
    adapters: Callable[..., Path], tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        with_adapters(changed(adapters("first"), tmp_path / "changed", **config))


def test_what_is_no_adapter_is_refused(
    adapters: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, message in (
        (str(tmp_path), f"no readable {CONFIG}"),
        (str(tmp_path / "nothing"), "is not a local folder and cannot be downloaded"),
        ("somebody/adapter", "is not a local folder and cannot be downloaded"),
    ):
        with pytest.raises(ModelError, match=message):
            open_adapter(name, cache_dir=str(tmp_path))
    bare = Path(shutil.copytree(adapters("first"), tmp_path / "bare"))
    weights = (bare / WEIGHTS).read_bytes()
    (bare / WEIGHTS).write_bytes(weights[:1000])
    with pytest.raises(ModelError, match=r"bare: its weights cannot be read \(.*\); save or fetch it again"):
        with_adapters(bare)
    (bare / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"holds no {WEIGHTS}"):
        open_adapter(str(bare))
    checkpoint = open_checkpoint("shapes", adapters=[str(adapters("first"))])
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'halp_probe\[adapters\]'"):
        load_weights(checkpoint)


def test_an_adapter_s_identity_is_its_files(adapters: Callable[..., Path], tmp_path: Path) -> None:
    here = open_adapter(str(adapters("first")))
    moved = open_adapter(shutil.copytree(adapters("first"), tmp_path / "moved"))
    assert moved.identity == here.identity
    other = with_weights(adapters("first"), tmp_path / "other", lambda w: {k: v * (1 + 1e-6) for k, v in w.items()})
    scaled = changed(adapters("first"), tmp_path / "scaled", lora_alpha=17)
    assert len({here.identity, open_adapter(str(other)).identity, open_adapter(str(scaled)).identity}) == 3


def test_saving_a_configuration_again_changes_no_identity(adapters: Callable[..., Path], tmp_path: Path) -> None:
    """PEFT writes sets in any order and settings of later releases as null; a base may be called otherwise."""
    folder = adapters("two modules", target_modules=["q_proj", "v_proj"])
    config = json.loads((folder / CONFIG).read_text())
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    other = {**config, "target_modules": config["target_modules"][::-1], "of_a_later_release": None}
    other |= {"base_model_name_or_path": "elsewhere", "inference_mode": False, "peft_version": "99"}
    (again / CONFIG).write_text(json.dumps(dict(reversed(other.items()))))
    (again / "README.md").write_text("other words")
    assert open_adapter(str(again)).identity == open_adapter(str(folder)).identity
    for change in ({"target_modules": ["q_proj"]}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}):
        changed_so = changed(again, tmp_path / next(iter(change)), **change)
        assert open_adapter(str(changed_so)).identity != open_adapter(str(folder)).identity


def test_a_model_with_an_adapter_among_its_files_is_refused(adapters: Callable[..., Path], tmp_path: Path) -> None:
    """transformers would put it on the model, and the record would say that there is none."""
    both = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "both"))
    for file in (CONFIG, WEIGHTS):
        shutil.copy(adapters("first") / file, both / file)
    for name in (str(both), str(adapters("first"))):
        with pytest.raises(ModelError, match=f"{name} holds a PEFT adapter .*: pass it as `adapter` {name}"):
            open_checkpoint(name)
    repository = tmp_path / "models--somebody--both"
    shutil.copytree(both, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    with pytest.raises(ModelError, match="somebody/both holds a PEFT adapter"):
        open_checkpoint("somebody/both", cache_dir=str(tmp_path))


def test_a_hub_adapter_comes_from_the_cache(adapters: Callable[..., Path], tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--lora"
    shutil.copytree(adapters("first"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = open_adapter("somebody/lora", cache_dir=str(tmp_path))
    assert found.identity == open_adapter(str(adapters("first"))).identity


def test_names_of_one_model(tmp_path: Path) -> None:
    for name in ("one", "two", "moved/tiny-vl", "changed/tiny-vl"):
        shutil.copytree(BUNDLED_FOLDER, tmp_path / name)
    (tmp_path / "changed/tiny-vl/generation_config.json").write_text("{}")
    cache = f"/a/cache/models--Some--Tiny-VL/snapshots/{'0' * 40}"
    for one, other, same in (
        ("Some/Tiny-VL", "some/tiny-vl", True),
        ("Some/Tiny-VL", "Else/Tiny-VL", False),
        ("Some/Tiny-VL", cache, True),
        ("Some/Tiny-VL", str(tmp_path / "moved/tiny-vl"), True),
        ("/elsewhere/tiny-vl", str(tmp_path / "moved/tiny-vl"), True),
        ("/elsewhere/other", str(tmp_path / "moved/tiny-vl"), False),
        (str(tmp_path / "one"), str(tmp_path / "two"), True),  # by their content
        (str(tmp_path / "changed/tiny-vl"), str(tmp_path / "moved/tiny-vl"), False),  # both here, and not the same
        ("shapes", "/else/site-packages/halp_probe/shapes/bundled", True),
        ("shapes", str(tmp_path / "one"), True),
        ("shapes", str(tmp_path / "changed/tiny-vl"), False),
    ):
        assert same_model(one, other) == same, (one, other)


def test_a_later_adapter_may_name_the_merge_before_it(adapters: Callable[..., Path], tmp_path: Path) -> None:
    first, other = adapters("first"), adapters("second", seed=1)
    base = open_checkpoint("shapes")
    merged = tmp_path / "stage-1"
    merged.mkdir()
    later = changed(other, tmp_path / "later", base_model_name_or_path=str(merged))
    write_merge_record(merged, "shapes", base.revision, [open_adapter(str(first))])
    assert len(open_checkpoint("shapes", adapters=[str(first), str(later)]).adapters) == 2
    for stack in ([later], [other, later], [first, first, later]):
        with pytest.raises(ModelError, match=r"later was trained on .*stage-1, the model is shapes"):
            open_checkpoint("shapes", adapters=[str(folder) for folder in stack])
    write_merge_record(merged, "shapes", "local-0", [open_adapter(str(first))])
    with pytest.raises(ModelError, match=r"or a merge of it and .*first"):
        open_checkpoint("shapes", adapters=[str(first), str(later)])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_dataset(folder, n_scenes=4, questions_a_scene=3, seed=40)
    return folder


def extract(table: Path, output: Path, *more: str) -> int:
    tables = ["--vqa-dataset", str(table / "vqa.csv"), "--images-dir", str(table / "images")]
    return main(["extract", *tables, "--output-dir", str(output), "--max-new-tokens", "2", *more])


def test_extract_records_the_adapters_and_their_order(
    adapters: Callable[..., Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = [
        part for name, seed in (("first", 0), ("second", 1)) for part in ("--adapter", str(adapters(name, seed=seed)))
    ]
    reverse = stack[2:] + stack[:2]
    assert extract(table, tmp_path / "plain", "--model", "shapes") == 0
    assert extract(table, tmp_path / "out", *stack) == 0  # without --model: the default one must not win
    loaded = with_adapters(adapters("first"), adapters("second", seed=1))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    shards, without = open_shards(tmp_path / "out"), open_shards(tmp_path / "plain")
    assert run["settings"]["adapters"] == shards.attributes["adapters"] == loaded.checkpoint.stack
    assert run["adapter_names"] == json.loads(shards.attributes["adapter_names"]) == stack[1::2]
    assert shards.attributes["model_name"] == "shapes"
    assert not {"adapters", "adapter_names", "quantization"} & {*without.attributes}
    assert not {"adapters", "adapter_names"} & {*json.loads((tmp_path / "plain" / "run.json").read_text())["settings"]}
    name = "query_token_representation/layer_5"
    assert np.abs(shards.vectors(name) - without.vectors(name)).max() > 0.1
    assert extract(table, tmp_path / "out", *stack) == 0  # goes on
    identities = [adapter.identity for adapter in loaded.checkpoint.adapters]
    for flags, now in ((reverse, f"'{identities[1]} then {identities[0]}'"), (["--model", "shapes"], "None")):
        assert extract(table, tmp_path / "out", *flags) == 2
        expected = f"adapters is '{identities[0]} then {identities[1]}' there and {now} now"
        assert expected in capsys.readouterr().err
    wrong = changed(adapters("first"), tmp_path / "wrong", base_model_name_or_path="somebody/else")
    assert extract(table, tmp_path / "none", "--model", "shapes", "--adapter", str(wrong)) == 2
    assert "trained on somebody/else, the model is shapes" in capsys.readouterr().err
