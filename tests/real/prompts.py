"""Facts of thirteen real checkpoints: what they make of one question and pictures of four sizes."""

from __future__ import annotations

from dataclasses import dataclass

QUESTION = "Is there a person in this image?"
SIZES = ((48, 48), (640, 427), (1600, 80), (4000, 3000))  # width, height


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A prompt's text, its lengths by picture size, what ends an answer, and the rotary positions as loaded."""

    rendered: str  # with Q for the question
    tokens: tuple[int, ...]  # of the whole prompt, by size
    image_tokens: tuple[int, ...]
    last_image_index: tuple[int, ...]
    eos: tuple[str, ...]
    repetition_penalty: float = 1.0
    rope: dict[str, object]

    @property
    def text(self) -> str:
        return self.rendered.replace("Q", QUESTION)


MROPE = {"type": "mrope", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0, "rope_type": "default"}
INTERLEAVED = {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default", "rope_theta": 5000000}
PLAIN_1E6 = {"rope_theta": 1000000.0, "rope_type": "default"}
LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
    "rope_theta": 500000.0,
}
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
CHATML_END = "<|im_end|>\n<|im_start|>assistant\n"
QWEN2 = Facts(
    rendered=f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}Q{CHATML_END}",
    tokens=(33, 374, 200, 15330),
    image_tokens=(4, 345, 171, 15301),
    last_image_index=(18, 359, 185, 15315),
    eos=("<|im_end|>", "<|endoftext|>"),
    rope=MROPE,
)
QWEN3 = Facts(
    rendered=f"<|im_start|>user\n{IMAGE}Q{CHATML_END}",
    tokens=(82, 278, 118, 11768),
    image_tokens=(64, 260, 100, 11750),
    last_image_index=(67, 263, 103, 11753),
    eos=("<|im_end|>", "<|endoftext|>"),
    rope=INTERLEAVED,
)
FACTS = {
    "qwen2vl": QWEN2,
    "qwen25vl": Facts(**{**vars(QWEN2), "repetition_penalty": 1.05}),
    "qwen3vl": QWEN3,
    "qwen3vlmoe": QWEN3,
    "qwen35": Facts(
        rendered=f"{QWEN3.rendered}<think>\n",
        tokens=(84, 280, 120, 11770),
        image_tokens=QWEN3.image_tokens,
        last_image_index=QWEN3.last_image_index,
        eos=QWEN3.eos,
        rope={
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
            "rope_type": "default",
        },
    ),
    "llava15": Facts(
        rendered="USER: <image>\nQ ASSISTANT:",
        tokens=(596,) * 4,
        image_tokens=(576,) * 4,
        last_image_index=(580,) * 4,
        eos=("</s>",),
        rope={"rope_theta": 10000.0, "rope_type": "default"},
    ),
    "llava16": Facts(
        rendered="[INST] <image>\nQ [/INST]",
        tokens=(1195, 2163, 887, 2359),
        image_tokens=(1176, 2144, 868, 2340),
        last_image_index=(1180, 2148, 872, 2344),
        eos=("</s>",),
        rope=PLAIN_1E6,
    ),
    "onevision": Facts(
        rendered=f"<|im_start|>user\n<image>\nQ{CHATML_END}",
        tokens=(1502, 2726, 1698),
        image_tokens=(1485, 2709, 1681),
        last_image_index=(1487, 2711, 1683),
        eos=("<|im_end|>", "<|endoftext|>"),
        repetition_penalty=1.05,
        rope=PLAIN_1E6,
    ),
    "internvl3": Facts(
        rendered=f"<|im_start|>user\n<IMG_CONTEXT>\nQ{CHATML_END}",
        tokens=(275, 1811, 3347, 3347),
        image_tokens=(256, 1792, 3328, 3328),
        last_image_index=(259, 1795, 3331, 3331),
        eos=("<|im_end|>",),
        rope={"factor": 2.0, "rope_type": "dynamic", "type": "dynamic", "rope_theta": 1000000.0},
    ),
    "gemma3": Facts(
        rendered="<bos><start_of_turn>user\n<start_of_image>Q<end_of_turn>\n<start_of_turn>model\n",
        tokens=(276,) * 4,
        image_tokens=(256,) * 4,
        last_image_index=(260,) * 4,
        eos=("<eos>", "<end_of_turn>"),
        rope={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000},
        },
    ),
    "mllama": Facts(
        rendered="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>Q<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        tokens=(19,) * 4,
        image_tokens=(1,) * 4,
        last_image_index=(5,) * 4,
        eos=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        rope=LLAMA3,
    ),
    "smolvlm": Facts(
        rendered="<|im_start|>User:<image>Q<end_of_utterance>\nAssistant:",
        tokens=(1143, 878, 348, 878),
        image_tokens=(1088, 832, 320, 832),
        last_image_index=(1128, 863, 333, 863),
        eos=("<|im_end|>", "<end_of_utterance>"),
        rope={"rope_theta": 100000, "rope_type": "default"},
    ),
    "idefics3": Facts(
        rendered="<|begin_of_text|>User:<image>Q<end_of_utterance>\nAssistant:",
        tokens=(3042, 2329, 903, 2329),
        image_tokens=(2873, 2197, 845, 2197),
        last_image_index=(3028, 2315, 889, 2315),
        eos=("<|end_of_text|>", "<end_of_utterance>"),
        rope=LLAMA3,
    ),
}
