"""What a golden is about: a stage, a member of a family or a decision, with the numbers that name its results."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from lightgen.config import Config, Member

ROOT = Path(__file__).parents[2]
OUTPUTS = Path(__file__).parent / "outputs"
Output = Any  # JSON values; a picture is {"png": base64}
Run = Callable[[Any, Path], Output]


@dataclass(frozen=True)
class Number:
    """A revision that is raised by hand, and where it stands."""

    name: str
    file: str
    value: int

    @classmethod
    def of(cls, owner: type[Member] | ModuleType) -> "Number":
        """The revision of a member, or that of the stage of a module."""
        file = Path(inspect.getfile(owner)).relative_to(ROOT).as_posix()
        if isinstance(owner, ModuleType):
            return cls(f"the revision of STAGE in {file}", file, owner.STAGE.revision)
        return cls(f"{owner.__name__}.REVISION", file, owner.REVISION)

    def raised(self) -> str:
        """What to do where results changed."""
        where = "" if self.name.endswith(self.file) else f" in {self.file}"
        return f"raise {self.name} to {self.value + 1}{where}"


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from the stored one: of floats, and of pixels in levels of 0 to 255."""

    relative: float = 1e-4
    absolute: float = 1e-6
    levels: int = 0


@dataclass(frozen=True, eq=False)
class Subject:
    """`cases` are settings by name, which together have every value that `config` allows; `run` gives the output.

    long: it takes so long that only the long tests run it
    loose: tolerances of single cases, where arithmetic of half precision differs between machines
    """

    name: str
    owners: tuple[type[Member] | ModuleType, ...]
    config: type[Config]
    cases: Mapping[str, Mapping[str, Any]]
    run: Run
    tolerance: Tolerance = Tolerance()
    loose: Mapping[str, Tolerance] = field(default_factory=dict)
    long: bool = False

    @property
    def numbers(self) -> list[Number]:
        """What is raised where its results change."""
        return [Number.of(owner) for owner in self.owners]

    @property
    def file(self) -> Path:
        """Where its outputs are stored."""
        return OUTPUTS / f"{self.name.replace(' ', '-')}.json"

    def settings(self) -> dict[str, Any]:
        """The settings of every case."""
        return {name: self.config.model_validate(given) for name, given in self.cases.items()}

    def tolerance_of(self, case: str) -> Tolerance:
        """How far the output of a case may be from the stored one."""
        return self.loose.get(case, self.tolerance)
