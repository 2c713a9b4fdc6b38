"""Which of several generators draws a prompt: decided by the id of the prompt and the shares, and by nothing else.

Weighted rendezvous: every generator bids -ln(u) / share for a prompt, where u in (0, 1) is a hash of its name and the
id of the prompt, and the lowest bid draws. So no prompt depends on another, and where one share grows, prompts move to
that generator only. Of n prompts a generator with share p draws p n, give or take 4 sqrt(p (1 - p) n) but once in
15,000 times: of two million at 0.4 that is 0.14 % of them.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from lightgen.config import Config


class Part(Config):
    """One of several generators, and how many of the prompts each of them draws."""

    name: str = Field(min_length=1, description="of the generator that draws here")
    shares: dict[str, float] = Field(description="of every generator, by name; only their ratios count")

    @property
    def share(self) -> float:
        """Of all prompts, 0 to 1."""
        return self.shares[self.name] / sum(self.shares.values())

    def takes(self, prompt_ids: Sequence[str]) -> np.ndarray:
        """Whether each prompt is drawn here, as [n] booleans. Memory: 8 bytes a prompt and generator."""
        return drawn_by(prompt_ids, self.shares) == list(self.shares).index(self.name)


def drawn_by(prompt_ids: Sequence[str], shares: Mapping[str, float]) -> np.ndarray:
    """The place in `shares` of whoever draws each prompt, as [n] integers."""
    bids = [-np.log(_uniform(name, prompt_ids)) / share for name, share in shares.items()]
    return np.argmin(bids, axis=0)


def _uniform(name: str, prompt_ids: Sequence[str]) -> np.ndarray:
    """A number in (0, 1) for each prompt, another one for every name."""
    begun = f"{name}\0".encode()
    hashes = b"".join(hashlib.blake2b(begun + id.encode(), digest_size=8).digest() for id in prompt_ids)
    return ((np.frombuffer(hashes, ">u8") >> np.uint64(11)) + 0.5) / 2.0**53
