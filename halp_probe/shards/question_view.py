"""The view by question: one group a question, whose arrays are HDF5 virtual datasets onto rows of the columns.

Written with h5py's low-level calls: a shard of 1,000 questions has 11,000 of these datasets, and the high-level ones
cost three times as much.
"""

from __future__ import annotations

import h5py
import numpy as np

from halp_probe.plain_text import is_whole
from halp_probe.records import VISION_ENCODER
from halp_probe.shards.columns import Columns
from halp_probe.shards.names import COLUMNS, escape
from halp_probe.shards.texts import write_texts

QUESTION_TEXTS = ("question", "image_id", "answer", "ground_truth_answer")


def write_question_view(file: h5py.File, columns: Columns, dtype: np.dtype) -> None:
    """Write one group for each question at the root, in the order of the columns.

    Each array [D] maps one row of `/_columns/<representation>` [N, D] in the same file (source `"."`): if a separate
    source file were missing, a virtual dataset would silently read as zeros.
    """
    ordered = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    ordered.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    with_parents = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    with_parents.set_create_intermediate_group(True)
    with_parents.set_char_encoding(h5py.h5t.CSET_UTF8)
    number = h5py.h5t.py_create(dtype)
    text = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
    scalar = h5py.h5s.create(h5py.h5s.SCALAR)
    spaces = {
        name: (h5py.h5s.create_simple((vectors.shape[1],)), h5py.h5s.create_simple(vectors.shape))
        for name, vectors in columns.vectors.items()
        if name != VISION_ENCODER  # HALP's layout has no such array; it is stored as a column only
    }
    for row, question_id in enumerate(columns.question_ids):
        group = h5py.h5g.create(file.id, escape(question_id).encode(), gcpl=ordered, lcpl=with_parents)
        for name in QUESTION_TEXTS:
            said = columns.texts[name][row]
            if is_whole(said):
                dataset = h5py.h5d.create(group, name.encode(), text, scalar)
                dataset.write(scalar, scalar, np.array(said, dtype=h5py.string_dtype()))
            else:
                write_texts(h5py.Group(group), name, said)
        for name, (target, source) in spaces.items():
            width = target.shape[0]
            source.select_hyperslab((row, 0), (1, width))
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_virtual(target, b".", f"/{COLUMNS}/{name}".encode(), source)
            layout.set_fill_value(np.array(np.nan, dtype=dtype))
            h5py.h5d.create(group, name.encode(), number, target, dcpl=layout, lcpl=with_parents)
