"""A hub on this machine with one repository: as much of its protocol as downloading a snapshot needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40


@contextmanager
def serving(folder: Path, name: str) -> Iterator[str]:
    """The address of a hub whose only repository, `name`, holds the files of `folder`."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].strip("/")
            if path.startswith(f"api/models/{name}/tree/"):
                body = [
                    {"type": "file", "path": one, "size": len(data), "oid": "0" * 40} for one, data in files.items()
                ]
                return self._answer(json.dumps(body).encode(), "application/json")
            if path.startswith(f"api/models/{name}"):
                body = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": one} for one in files]}
                return self._answer(json.dumps(body).encode(), "application/json")
            wanted = path.removeprefix(f"{name}/resolve/").split("/", 1)[-1]
            if wanted in files:
                return self._answer(files[wanted], "application/octet-stream")
            return self._answer(b"{}", "application/json", 404)

        do_HEAD = do_GET

        def _answer(self, data: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
