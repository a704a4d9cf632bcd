"""python train_probes.py --shards output --labels output/labels.csv --output-dir output/probes

Trains a probe on every representation in the shards and judges it on images it never saw, with intervals and beside
the baselines it must beat. Writes results, out-of-fold scores, a heatmap and the fitted probes. Needs no GPU.
"""

import sys

from halp_probe.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("train-probes", __doc__))
