"""Errors that speak to the user: what is wrong, where, and what to do about it.

    LightgenError
    ├── ConfigError          a recipe or an option is wrong
    ├── StoreError           the store or something in it cannot be used
    │   ├── StoreUnsupported   the file system lacks "create if absent"
    │   ├── StoreConflict      a key exists with other bytes
    │   ├── StoreCorrupt       bytes are not what the manifest says
    │   ├── StoreFull          no space left
    │   ├── StoreReadOnly      no permission to write
    │   ├── StoreAccess        credentials, bucket or key refused
    │   ├── StoreVanished      a file was deleted while it was read
    │   ├── RefNotFound        nothing of that name
    │   ├── UnsafePath         a path leaves the store
    │   ├── ShardMalformed     a tar or Parquet shard breaks the format
    │   ├── SchemaMismatch     a table does not conform to its schema
    │   └── DuplicateKey       one key twice in one shard
    ├── TooManyRejects       a stage refused more rows than allowed
    ├── AuditRefused         a judge does not keep what a recipe asks of it
    ├── InputCorrupt         a file given by the user cannot be read
    ├── InputChanged         a file given by the user changed while a version was made of it
    ├── ModelError           weights or a model repository cannot be used
    │   └── ModelIncomplete    files of a model are not there
    ├── CheckpointCorrupt    a checkpoint fails verification
    ├── ResumeMismatch       a run is resumed with other settings
    ├── TrainingDiverged     the loss stopped being a number
    ├── TrainingFailed       processes of a training run ended early
    ├── RunsFailed           some of many runs have no report
    ├── WorkersLost          all workers of a stage ended early
    ├── WorkerMismatch       a worker has another store, other code or other models than the run it is to join
    ├── NotMade              a version is asked for that is not made yet
    ├── ServiceRefused       a service will not answer, however often it is asked
    ├── SpendLimit           a service was paid as much as a recipe allows
    └── TryLater             a service or machine could not do it now; nothing is wrong with the input

Mistakes of the programmer are assertions, and failures of single rows are values (`schemas.rejects`).
"""

import re

from schemas.documents import Plan

# Control characters but tab and newline, marks that turn the direction of text, and surrogates, which are not UTF-8.
UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
LONGEST = 4000  # characters


def escaped(text: object, longest: int = LONGEST) -> str:
    """`text` as a message may hold it: whatever a terminal or JSON trips over is spelled as in Python source.

    Of more than `longest` characters the middle is left out.
    """
    spelled = UNSPEAKABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
    if len(spelled) <= longest:
        return spelled
    note = f" [... {len(spelled):,} characters in all ...] "
    half = (longest - len(note)) // 2
    return f"{spelled[:half]}{note}{spelled[-half:]}"


class LightgenError(Exception):
    """Something the user can put right: the message says what, where and what to do, in plain characters."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


class ConfigError(LightgenError):
    """A recipe or an option is wrong."""


class StoreError(LightgenError):
    """The store, or something in it, cannot be used."""


class StoreUnsupported(StoreError):
    """The file system cannot create a key only if it is absent."""


class StoreConflict(StoreError):
    """A key exists already, with other bytes."""


class StoreCorrupt(StoreError):
    """Bytes in the store are not what its manifest says."""


class StoreFull(StoreError):
    """No space, quota or inodes left."""


class StoreReadOnly(StoreError):
    """The store may not be written."""


class StoreAccess(StoreError):
    """Credentials, bucket or key were refused."""


class Evicted(StoreError):
    """Images were deleted that can be drawn again."""


class StoreVanished(StoreError):
    """A file was deleted while it was read."""


class RefNotFound(StoreError):
    """No artifact of that name."""


class UnsafePath(StoreError):
    """A path leaves the store, or a name is not allowed."""


class ShardMalformed(StoreError):
    """A tar or Parquet shard breaks the format."""


class SchemaMismatch(StoreError):
    """A table does not conform to its declared schema."""


class DuplicateKey(StoreError):
    """One key stands twice in one shard."""


class TooManyRejects(LightgenError):
    """A stage refused more of its rows than its recipe allows."""


class AuditRefused(LightgenError):
    """A judge of pairs does not keep what a recipe asks of it, or was not measured."""


class InputCorrupt(LightgenError):
    """A file given by the user cannot be read."""


class InputChanged(LightgenError):
    """A file given by the user is not what it was when its version was named."""


class ModelError(LightgenError):
    """Weights or a model repository cannot be used."""


class ModelIncomplete(ModelError):
    """Files of a model are not there; of a model of the hub they may be fetched yet."""


class CheckpointCorrupt(LightgenError):
    """A checkpoint fails verification."""


class ResumeMismatch(LightgenError):
    """A run is resumed with settings other than its own."""


class TrainingDiverged(LightgenError):
    """The loss is not finite any more."""


class TrainingFailed(LightgenError):
    """Processes of a training run ended before it did."""


class RunsFailed(LightgenError):
    """Some runs of an ablation have no report; the others are sealed."""


class WorkersLost(LightgenError):
    """All workers of a stage ended before it did."""


class WorkerMismatch(LightgenError):
    """A worker has another store, other code or other models than the run it is to join."""


class TryLater(LightgenError):
    """A service, a machine or its memory could not do it now; the same call may succeed later."""


class ServiceRefused(LightgenError):
    """A service refuses a request for good: its key, its address, its quota or the request itself is wrong.

    `status` is that of HTTP, 0 where there is none; `kinds` are the types and codes that the service gives its answer.
    """

    def __init__(self, message: str, status: int = 0, kinds: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.status, self.kinds = status, kinds


class SpendLimit(LightgenError):
    """A service was paid as much as a recipe allows; what was paid for is kept."""


class NotMade(LightgenError):
    """A version that was only looked for is not made yet."""

    plan: Plan
    done: int
    units: int

    @classmethod
    def of(cls, plan: Plan, done: int, units: int) -> "NotMade":
        """`done` shards of `plan` have receipts; all of them take in `units` rows, 0 where that is not known."""
        there = f"{done} of {plan.n_shards} shards are there"
        error = cls(f"stage {plan.stage} is not made yet ({there}): make it with `lightgen run`")
        error.plan, error.done, error.units = plan, done, units
        return error
