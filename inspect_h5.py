"""python inspect_h5.py output --question q17

Shows what a shard (or a folder of them) holds: attributes, samples, layers, the statistics of every representation, one
sample's texts and positions, failures; and checks it against docs/shard-format.md. Exit status 1 when it is not valid.
"""

import sys

from halp_probe.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("inspect", __doc__))
