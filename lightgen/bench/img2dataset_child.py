"""One round of img2dataset for `lightgen bench fetch`, run by a Python that has it: nothing of ours is imported here.

Its shards say when each began and ended; the processor time is that of all its processes.
"""

import importlib
import json
import resource
import sys
from pathlib import Path


def main(_: str, table: str, __: str, folder: str, threads: str) -> None:
    """Prints one line of JSON."""
    importlib.import_module("img2dataset").download(
        url_list=table, input_format="parquet", url_col="URL", caption_col="TEXT", output_folder=f"{folder}/out",
        output_format="webdataset", resize_mode="no", skip_reencode=True, processes_count=1, thread_count=int(threads),
        number_sample_per_shard=2000, extract_exif=False, timeout=20, enable_wandb=False,
    )  # fmt: skip
    stats = [json.loads(path.read_text()) for path in sorted(Path(folder, "out").glob("*_stats.json"))]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {
        "images": sum(one["successes"] for one in stats),
        "seconds": max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats),
        "cpu_s": sum(one.ru_utime + one.ru_stime for one in used),
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
