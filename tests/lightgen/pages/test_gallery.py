"""Galleries of every kind: whole, escaped, alone; thumbnails stay small."""

import re

import pytest

from lightgen.pages.gallery import gallery, thumbnails
from lightgen.stages.pair import PairConfig, pair

KINDS = ("captions", "images", "kept", "vae", "features", "checkpoint")


@pytest.fixture(scope="module")
def pairs(chain, sample):
    config = PairConfig.model_validate({"judge": {"kind": "scenes"}, "sample": sample, "device": "cpu"})
    return pair(chain.images, chain.checkpoint, config, chain.store, seed=2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_that_stands_alone(chain, kind):
    version = chain.store.open(getattr(chain, kind))
    page = gallery(version, chain.store, limit=10)
    assert version.ref.version in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)[a-z/]""", page)
    pictures = {"images": 10, "kept": 10, "features": 10, "checkpoint": 1}
    assert page.count("<img") == pictures.get(kind, 0)


def test_what_was_refused_is_shown_escaped(chain):
    page = gallery(chain.store.open(chain.captions), chain.store)
    assert "too_long" in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; \\x1b[31mred\\x1b[0m {0} %s" in page


def test_pairs_stand_side_by_side_with_their_verdicts(chain, pairs):
    version = chain.store.open(pairs)
    page = gallery(version, chain.store, limit=5)
    assert page.count("<img") == 2 * min(5, version.rows)
    assert "&#34;reason&#34;" in page


def test_a_checkpoint_shows_its_loss(chain):
    page = gallery(chain.store.open(chain.checkpoint), chain.store)
    assert "training: loss" in page
    assert page.count("<polyline") == 2


def test_thumbnails_are_few_and_small(chain, pairs):
    for ref, count in ((chain.images, 5), (chain.kept, 5), (pairs, 4), (chain.checkpoint, 1), (chain.captions, 0)):
        shown = thumbnails(chain.store.open(ref), limit=5)
        assert len(shown) == count
        assert all(uri.startswith("data:image/webp;base64,") for _, uri in shown)
        assert sum(len(uri) for _, uri in shown) < 60_000
