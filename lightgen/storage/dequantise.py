"""Inner loops that make 16-bit numbers of 8-bit ones; apart, because numba takes a second to import."""

import numba
import numpy as np

# Of float32, the lower half of its bits: half of it, to round, and the bit that decides a tie.
HALF, TIE = np.uint32(0x7FFF), np.uint32(1)


@numba.njit(cache=True, nogil=True)
def scaled_to_bfloat16(codes: np.ndarray, scales: np.ndarray, into: np.ndarray) -> None:
    """`into` becomes codes x scales, [groups, numbers], rounded to the nearest even; both are bits of bfloat16."""
    for group in range(codes.shape[0]):
        scale = np.uint32(np.uint32(scales[group]) << np.uint32(16)).view(np.float32)
        for place in range(codes.shape[1]):
            bits = np.float32(np.float32(codes[group, place]) * scale).view(np.uint32)
            into[group, place] = np.uint16((bits + HALF + ((bits >> np.uint32(16)) & TIE)) >> np.uint32(16))


@numba.njit(cache=True, nogil=True)
def looked_up(table: np.ndarray, codes: np.ndarray, into: np.ndarray) -> None:
    """`into` becomes, plane by plane, what the plane's row of `table` has for each code."""
    for plane in range(codes.shape[0]):
        for place in range(codes.shape[1]):
            into[plane, place] = table[plane, codes[plane, place]]
