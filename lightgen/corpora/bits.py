"""Where signs stand in bytes, one bit a byte: sixty-four of them are looked at in one operation."""

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

Bits = UInt64[np.ndarray, " w"]
"""The first byte is the lowest bit of the first word; behind the last byte the bits are 0."""
WORD, ONE = 64, np.uint64(1)
TOP = np.uint64(WORD - 1)
LOWEST = np.asarray([0, *((one & -one).bit_length() - 1 for one in range(1, 256))])  # bit of a byte


def bits_of(found: Bool[np.ndarray, " n"]) -> Bits:
    """What is true of each byte."""
    words = np.zeros(-(-len(found) // WORD), "<u8")
    words.view(np.uint8)[: -(-len(found) // 8)] = np.packbits(found, bitorder="little")
    return words


def places_of(bits: Bits) -> Int64[np.ndarray, " n"]:
    """The bytes whose bits are set. Where no two of eight are, a tenth of the bytes is looked at."""
    eights = bits.view(np.uint8)
    at = np.flatnonzero(eights != 0)
    found = eights[at]
    if (found & (found - 1)).any():
        return np.flatnonzero(np.unpackbits(eights, bitorder="little").view(np.bool_))
    return at * 8 + LOWEST[found]


def is_set(bits: Bits, places: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether the bits of these bytes are set."""
    return (bits[places // WORD] >> (places % WORD).astype(np.uint64) & ONE).astype(np.bool_)


def one_on(bits: Bits) -> Bits:
    """The bit of each byte at the byte after it."""
    moved = bits << ONE
    moved[1:] |= bits[:-1] >> TOP
    return moved


def one_back(bits: Bits) -> Bits:
    """The bit of each byte at the byte before it."""
    moved = bits >> ONE
    moved[:-1] |= bits[1:] << TOP
    return moved


def set_at(bits: Bits, place: int) -> None:
    """Set one bit, in place."""
    bits[place // WORD] |= ONE << np.uint64(place % WORD)


def odd_so_far(bits: Bits) -> Bits:
    """At which bytes an odd number of bits is set, up to and with the own: within words, then over them."""
    odd = bits.copy()
    for step in (1, 2, 4, 8, 16, 32):
        odd ^= odd << np.uint64(step)
    before: UInt8[np.ndarray, " w"] = np.bitwise_xor.accumulate((odd >> TOP).astype(np.uint8))
    odd[1:] ^= -before[:-1].astype(np.uint64)  # all bits of a word, where those before are odd
    return odd
