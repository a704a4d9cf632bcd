"""Training a fused VLM: what is learned and what is not, exact resumption, and what is left behind."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from command_process import start_command
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tiny.fused import write_language, write_vit
from transformers import AutoModelForImageTextToText, Qwen2ForCausalLM, ViTModel

from halp_probe.cli import main
from halp_probe.engine.images import load_image
from halp_probe.finetuning import shapes_samples, stages
from halp_probe.finetuning.mixing import split
from halp_probe.finetuning.tokens import ConversationTokenizer
from halp_probe.models.loading import load_weights, open_checkpoint

pytestmark = pytest.mark.slow

SCENES = 48
QUICK = (
    "--shapes",
    str(SCENES),
    "--batch-size",
    "4",
    "--accumulation",
    "2",
    "--checkpoint-steps",
    "2",
    "--held-out",
    ".2",
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[str]:
    """Flags that name a tower and a language model of random weights."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    return ["--vision", str(write_vit(folder / "vit")), "--language", str(write_language(folder / "lm"))]


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory) -> Path:
    """A run of both stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train(parts, folder) == 0
    return folder


def train(parts: list[str], folder: Path, *more: str) -> int:
    return main(["train-vlm", *parts, *QUICK, "--output-dir", str(folder), *more])


def losses(folder: Path, stage: str = "stage2", column: str = "loss") -> list[float]:
    rows = rows_of(folder / "losses.csv")
    return [float(row[column]) for row in rows if row["stage"] == stage and row[column]]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_parts_keep_their_weights_to_the_bit_and_the_connector_is_learned(parts, trained):
    saved = AutoModelForImageTextToText.from_pretrained(trained / "model").model
    tower, language = (
        ViTModel.from_pretrained(parts[1], add_pooling_layer=False),
        Qwen2ForCausalLM.from_pretrained(parts[3]),
    )
    for found, own in ((saved.vision_tower, tower), (saved.language_model, language.model)):
        found, own = found.state_dict(), own.state_dict()
        assert own and own.keys() <= found.keys()
        assert all(torch.equal(found[name], weight) for name, weight in own.items())
    projector = saved.multi_modal_projector.state_dict()
    first = load_file(trained / "stage1" / "learned.safetensors")
    second = load_file(trained / "stage2" / "learned.safetensors")
    assert {name.rsplit(".", 2)[1] for name in first} == {"linear_1", "linear_2"}
    connectors = {name: weight for name, weight in second.items() if "multi_modal_projector" in name}
    assert len(connectors) == len(first) == 4
    for name, weight in connectors.items():
        assert not torch.equal(weight, first[name.removeprefix("base_model.model.")])  # stage 2 went on with it
        assert torch.equal(weight, projector[name.split("projector.")[1]])


def test_lora_is_on_the_language_models_attention_alone(trained):
    adapted = load_file(trained / "adapter" / "adapter_model.safetensors")
    modules = {name.split(".lora_")[0].split("model.", 2)[2] for name in adapted}
    layers = json.loads((trained / "model" / "config.json").read_text())["text_config"]["num_hidden_layers"]
    expected = {f"language_model.layers.{n}.self_attn.{p}_proj" for n in range(layers) for p in "qkvo"}
    assert {name.replace("model.language_model", "language_model") for name in modules} == expected


def samples(folder: Path, model: Path, *, held_out: bool) -> list:
    """Every conversation of stage 2 of one part, tokenized."""
    parts = split(shapes_samples.read_questions(folder / "shapes_images", SCENES), 0.2, 0)
    tokenizer = ConversationTokenizer(open_checkpoint(str(model)))
    chosen = (parts.held_out if held_out else parts.train).conversations
    return [tokenizer(each, load_image(each.image)) for each in chosen]


@torch.no_grad()
def loss_one_by_one(model, conversations: list) -> float:
    """Mean over the answers' tokens of all samples, each alone and unpadded, in nats."""
    total = count = 0.0
    for sample in conversations:
        logits = model(input_ids=sample.input_ids[None], **sample.images).logits[0, :-1]  # [T - 1, V]
        learned = sample.labels[1:] != -100
        total += torch.nn.functional.cross_entropy(logits[learned], sample.labels[1:][learned], reduction="sum").item()
        count += int(learned.sum())
    return total / count


def test_a_steps_loss_is_the_mean_over_all_its_answer_tokens(parts, tmp_path):
    """A step that holds the whole epoch, against the untrained model on every sample alone."""
    once = ("--stages", "2", "--accumulation", "100", "--lora-dropout", "0", "--questions", "0")
    assert train(parts, tmp_path / "one", *once) == 0
    assert main(["fuse", *parts, "--output-dir", str(tmp_path / "start")]) == 0
    start = tmp_path / "start" / "model"
    expected = loss_one_by_one(
        AutoModelForImageTextToText.from_pretrained(start).eval(), samples(tmp_path / "one", start, held_out=False)
    )
    assert losses(tmp_path / "one") == pytest.approx([expected], rel=1e-5)


def test_what_is_saved_has_the_held_out_loss_that_training_ended_with(trained):
    """Loaded by transformers and PEFT alone."""
    base = AutoModelForImageTextToText.from_pretrained(trained / "model")
    model = PeftModel.from_pretrained(base, trained / "adapter").eval()
    found = loss_one_by_one(model, samples(trained, trained / "model", held_out=True))
    means = losses(trained, column="held_out_loss")
    assert found == pytest.approx(means[-1], rel=1e-3)  # the trainer's is a mean of batches' means


def test_a_run_that_is_killed_goes_on_to_the_same_losses_and_weights(parts, trained, tmp_path):
    folder = tmp_path / "killed"
    command = ["train-vlm", *parts, *QUICK, "--output-dir", str(folder)]
    for stage, checkpoint in (("stage1", 2), ("stage1", 4), ("stage2", 2)):
        killed_after(command, folder / stage / "checkpoints" / f"checkpoint-{checkpoint}" / "whole", tmp_path / "log")
    torn = folder / "stage2" / "checkpoints" / "checkpoint-4"
    torn.mkdir(exist_ok=True)
    (torn / "learned.safetensors").write_bytes(b"half")
    assert train(parts, folder) == 0
    assert (folder / "losses.csv").read_bytes() == (trained / "losses.csv").read_bytes()
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (folder / file).read_bytes() == (trained / file).read_bytes()
    assert (folder / "evaluation.csv").read_bytes() == (trained / "evaluation.csv").read_bytes()


def killed_after(command: list[str], file: Path, log: Path) -> None:
    """Start it, and kill it as soon as the file is there."""
    process = start_command(command, log)
    wait_for(file, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def wait_for(file: Path, process: BaseProcess) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("steps", [(), ("--max-steps", "3")])
def test_a_run_that_is_killed_behind_its_last_step_makes_no_further_one(parts, tmp_path, monkeypatch, steps):
    quick = ("--stages", "1", "--questions", "0", *steps)
    assert train(parts, tmp_path / "whole", *quick) == 0
    with monkeypatch.context() as patched:
        patched.setattr(stages, "save_learned", interrupted)
        assert train(parts, tmp_path / "killed", *quick) == 128 + signal.SIGINT
    assert list((tmp_path / "killed" / "stage1" / "checkpoints").iterdir())
    assert train(parts, tmp_path / "killed", *quick) == 0
    for file in ("losses.csv", "model/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    told = [row["step"] for row in rows_of(tmp_path / "whole" / "losses.csv") if row["held_out_loss"]]
    assert len(told) == len(set(told))


def interrupted(*_) -> None:
    raise KeyboardInterrupt


def test_a_signal_stops_after_a_checkpoint(parts, trained, tmp_path):
    folder = tmp_path / "stopped"
    process = start_command(["train-vlm", *parts, *QUICK, "--output-dir", str(folder)], tmp_path / "log")
    wait_for(folder / "run.json", process)
    process.terminate()
    process.join(120)
    assert process.exitcode == 128 + signal.SIGTERM
    assert "to resume from its last checkpoint" in (tmp_path / "log").read_text()
    assert not (folder / "model").exists()
    assert train(parts, folder) == 0
    assert (folder / "losses.csv").read_bytes() == (trained / "losses.csv").read_bytes()


def test_a_finished_folder_is_left_as_it_is(parts, trained, capsys, monkeypatch):
    """Without a look at the data."""
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"}
    monkeypatch.setattr("halp_probe.finetuning.run.gather", interrupted)
    assert train(parts, trained) == 0
    assert "is finished" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert train(parts, trained, "--shapes", str(SCENES + 1)) == 2
    assert "shapes is 48 there and 49 now" in capsys.readouterr().err


def test_a_finished_folder_answers_anew_where_its_evaluation_was_removed(parts, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "evaluation.json").unlink()
    assert train(parts, folder) == 0
    assert (folder / "evaluation.json").read_bytes() == (trained / "evaluation.json").read_bytes()


def test_a_file_that_changed_is_refused_in_a_finished_folder(parts, tmp_path, capsys):
    """Though its pictures are not looked at any more."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 40), (12, 90, 200)).save(tmp_path / "images" / "a.png")
    said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "It is blue."}]
    entries = [{"id": "a", "image": "a.png", "conversations": said}]
    data = tmp_path / "data.json"
    data.write_text(json.dumps(entries))
    command = ["train-vlm", *parts, "--output-dir", str(tmp_path / "run"), "--stages", "2", "--held-out", "0"]
    command += ["--llava-instruct", str(data), str(tmp_path / "images")]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "stage2 has learned nothing" in told and "no picture is held out" in told
    assert main(command) == 0
    said[1]["value"] = "It is red."
    data.write_text(json.dumps(entries))
    assert main(command) == 2
    assert "llava_instruct_json" in capsys.readouterr().err


def test_a_folder_of_other_settings_is_refused(parts, trained, capsys):
    assert train(parts, trained, "--stage2-learning-rate", "1e-4") == 2
    assert "'learning_rate': 5e-05" in capsys.readouterr().err


def test_other_pictures_under_the_same_names_are_refused(parts, trained, tmp_path, capsys):
    """Whether they are learned from or held out; what the run left is untouched."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "saved.json").unlink()
    splits = split(shapes_samples.read_questions(folder / "shapes_images", SCENES), 0.2, 0)
    for part in (splits.train, splits.held_out):
        image = part.conversations[-1].image
        before = image.read_bytes()
        image.write_bytes(b"no picture")
        (folder / "left_out.csv").write_text("of the run\n")
        assert train(parts, folder) == 2
        assert "stage2_data" in capsys.readouterr().err
        assert (folder / "left_out.csv").read_text() == "of the run\n"
        with Image.open(io.BytesIO(before)) as picture:
            picture.transpose(Image.Transpose.ROTATE_180).save(image)
        assert train(parts, folder) == 2
        assert "stage2_data" in capsys.readouterr().err
        image.write_bytes(before)


def test_another_setting_is_refused_before_the_data_are_looked_at(parts, trained, capsys, monkeypatch):
    monkeypatch.setattr("halp_probe.finetuning.run.gather", interrupted)
    assert train(parts, trained, "--lora-mlp") == 2
    assert "'mlp': False" in capsys.readouterr().err


def test_a_run_that_is_killed_behind_its_model_has_its_losses(parts, trained, tmp_path, monkeypatch):
    folder = tmp_path / "killed"
    with monkeypatch.context() as patched:
        patched.setattr("halp_probe.finetuning.run.write_model", interrupted)
        assert train(parts, folder) == 128 + signal.SIGINT
    assert (folder / "losses.csv").read_bytes() == (trained / "losses.csv").read_bytes()
    assert train(parts, folder, "--questions", "0") == 0
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (folder / file).read_bytes() == (trained / file).read_bytes()


def test_recomputed_activations_give_the_same_losses(parts, trained, tmp_path):
    assert train(parts, tmp_path / "run", "--gradient-checkpointing", "--questions", "0") == 0
    for stage in ("stage1", "stage2"):
        assert losses(tmp_path / "run", stage) == pytest.approx(losses(trained, stage), rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run(parts, tmp_path, capsys):
    assert train(parts, tmp_path / "run", "--stage1-learning-rate", "1e30", "--stages", "1") == 2
    assert "lower the learning rate" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_stages_alone_go_on_from_each_other(parts, tmp_path):
    assert train(parts, tmp_path / "first", "--stages", "1", "--questions", "0") == 0
    assert not (tmp_path / "first" / "adapter").exists()
    model = ["--model", str(tmp_path / "first" / "model")]
    assert train(model, tmp_path / "second", "--stages", "2", "--questions", "0") == 0
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {name for name in before if "multi_modal_projector" in name}


def test_samples_that_cannot_be_used_are_named_and_the_others_trained_on(parts, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    entries = []
    for n in range(20):
        Image.new("RGB", (60, 40), (12 * n, 90, 200)).save(images / f"{n}.png")
        said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"It is number {n}."}]
        entries.append({"id": f"e{n}", "image": f"{n}.png", "conversations": said})
    (images / "3.png").write_bytes((images / "3.png").read_bytes()[:50])
    entries[7]["conversations"][1]["value"] = "long " * 400
    (tmp_path / "data.json").write_text(json.dumps(entries))
    flags = ("--llava-instruct", str(tmp_path / "data.json"), str(images), "--stages", "2", "--max-tokens", "300")
    plain = ["train-vlm", *parts, "--output-dir", str(tmp_path / "run"), "--batch-size", "4", "--accumulation", "1"]
    assert main([*plain, *flags, "--held-out", "0.2"]) == 0
    rows = rows_of(tmp_path / "run" / "left_out.csv")
    assert [(row["key"], row["stage"]) for row in rows] == [("e3", "image"), ("e7", "length")]
    assert "300" in rows[1]["reason"]
    assert "2 conversations are left out (image 1, length 1)" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["llava_instruct"]["questions"] > 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--stages", "1"], "stage 1 has no data"),
        (["--stages", "2", "--captions", "a.json", "images"], "stage 2 has no data"),
        (["--shapes", "4", "--quantization", "4bit"], "halp-probe fuse"),
        (["--shapes", "4", "--weights", "text_vqa=1"], "text_vqa"),
        (["--shapes", "4", "--text-vqa", "a.json", "b", "--weights", "shapes=1"], "leaves out text_vqa"),
        (["--shapes", "4", "--model", "shapes"], "qwen2_5_vl"),
        (["--shapes", "4", "--model", "shapes", "--tiles", "4"], "is already built"),
        (["--shapes", "4", "--model", "shapes", "--no-vision-layernorm"], "is already built"),
    ],
)
def test_flags_that_do_not_go_together(flags, told, tmp_path, capsys):
    assert main(["train-vlm", "--output-dir", str(tmp_path / "run"), *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--seed", "-1"], "-1 is negative"),
        (["--weights", "text_vqa"], "'text_vqa' is not NAME=W"),
        (["--weights", "text_vqa=much"], "'text_vqa=much' is not NAME=W"),
        (["--warmup", "1"], "1 is not from 0 to below 1"),
    ],
)
def test_flags_that_mean_nothing(flags, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train-vlm", "--output-dir", str(tmp_path / "run"), "--shapes", "4", *flags])
    assert told in capsys.readouterr().err


def test_torchrun_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train-vlm", "--output-dir", str(tmp_path / "run"), "--shapes", "4"]) == 2
    assert "without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [("--tiles", "2"), ("--dtype", "bfloat16"), ("--vision-layernorm",), ("--lora-mlp",)])
def test_other_kinds_train_and_load(parts, tmp_path, kind):
    folder, fast = tmp_path / "run", ("--stage1-learning-rate", "1e-2", "--stage2-learning-rate", "1e-2")
    assert train(parts, folder, *kind, *fast, "--stage1-epochs", "2", "--questions", "2") == 0
    for stage in ("stage1", "stage2"):
        found = losses(folder, stage)
        assert sum(found[-2:]) < sum(found[:2])
    loaded = load_weights(open_checkpoint(str(folder / "model"), adapters=[str(folder / "adapter")]), device="cpu")
    assert loaded.checkpoint.model_type == ("llava_next" if "--tiles" in kind else "llava")
    assert (folder / "original").exists() == ("--tiles" not in kind)
    newline = [name for name in load_file(folder / "stage2" / "learned.safetensors") if "newline" in name]
    assert len(newline) == ("--tiles" in kind)
    tied = json.loads((folder / "model" / "config.json").read_text())["vision_config"].get("tie_last_hidden_states")
    assert bool(tied) == ("--vision-layernorm" in kind)


def test_the_originals_files_are_the_model_and_its_adapter(parts, trained, tmp_path):
    original = trained / "original"
    flags = ["--connector", str(original / "final_connector.pth"), "--lora", str(original / "final_lora_model")]
    assert main(["fuse", *parts, *flags, "--no-vision-layernorm", "--output-dir", str(tmp_path / "again")]) == 0
    conversations = samples(trained, trained / "model", held_out=True)
    expected, found = (
        loss_one_by_one(PeftModel.from_pretrained(base, folder / "adapter").eval(), conversations)
        for folder in (trained, tmp_path / "again")
        for base in [AutoModelForImageTextToText.from_pretrained(folder / "model")]
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_quantized_language_model_is_trained_on_and_saved_unquantized(tmp_path):
    """QLoRA; widths of whole blocks, which bitsandbytes wants on some CPUs."""
    language = write_language(tmp_path / "lm", hidden_size=64, intermediate_size=64)
    parts = ["--vision", str(write_vit(tmp_path / "vit")), "--language", str(language)]
    assert main(["fuse", *parts, "--output-dir", str(tmp_path / "start")]) == 0
    start, folder = tmp_path / "start" / "model", tmp_path / "run"
    assert train(["--model", str(start)], folder, "--quantization", "4bit", "--stages", "2", "--questions", "2") == 0
    assert len(losses(folder)) > 2
    before, after = load_file(start / "model.safetensors"), weights(folder)
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {name for name in before if "multi_modal_projector" in name}
    assert "quantization_config" not in json.loads((folder / "model" / "config.json").read_text())
    adapters = [str(folder / "adapter")]
    assert load_weights(open_checkpoint(str(folder / "model"), adapters=adapters), device="cpu").num_layers
