"""What becomes of an address: a picture, or why there is none. Some failures pass with time, the others are final."""

from dataclasses import dataclass

from lightgen.storage.pixels import ImageFormat

# A later try may fare better: the network, the server or its robots.txt could not answer now.
PASSING = frozenset(
    {"timeout", "dns", "connection", "tls", "http_408", "http_425", "http_429", "http_5xx", "robots_unreachable"}
)
# A server that says one of BUSY is asked again in the same fetch, after a while.
CHANGED = "changed"  # the file is not the one whose digest the link has
BUSY = frozenset({"http_429", "http_5xx"})


@dataclass(frozen=True)
class Got:
    """A picture as it is stored; `received` is the sha256 of what the server sent, "" where that is not known."""

    data: bytes
    format: ImageFormat
    height: int
    width: int
    sha256: str
    received: str


@dataclass(frozen=True)
class Failed:
    """Why there is no picture; `wait_s` is how long the server asks to be left alone."""

    reason: str
    detail: str
    wait_s: float | None = None

    @property
    def passing(self) -> bool:
        """Whether another try may fare better."""
        return self.reason in PASSING


Made = Got | Failed


def of_status(status: int) -> str:
    """The reason of an answer without a picture; single numbers only where they say something of their own."""
    if status in (401, 403, 404, 408, 410, 425, 429, 451):
        return f"http_{status}"
    return f"http_{status // 100}xx" if 200 <= status < 600 else "http_malformed"
