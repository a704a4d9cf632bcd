"""ShapesVQA on disk: a folder of pictures and the CSV table that `extract.py` reads."""

from __future__ import annotations

FIRST_TRAINING_SEED = 1_000_000
