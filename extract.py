"""python extract.py --vqa-dataset vqa.csv --images-dir images --output-dir output --model Qwen/Qwen2.5-VL-7B-Instruct

Captures a VLM's hidden states and answers for a table of questions on images, into checkpointed HDF5 shards. Run the
same command again after an interruption. `--model shapes` is bundled and needs no download; `--test` runs 3 samples.
"""

import sys

from halp_probe.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("extract", __doc__))
