"""What must hold in a store after any crash; written against the format alone, without the library."""

import hashlib
import json

import pyarrow.parquet as pq


def violations(root):
    """Each broken promise as a sentence."""
    found = []
    for version in sorted(root.glob("v/*/*")):
        receipts = {path.name: path.read_bytes() for path in sorted((version / "done").glob("*.json"))}
        if receipts and not (version / "plan.json").exists():
            found.append(f"{version.name}: receipts without a plan")
        for name, data in receipts.items():
            provenance = version / "provenance" / f"{json.loads(data)['provenance']}.json"
            if not provenance.exists() or hashlib.sha256(provenance.read_bytes()).hexdigest() != provenance.stem:
                found.append(f"{version.name}/{name}: provenance is missing or torn")
            found += [f"{version.name}/{name}: {what}" for what in _receipt_violations(version, json.loads(data))]
        if (version / "manifest.json").exists():
            found += _manifest_violations(version, receipts)
    entries = [json.loads(path.read_bytes()) for path in sorted(root.glob("refs/*/*.json"))]
    collected = {value["version"]: value["n"] for value in entries if value["op"] == "collect"}
    for value in entries:
        if value["n"] <= collected.get(value["version"], 0):
            continue
        manifest = root / "v" / value["kind"] / value["version"] / "manifest.json"
        if not manifest.exists():
            found.append(f"{value['kind']} entry {value['n']}: names a version that is not sealed")
        elif hashlib.sha256(manifest.read_bytes()).hexdigest() != value["manifest_sha256"]:
            found.append(f"{value['kind']} entry {value['n']}: names another manifest")
    return found


def _receipt_violations(version, receipt):
    if receipt["rows_in"] != receipt["rows_out"] + receipt["rows_rejected"]:
        yield "rows vanished"
    for entry in receipt["files"]:
        path = version / entry["path"]
        if not path.exists():
            yield f"{entry['path']} is missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            yield f"{entry['path']} is torn"
        elif entry["role"] == "table" and pq.read_metadata(path).num_rows != receipt["rows_out"]:
            yield f"{entry['path']} has other rows"


def _manifest_violations(version, receipts):
    manifest = json.loads((version / "manifest.json").read_bytes())
    for shard in manifest["shards"]:
        name = f"{shard['shard']:05d}.json"
        if name not in receipts:
            yield f"{version.name}: sealed without receipt {name}"
        elif json.loads(receipts[name]) != shard:
            yield f"{version.name}: receipt {name} is not that of the manifest"
