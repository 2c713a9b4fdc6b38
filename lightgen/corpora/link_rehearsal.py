"""A small table of links for a rehearsal: the columns of the real one, and addresses of a server of this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora.laion import LaionLinks
from lightgen.corpora.link_columns import NAMES
from lightgen.corpora.rehearsal import captions
from lightgen.errors import InputCorrupt
from lightgen.fetch import loopback
from schemas.links import NUMBERS

BAD = ("/missing.jpg", "/page.jpg", "/cut.jpg", "/busy/1.jpg")
BREAKS = 7  # every so many links break a rule
SIZES = ("width", "height")


class Bounds(Protocol):
    """What a rule asks of a column."""

    @property
    def column(self) -> str: ...
    @property
    def least(self) -> float | None: ...
    @property
    def most(self) -> float | None: ...


def rehearsed(
    corpus: LaionLinks, rules: Sequence[Bounds], words: Mapping[str, str], folder: Path, own: Path
) -> LaionLinks:
    """The corpus as a file in `folder` whose links keep the rules, but for some; a few addresses have no picture."""
    server = loopback.shared()
    path = corpus.own_folder(folder) / own.name / f"{server.port}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(corpus, rules, words, server), path)
    return corpus.model_copy(update={"path": str(path), "limit": None})


def _table(
    corpus: LaionLinks, rules: Sequence[Bounds], words: Mapping[str, str], server: loopback.Loopback
) -> pa.Table:
    texts = captions(f"{corpus.source} {corpus.path}")
    urls = [server.url(f"/picture/{place}.jpg?caption={quote(text)}") for place, text in enumerate(texts)]
    urls += [server.url(path) for path in BAD] + ["http://10.0.0.1/a.jpg", "ftp://example.com/a.jpg"]
    texts += ["what has no picture"] * (len(urls) - len(texts))
    columns: dict[str, pa.Array] = {}
    for ours, theirs in _named(corpus).items():
        if ours in ("url", "caption"):
            columns[theirs] = pa.array(urls if ours == "url" else texts)
        elif ours in NUMBERS:
            rule = [one for one in rules if one.column == ours]
            values = [_value(ours, rule, breaks=place % BREAKS == BREAKS - 1) for place in range(len(urls))]
            columns[theirs] = pa.array(values, pa.float64())
        else:
            columns[theirs] = pa.array([words.get(ours)] * len(urls), pa.string())
    return pa.table(columns)


def _named(corpus: LaionLinks) -> dict[str, str]:
    """Names of the columns, those of LAION where the file is not here."""
    try:
        return corpus.files()[0].known()
    except InputCorrupt:
        usual = {ours: theirs[0] for ours, theirs in NAMES.items()} | {"url": "URL", "caption": "TEXT"}
        return usual | ({"caption": corpus.caption_column} if corpus.caption_column else {})


def _value(name: str, rules: Sequence[Bounds], breaks: bool) -> float:
    """A value that keeps all rules on the column, or one that breaks the first."""
    least = max((one.least for one in rules if one.least is not None), default=None)
    most = min((one.most for one in rules if one.most is not None), default=None)
    if breaks and rules:
        return least - 1 if least is not None else (most or 0.0) + 1
    if least is not None and most is not None:
        return (least + most) / 2
    usual = 512.0 if name in SIZES else 0.5
    return max(usual, least) if least is not None else min(usual, most) if most is not None else usual
