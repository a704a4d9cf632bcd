"""Flags of `halp-probe train-vlm`, and the options that they make."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.arguments import not_negative, not_negative_number, positive, positive_number, share_or_zero
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.part_flags import add_part_arguments, fused_parts
from halp_probe.errors import InputError
from halp_probe.finetuning.options import DataOptions, Machine, TrainOptions
from halp_probe.finetuning.plan import Lora, Schedule, Stage
from halp_probe.fused.options import FusedParts
from halp_probe.models.options import DTYPES

_FILES = {
    "captions": "of stage 1: caption pairs as LLaVA-Pretrain has them",
    "llava_instruct": "of stage 2: LLaVA-Instruct's conversations",
    "text_vqa": "of stage 2: TextVQA 0.5.1",
    "viz_wiz": "of stage 2: VizWiz-VQA",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `train-vlm`."""
    parser.add_argument("--output-dir", type=Path, required=True, help="checkpoints, then model/, adapter/ and more")
    _add_model(parser.add_argument_group("model"))
    _add_data(parser.add_argument_group("data"))
    _add_training(parser.add_argument_group("training"))
    _add_machine(parser.add_argument_group("machine"))
    add = parser.add_argument_group("evaluation").add_argument
    add(
        "--questions", type=not_negative, default=500, help="held-out questions to answer, of each source (%(default)s)"
    )
    add("--max-new-tokens", type=positive, default=32, help="longest answer to them in tokens (%(default)s)")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="a fused model to start from: folder or hub name (a new one is built)")
    add_part_arguments(group)
    group.add_argument("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    for name, what in _FILES.items():
        add(f"--{name.replace('_', '-')}", nargs=2, type=Path, metavar=("JSON", "IMAGES"), help=what)
    add_link_argument(group)
    add("--shapes", type=positive, metavar="SCENES", help="of both: ShapesVQA, drawn from the training seeds")
    add(
        "--weights",
        nargs="+",
        type=_weight,
        default=[],
        metavar="NAME=W",
        help="shares of the sources in an epoch, such as text_vqa=1 (each conversation once)",
    )
    add(
        "--held-out",
        type=share_or_zero,
        default=0.05,
        help="share of each source's pictures to evaluate on (%(default)s)",
    )
    add("--max-tokens", type=positive, default=2048, help="longer samples are left out and named (%(default)s)")


def _add_training(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--stages",
        nargs="+",
        type=int,
        choices=(1, 2),
        default=[1, 2],
        help="1: the connector; 2: connector and LoRA (both)",
    )
    for number, rate in ((1, 1e-3), (2, 5e-5)):
        add(f"--stage{number}-learning-rate", type=positive_number, default=rate, metavar="RATE", help="(%(default)s)")
        add(f"--stage{number}-epochs", type=positive, default=1, metavar="N", help="passes over the data (%(default)s)")
    add("--lora-rank", type=positive, default=Lora.rank, help="(%(default)s)")
    add("--lora-alpha", type=positive, default=Lora.alpha, help="(%(default)s)")
    add("--lora-dropout", type=share_or_zero, default=Lora.dropout, help="(%(default)s)")
    add("--lora-mlp", action="store_true", help="also on gate, up and down (q, k, v and o)")
    add("--batch-size", type=positive, default=Schedule.batch_size, help="samples a forward pass (%(default)s)")
    add("--accumulation", type=positive, default=Schedule.accumulation, help="forward passes a step (%(default)s)")
    add("--warmup", type=share_or_zero, default=Schedule.warmup, help="share of the steps (%(default)s)")
    add("--weight-decay", type=not_negative_number, default=Schedule.weight_decay, help="(%(default)s)")
    add("--max-steps", type=positive, help="of each stage, for a try (all)")
    add("--seed", type=not_negative, default=0, help="of weights, order, held-out part and dropout (%(default)s)")
    add("--checkpoint-steps", type=positive, default=Schedule.checkpoint_steps, help="(%(default)s)")
    add("--gradient-checkpointing", action="store_true", help="less memory, a third slower")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="(%(default)s)")
    add("--dtype", default="auto", choices=DTYPES, help="auto: bfloat16 on CUDA, else float32")
    add("--quantization", choices=("4bit",), help="of the frozen weights (QLoRA), by bitsandbytes (none)")
    add("--attn-implementation", help="sdpa, eager or flash_attention_2 (the model's default)")
    add("--workers", type=not_negative, default=0, help="processes that read pictures ahead (%(default)s)")


def _data(args: argparse.Namespace) -> DataOptions:
    named = {name: paths for name in _FILES if (paths := getattr(args, name)) is not None}
    files = {name: (json_file, image_folder(images, args)) for name, (json_file, images) in named.items()}
    weights = dict(args.weights)
    options = DataOptions(
        files=files, shapes=args.shapes, weights=weights, held_out=args.held_out, max_tokens=args.max_tokens
    )
    sources = {name for number in set(args.stages) for name in options.names(number)}
    if unknown := sorted(weights.keys() - sources):
        raise InputError(f"--weights names {', '.join(unknown)}; sources are {', '.join(sorted(sources)) or 'none'}")
    for number in set(args.stages):
        own = set(options.names(number))
        if own & weights.keys() and (lacking := sorted(own - weights.keys())):
            raise InputError(
                f"--weights leaves out {', '.join(lacking)}; give each source of stage {number} a weight, or none"
            )
    return options


def _stage(number: int, args: argparse.Namespace) -> Stage:
    if number == 1:
        return Stage(number=1, learning_rate=args.stage1_learning_rate, epochs=args.stage1_epochs)
    lora = Lora(rank=args.lora_rank, alpha=args.lora_alpha, dropout=args.lora_dropout, mlp=args.lora_mlp)
    return Stage(number=2, learning_rate=args.stage2_learning_rate, epochs=args.stage2_epochs, lora=lora)


def _weight(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, positive_number(value)
    except ValueError:  # not a number
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=W, such as text_vqa=1")


def train_options(args: argparse.Namespace) -> TrainOptions:
    """Return the options that the parsed flags give. Raises InputError for flags that do not go together."""
    parts = fused_parts(args)
    if args.model and (parts != FusedParts() or args.vision_layernorm is not None):
        raise InputError(
            f"--model {args.model} is already built: leave --vision, --language, --tiles and "
            "--vision-layernorm out, or --model"
        )
    data = _data(args)
    stages = tuple(_stage(number, args) for number in sorted(set(args.stages)))
    for stage in stages:
        if not data.names(stage.number):
            flags = (
                "--captions or --shapes" if stage.number == 1 else "--llava-instruct, --text-vqa, --viz-wiz or --shapes"
            )
            raise InputError(f"stage {stage.number} has no data: pass {flags}, or leave it out (--stages)")
    if args.quantization and not args.model:
        raise InputError(
            "--quantization takes a fused model's folder: halp-probe fuse --output-dir DIR writes one, then pass "
            "--model DIR/model"
        )
    return TrainOptions(
        output_dir=args.output_dir,
        model=args.model,
        parts=parts,
        cache_dir=args.cache_dir,
        data=data,
        stages=stages,
        schedule=Schedule(
            batch_size=args.batch_size,
            accumulation=args.accumulation,
            warmup=args.warmup,
            weight_decay=args.weight_decay,
            max_steps=args.max_steps,
            seed=args.seed,
            workers=args.workers,
            checkpoint_steps=args.checkpoint_steps,
            gradient_checkpointing=args.gradient_checkpointing,
        ),
        machine=Machine(
            device=args.device,
            dtype=args.dtype,
            quantization=args.quantization,
            attn_implementation=args.attn_implementation,
        ),
        questions=args.questions,
        max_new_tokens=args.max_new_tokens,
    )
