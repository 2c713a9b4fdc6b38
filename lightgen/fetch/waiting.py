"""How long a server asks to be left alone."""

import email.utils
from collections.abc import Mapping


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks for, given as a number or as a date; `now` is in seconds since 1970.

    None where it says nothing that can be read. `headers` finds names in any case.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = (headers.get(name) or "").strip()
        try:
            seconds = float(said) * unit_s
        except ValueError:
            continue
        return max(0.0, seconds) if seconds < 1e9 else None
    said = headers.get("retry-after")
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - now) if said else None
    except (ValueError, TypeError, OverflowError):
        return None
