"""LINKS -> IMAGES: every address is asked for its picture, politely and behind guards; what is none is kept with why.

A map: a shard of links gives a shard of images, as they were received unless cropped. The web changes, so a fetch has a
`snapshot` in its name: within one, what is fetched stays, whether a run is resumed, a corpus grows or failures that
pass are tried again. Memory: the files of one shard, and of each answer in flight at most `max_bytes`; what is known of
hosts is bounded. Processor time is that of decoding, and a millisecond an answer.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from lightgen.config import QUIET, RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.fetch import finished, loopback
from lightgen.fetch.finishing import Keeping, finish
from lightgen.fetch.hosts import Round
from lightgen.fetch.lending import keys, lent_shard, take_over
from lightgen.fetch.names import Lookup
from lightgen.fetch.outlook import Outlook
from lightgen.fetch.states import CHANGED, Failed, Got, Made
from lightgen.fetch.web import Manners, Memory, Web
from lightgen.problems import Problem
from lightgen.progress import Progress
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import ImageFormat, Limits
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, LentShard, family_of, lenders
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.canonical import canonical_json
from schemas.images import FETCHED
from schemas.ref import ArtifactRef

STAGE = Stage("fetch", "images", revision=1)
OPT_OUT = ("noai", "noimageai", "noindex", "noimageindex")
GENERATOR = "fetch"
Row = dict[str, Any]


class FetchConfig(Config):
    """When links are fetched, how politely, and what a picture must be."""

    snapshot: str = Field(
        pattern=r"^\d{4}-\d{2}-\d{2}(-[a-z0-9]{1,20})?$",
        description="the date of the fetch, such as 2026-11-28: another one fetches everything again",
    )
    crop_px: int | None = Field(
        default=None, ge=16, le=4096, description="crop to a square of this side and encode again; null: as received"
    )
    format: ImageFormat = Field(default="jpg", description="of what is cropped")
    quality: int = Field(default=95, ge=1, le=100, description="of what is cropped")
    min_side_px: int = Field(default=64, ge=1, description="pictures with a shorter side are refused")
    max_bytes: int = Field(default=32 << 20, ge=1, le=32 << 20, description="longer bodies are given up")
    robots: bool = Field(default=True, description="heed robots.txt")
    opt_out: tuple[str, ...] = Field(default=OPT_OUT, description="words of X-Robots-Tag that are heeded")
    allow_private: tuple[str, ...] = Field(
        default=(),
        description="host:port that may be asked though it is not public, for tests",
        json_schema_extra=QUIET,
    )
    user_agent: str = Field(
        default="lightgen-distill/0.1", min_length=1, pattern=r"^[ -~]+$", json_schema_extra=RUN,
        description="what servers see; a name for robots.txt, a version, and where to write to",
    )  # fmt: skip
    concurrency: int = Field(default=64, ge=1, description="answers in flight", json_schema_extra=RUN)
    per_host: int = Field(default=2, ge=1, description="answers in flight from one host", json_schema_extra=RUN)
    timeout_s: float = Field(default=20.0, gt=0, description="for one answer, whole", json_schema_extra=RUN)
    journal: int = Field(
        default=256, ge=1, description="answers that are kept at once: a kill costs at most so many",
        json_schema_extra=RUN,
    )  # fmt: skip
    workers: int = Field(default=2, ge=1, description="threads that decode meanwhile", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    @model_validator(mode="after")
    def _exact(self) -> Self:
        wrong = [one for one in self.allow_private if not one.rpartition(":")[2].isdigit()]
        if wrong:
            raise ValueError(f"allow_private: {wrong[0]!r} is no host:port")
        return self

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: who asks should be known, and private hosts are for tests."""
        if "@" not in self.user_agent and "http" not in self.user_agent:
            what = "does not say whom the owner of a host can write to"
            yield Problem("recipe", "user_agent", what, "add an address: lightgen-distill/0.1 (+https://...)", "remark")
        if self.allow_private:
            what = f"{', '.join(self.allow_private)} may be asked though not public: an internal service may be reached"
            yield Problem("recipe", "allow_private", what, "leave it out but in tests", "remark")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: links lead to a server of this process, whose pictures are small."""
        few = {"allow_private": (loopback.shared().address,), "min_side_px": min(self.min_side_px, loopback.LEAST_PX)}
        return self.model_copy(update=few)

    @property
    def manners(self) -> Manners:
        """How servers are asked."""
        return Manners(
            user_agent=self.user_agent, timeout_s=self.timeout_s, max_bytes=self.max_bytes, per_host=self.per_host,
            robots=self.robots, opt_out=self.opt_out, allowed=self.allow_private,
        )  # fmt: skip

    @property
    def keeping(self) -> Keeping:
        """What a picture must be."""
        limits = Limits(bytes=self.max_bytes, min_side_px=self.min_side_px)
        return Keeping(limits, self.crop_px, self.format, self.quality)


@dataclass
class Fetching:
    """How one worker fetches; it remembers hosts from shard to shard."""

    config: FetchConfig
    progress: Progress
    outlook: Outlook
    memory: Memory = field(default_factory=Memory)
    lookup: Lookup | None = None

    def tell(self, tried: int, got: int) -> None:
        """Some links more."""
        self.progress.advance(tried, self.outlook.add(tried, got))


def fetch(links: ArtifactRef, config: FetchConfig, context: Context, earlier: ArtifactRef | None = None) -> ArtifactRef:
    """The pictures behind all links that can be had.

    With `earlier`, a fetch of the same links, all that it has is taken over, and only what failed for passing reasons
    is asked for again.
    """
    source = context.store.open(links)
    parents = [links, *([] if earlier is None else [earlier])]
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    if earlier is not None and context.store.open(earlier).plan.config != plan.config:
        raise ConfigError(f"{earlier} was fetched with other settings: its snapshot is not the same. Fetch all links")
    needs = Needs(unit="links", total=source.rows)
    family = family_of(STAGE.name, STAGE.revision, plan.config)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds who lends pictures; see `lightgen.work`."""
    config = FetchConfig.model_validate(work.config)
    links = worker.store.open(work.parents[0])
    first = [worker.store.open(one) for one in work.parents[1:]]
    others = [one for one in lenders(worker.store, work.plan, work.family) if one.ref not in work.parents]
    known = [Lender(one, keys) for one in (*first, *others)]
    fetching = Fetching(config, worker.progress, Outlook(work.needs.total))

    def make_shard(shard: int) -> ShardOutput | LentShard:
        if (lent := lent_shard(known, links, shard, worker.store)) is not None:
            worker.progress.advance(links.manifest.shards[shard].rows_out)
            return lent
        rows: list[Row] = links.table(shard).to_pylist()
        digests = {row["url"]: row["sha256"] for row in rows}
        made = take_over(known, shard, digests, whole=config.crop_px is None)
        made = {
            url: one for url, one in made.items() if not (digests[url] and isinstance(one, Got) and not one.received)
        }
        reused = sum(row["url"] in made for row in rows)
        worker.progress.advance(reused)
        urls = [url for url in digests if url not in made]
        made |= fetch_all(urls, fetching, Journal(worker.store.files, work.plan, shard))
        return assembled(rows, made, reused, config)

    return make_shard


def fetch_all(urls: Sequence[str], fetching: Fetching, journal: Journal) -> dict[str, Made]:
    """What becomes of every address: from the journal, else asked for."""
    made = finished.read(journal)
    fetching.progress.advance(sum(url in made for url in urls))
    left = [url for url in urls if url not in made]
    return {**made, **asyncio.run(_fetched(left, fetching, journal))} if left else made


async def _fetched(urls: Sequence[str], fetching: Fetching, journal: Journal) -> dict[str, Made]:
    config, loop = fetching.config, asyncio.get_running_loop()
    keeper = finished.Keeper(journal, config.journal, fetching.tell)
    with ThreadPoolExecutor(config.workers, thread_name_prefix="decode") as decoding:

        async def finish_one(data: bytes) -> Made:
            return await loop.run_in_executor(decoding, finish, data, config.keeping)

        async with Web(config.manners, fetching.memory, fetching.lookup) as web:
            await Round(web, config.concurrency, finish_one, keeper.settle).run(urls)
    return await keeper.finish()


def assembled(rows: Sequence[Row], made: dict[str, Made], reused: int, config: FetchConfig) -> ShardOutput:
    """A shard of images, in the order of its links."""
    kept: list[Row] = []
    blobs: list[dict[str, bytes]] = []
    rejects: list[Reject] = []
    for link in rows:
        one = _expected(made[link["url"]], link["sha256"])
        if isinstance(one, Failed):
            rejects.append(Reject(link["id"], one.reason, one.detail, link))
            continue
        row = {
            "id": link["id"], "prompt_id": link["caption_id"], "caption": link["caption"], "index": 0, "seed": 0,
            "generator": GENERATOR, "width": one.width, "height": one.height, "format": one.format,
            "image_sha256": one.sha256,
            **{name: link[name] for name in ("url", "host", "source", "licence")},
        }  # fmt: skip
        kept.append(row)
        blobs.append({one.format: one.data, "json": canonical_json({**row, "snapshot": config.snapshot})})
    table = pa.Table.from_pylist(kept, schema=FETCHED)
    return ShardOutput(table=table, schema=FETCHED, rejects=rejects, rows_in=len(rows), blobs=blobs, rows_reused=reused)


def _expected(made: Made, sha256: str | None) -> Made:
    """A picture whose digest is known must be that one."""
    if isinstance(made, Got) and sha256 and made.received != sha256:
        return Failed(CHANGED, f"sha256 {made.received} in place of {sha256}")
    return made
