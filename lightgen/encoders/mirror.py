"""Which pictures may be shown mirrored while training: those whose caption knows no sides and promises no writing.

The published code mirrors every second image whatever its caption says, and its authors suspect that of the student's
weak positions (model_facts 0, row 8). What no caption tells (a mirrored face is another face) stays a risk.
"""

import re
from typing import Literal

Flips = Literal["off", "safe", "all"]

SIDES = r"left\w*|right\w*|east\w*|west\w*|(anti|counter)?-?clockwise|fac(es|ing)|turn(s|ed|ing)|pointing|profile"
WRITING = (
    r"text|words?|letters?|lettering|numbers?|digits?|sign(s|age)?|logos?|labels?|titles?|captions?|slogans?|brands?"
)
WRITTEN = r"read(s|ing)|writ(es|ing|ten)|says|saying|spell\w*|inscri\w+|typograph\w*|calligraph\w*|graffiti|watermarks?"
THINGS = r"clocks?|watch(es)?|flags?|maps?|keyboards?|newspapers?|magazines?|books?|posters?|covers?|screens?|jerseys?"
QUOTED = r"[\"“”«»„]|(?<!\w)'[^']{2,}'(?!\w)"
TELLING = re.compile(rf"\b({SIDES}|{WRITING}|{WRITTEN}|{THINGS})\b|{QUOTED}", re.IGNORECASE)


def may_mirror(caption: str, flips: Flips = "safe") -> bool:
    """safe: True where nothing in the caption speaks of a side, a direction, or something that can be read."""
    return flips == "all" or (flips == "safe" and not TELLING.search(caption))
