"""Near-duplicates by rensa, run by a Python that has it: texts on standard input, seconds on standard output."""

import json
import sys
import time

from rensa import RMinHashDeduplicator  # pyright: ignore[reportMissingImports]

BANDS = 32  # as many as ours has, for the same recall


def main() -> None:
    """Word 3-grams in lower case, signed and looked up by rensa's own bulk call, which compares signatures alone."""
    asked = json.load(sys.stdin)
    texts, threshold, count = asked["texts"], asked["threshold"], asked["permutations"]
    began = time.perf_counter()
    found = RMinHashDeduplicator(threshold, count, True, BANDS)
    added = found.add_pairs([(str(at), _grams(text)) for at, text in enumerate(texts)])
    seconds = time.perf_counter() - began
    json.dump({"seconds": seconds, "refused": sum(not one for one in added)}, sys.stdout)


def _grams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]


if __name__ == "__main__":
    main()
