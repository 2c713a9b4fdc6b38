"""Which parameters a run trains, and a check that gradients come to exactly those."""

from collections.abc import Iterable

from torch import nn

from lightgen.model.student import Student
from lightgen.training.objectives import Objective


def freeze_untrained(student: Student, objective: Objective) -> None:
    """Let exactly the parameters that `objective` trains require a gradient.

    DDP waits in every backward pass for the gradient of each parameter that requires one. Where one never comes, it
    fails in the second step. It does not wait for a frozen parameter, which costs neither memory nor traffic. Without a
    gradient, optimizer and weight decay leave it alone, with any number of processes. `find_unused_parameters` would
    instead walk the whole graph in every step, to find out what is known before the first.

    Frozen parameters stay in the optimizer's groups. So the numbers by which a checkpoint names the state of the others
    do not depend on the objective.
    """
    untrained = {id(parameter) for parameter in objective.untrained(student)}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) not in untrained)


def assert_gradients(student: Student, parameters: Iterable[nn.Parameter]) -> None:
    """Assert that all of the student's `parameters` but the frozen have a gradient.

    One process then finds what many would wait for.
    """
    if all(parameter.grad is not None for parameter in parameters if parameter.requires_grad):
        return
    missing = [name for name, value in student.named_parameters() if value.requires_grad and value.grad is None]
    raise AssertionError(f"no gradient came to {', '.join(missing)}: the objective's `untrained` must name them")
