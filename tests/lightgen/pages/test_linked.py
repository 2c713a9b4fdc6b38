"""The page of links: steps, hosts, sizes and scores, and every address as text."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.laion import LaionLinks
from lightgen.decisions.rules import Rule
from lightgen.pages.gallery import gallery
from lightgen.stages.links import LinksConfig, links
from lightgen.storage.store import open_or_create
from lightgen.work import Context

LONG = "http://a.example/" + "x" * 300 + ".jpg?<b>"
ROWS = [
    *((f"http://b.example/{n}.jpg", f"a picture of {n} birds", 6.0 + n / 10, 1200) for n in range(5)),
    (LONG, "a long address", 7.0, 300),
    ("http://c.example/low.jpg", "an ugly one", 2.0, 300),
    ("ftp://d.example/e.jpg", "another scheme", 7.0, 300),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("links")
    url, text, aesthetic, width = zip(*ROWS, strict=True)
    table = pa.table({"URL": url, "TEXT": text, "AESTHETIC_SCORE": pa.array(aesthetic, pa.float32()), "WIDTH": width})
    pq.write_table(table, folder / "a.parquet")
    config = LinksConfig(
        corpora=[LaionLinks(path=str(folder / "a.parquet"))], rules=(Rule(column="aesthetic", least=5.0),)
    )
    context = Context(open_or_create(str(folder / "store")), seed=1)
    return gallery(context.store.open(links(config, context)), context.store)


def cells(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without marks."""
    section = page[page.index(f"<h2>{heading}</h2>") :]
    rows = re.findall(r"<tr>(<td.*?)</tr>", section[: section.index("</table>")], re.DOTALL)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)] for row in rows]


def test_every_step_says_what_it_left(page: str) -> None:
    assert cells(page, "What each step left") == [
        ["url_scheme", "8", "1", "7", ""],
        ["low_aesthetic", "7", "1", "6", ""],
    ]


def test_hosts_with_most_links_come_first(page: str) -> None:
    assert cells(page, "Hosts") == [["b.example", "5", "83.3 %"], ["a.example", "1", "16.7 %"]]


def test_sizes_and_scores_that_the_table_has_are_drawn_with_their_rules(page: str) -> None:
    charts = re.findall(r'<figure class="chart"><figcaption><b>([^<]*)</b>(<span>[^<]*</span>)?', page)
    assert charts == [("width", ""), ("aesthetic", "<span>line at 5</span>")]
    assert ">1,200</text>" in page


def test_addresses_stand_below_captions_and_among_what_was_refused(page: str) -> None:
    said = re.findall(r'<span class="url" title="([^"]*)">([^<]*)</span>', page)
    assert len(said) == len(ROWS)
    assert all(title == text for title, text in said)
    assert LONG.replace("<b>", "&lt;b&gt;") in {text for _, text in said}
    assert "<th>url</th>" not in page
