"""Near-duplicate pictures: the same picture in another encoding or size, which has another SHA-256.

Legend: U pictures, B bits of a hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

BITS = 256
MOST_DIFFERENT = 40  # bits between encodings of one picture; those of two pictures differ in about 128
MOST_PICTURES = 30_000  # compared with each other
_SIDE = 16
_ROWS_AT_ONCE = 512


def difference_hash(picture: Image.Image) -> str:
    """Return 64 hexadecimal digits: whether each of 16 × 16 places is darker than the one to its right.

    Krawetz 2013 ("Kind of like that"), dHash, with 256 bits in the place of 64. JPEG, WebP and another size change few
    of them; a crop, a mirror image or a rotation changes many, and is another picture here.
    """
    from PIL import Image

    grey = picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    light = np.asarray(grey, dtype=np.int16)
    return np.packbits(light[:, 1:] > light[:, :-1]).tobytes().hex()


def near_pairs(hashes: Sequence[str]) -> np.ndarray:
    """Return [P, 2] int: the pairs of U hashes that differ in at most MOST_DIFFERENT bits, the first index lower.

    Raises ValueError for what is no hash, and for more than MOST_PICTURES of them.
    """
    if len(hashes) > MOST_PICTURES:
        raise ValueError(f"{len(hashes)} pictures; at most {MOST_PICTURES} are compared with each other")
    if not hashes:
        return np.empty((0, 2), dtype=np.intp)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), -1), axis=1)
    if bits.shape[1] != BITS:
        raise ValueError(f"hashes of {bits.shape[1]} bits; a hash has {BITS}")
    signs = np.where(bits == 1, 1, -1).astype(np.float32)  # [U, B]; a product of two is B minus twice what differs
    found = []
    for begin in range(0, len(signs), _ROWS_AT_ONCE):
        block = signs[begin : begin + _ROWS_AT_ONCE]
        differing = (BITS - block @ signs[begin:].T) / 2  # [rows, U - begin]
        row, column = np.nonzero(differing <= MOST_DIFFERENT)
        later = column > row
        found.append(np.stack([row[later], column[later]], axis=1) + begin)
    return np.concatenate(found)
