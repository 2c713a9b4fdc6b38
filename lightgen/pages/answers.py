"""What the page of SCORES shows of a scorer's answers: the distribution of each number."""

from collections.abc import Iterator

import pyarrow as pa
from markupsafe import Markup

from lightgen.pages.histogram import Histogram, histogram_chart
from lightgen.storage.inspect import declared_schema
from lightgen.storage.version import Version
from schemas.scores import ROW, UNSCORED

MOST = 12  # charts on a page
OWN = {field.name for field in (*ROW, *UNSCORED)}


def answer_charts(version: Version) -> Iterator[Markup]:
    """A histogram of each column of numbers over all shards, which are read one after the other."""
    numbers = [field.name for field in declared_schema(version) if field.name not in OWN and _is_number(field)]
    for name in numbers[:MOST]:
        columns = (version.table(shard, columns=[name])[name] for shard in range(version.n_shards))
        found = Histogram.of(column.to_numpy().astype(float) for column in columns)
        if found is not None:
            yield histogram_chart(name, found, [])


def _is_number(field: pa.Field) -> bool:
    """Whether it counts or measures; unsigned ones are hashes."""
    return pa.types.is_floating(field.type) or pa.types.is_signed_integer(field.type)
