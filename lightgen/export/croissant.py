"""`croissant.json`: the folder as Croissant 1.0 describes a dataset, with the digest of every data file.

A folder of one data file is read file by name, and a reader checks its digest. Of several files a reader takes what a
pattern finds; mlcroissant 1.1 then checks no digest. See https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

import json
from typing import Any

import pyarrow as pa

from lightgen.export.facts import SPDX, UNSAID, Facts
from lightgen.export.features import croissant_type, meaning
from lightgen.export.rows import Rows

RECORDS, FILES = "default", "files"
TYPES = {"parquet": "application/x-parquet", "webdataset": "application/x-tar"}
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(rows: Rows, facts: Facts) -> str:
    """The document as text. Tars have no record set: what reads them is WebDataset."""
    told: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name,
        "description": facts.summary,
        "version": "1.0.0",
        "datePublished": facts.date,
        "license": [_licence(one) for one in facts.licences] or ["unknown"],
        "identifier": f"{facts.version.ref.kind}@{facts.version.ref.version}",
        "keywords": ["lightgen", facts.version.ref.kind, *facts.words.tasks],
        "citeAs": _citation(facts),
        **_people(facts),
        **_responsible(facts),
        "distribution": _distribution(facts),
    }
    if facts.how.format == "parquet":
        told["recordSet"] = [_records(rows, facts)]
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _people(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {"creator": {"@type": "sc:Organization", "name": facts.how.by}} if facts.how.by else {}
    return found | ({"url": facts.how.url} if facts.how.url else {})


def _responsible(facts: Facts) -> dict[str, Any]:
    """Of the vocabulary for responsible AI what the store knows."""
    found = {
        "rai:dataCollection": facts.made,
        "rai:dataLimitations": facts.words.lacks,
        "rai:machineAnnotationTools": facts.scorers,
    }
    return {name: value for name, value in found.items() if value}


def _distribution(facts: Facts) -> list[dict[str, Any]]:
    kind = TYPES[facts.how.format]
    files = [
        {
            "@type": "cr:FileObject", "@id": file.path, "name": file.path.rpartition("/")[2], "contentUrl": file.path,
            "contentSize": f"{file.bytes} B", "encodingFormat": kind, "sha256": file.sha256,
        }
        for file in facts.files
    ]  # fmt: skip
    whole = {"@type": "cr:FileSet", "@id": FILES, "name": FILES, "encodingFormat": kind}
    whole["includes"] = facts.pattern
    return [*files, whole] if len(files) > 1 else files


def _records(rows: Rows, facts: Facts) -> dict[str, Any]:
    one = len(facts.files) == 1
    origin = {"fileObject": {"@id": facts.files[0].path}} if one else {"fileSet": {"@id": FILES}}
    pictures = [_picture(name, origin) for name in rows.pictures]
    key = {"key": {"@id": f"{RECORDS}/id"}} if "id" in rows.schema.names else {}
    fields = [*pictures, *(_field(field, origin) for field in rows.schema)]
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": facts.words.row,
        **key,
        "field": fields,
    }


def _field(field: pa.Field, origin: dict[str, Any]) -> dict[str, Any]:
    source = {**origin, "extract": {"column": field.name}}
    return _named(field.name, meaning(field) or field.name, croissant_type(field.type), source)


def _picture(name: str, origin: dict[str, Any]) -> dict[str, Any]:
    source = {**origin, "extract": {"column": name}, "transform": {"jsonPath": "bytes"}}
    return _named(name, "the picture as it was sealed, byte for byte", "sc:ImageObject", source)


def _named(name: str, description: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    named = {"@type": "cr:Field", "@id": f"{RECORDS}/{name}", "name": name}
    return {**named, "description": description, "dataType": kind, "source": source}


def _licence(text: str) -> str:
    if text.lower() in UNSAID:
        return "unknown"
    spdx = SPDX.get(text.lower())
    return f"https://spdx.org/licenses/{spdx}.html" if spdx else text


def _citation(facts: Facts) -> str:
    by = f"author={{{facts.how.by}}}, " if facts.how.by else ""
    ref, year = facts.version.ref, facts.date[:4]
    return f"@misc{{{facts.name}, {by}title={{{facts.name}}}, year={{{year}}}, note={{{ref.kind}@{ref.version}}}}}"
