"""What stands in the way of a recipe, as a value: found before anything is made, and told all at once.

A problem lies in the recipe (settings that contradict each other, models without a commit, parts left out), here
(files, columns, models, packages that this machine lacks), or in the machine (memory, disk, a store of no use).
"""

from dataclasses import dataclass, replace
from typing import Literal

Place = Literal["recipe", "here", "machine"]
Weight = Literal["stops", "gap", "remark"]


@dataclass(frozen=True)
class Problem:
    """`what` is wrong at the setting `where` (a dotted key of the recipe), and how to `fix` it.

    weight: `stops`, the run would fail; `gap`, it would go through, but not give what it is for, or not in this memory;
    `remark`, worth knowing and no fault.
    """

    place: Place
    where: str
    what: str
    fix: str
    weight: Weight = "stops"

    def under(self, key: str) -> "Problem":
        """The same problem of a part that stands at `key` of a larger one."""
        return replace(self, where=".".join(filter(None, (key, self.where))))

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"
