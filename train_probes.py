"""python train_probes.py --shards output --labels labels.csv --output-dir probes

Trains a probe on every representation in the shards and judges it on images it never saw: layer and penalty chosen on
other folds, 95 % intervals, beside the baselines it must beat. Open report.html, then docs/probes.md. Needs no GPU.
"""

import sys

from halp_probe.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("train-probes", __doc__))
