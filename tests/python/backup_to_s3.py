"""Backups to a bucket: once, following the log while the bucket is away for a while, and the way back.

    python tests/python/backup_to_s3.py target/debug/souk

The bucket is moto's, in this process. It relies on PostgreSQL being installed, as `souk serve` does.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import boto3
from moto.server import ThreadedMotoServer

SOUK = str(pathlib.Path(sys.argv[1]).resolve())
TARGET = "s3://backups/shop/one"
PATIENCE = 60


class Bucket:
    """It keeps its objects while it is away."""

    def __init__(self):
        self.port = 0
        self.come()
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }
        self.client = boto3.client("s3", region_name="eu-central-1")
        self.client.create_bucket(
            Bucket="backups", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )

    def come(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def go(self):
        self.server.stop()

    def events(self):
        """How many are in the backup."""
        manifest = self.client.get_object(Bucket="backups", Key="shop/one/manifest.json")
        return json.load(manifest["Body"])["head"]["position"] + 1


def souk(data, *arguments, **more):
    command = [SOUK, *arguments, "--data-dir", str(data)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def register(data, name):
    """One event more."""
    souk(data, "account", "create", "--email", f"{name}@example.com", "--role", "analyst", input="a password\n")


def until(what, holds):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE:
            sys.exit(f"after {PATIENCE} s not yet: {what}")
        time.sleep(0.05)


def main(folder):
    bucket = Bucket()
    data, other = folder / "data", folder / "other"
    serve = [SOUK, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir", str(data)]
    server = subprocess.Popen(serve, stderr=subprocess.DEVNULL)
    follower = None
    try:
        until("the server has begun", lambda: (data / "master.key").exists())
        register(data, "ann")
        souk(data, "backup", TARGET)
        assert bucket.events() == 1

        follow = [SOUK, "backup", TARGET, "--follow", "--data-dir", str(data)]
        follower = subprocess.Popen(follow, stderr=subprocess.PIPE, text=True)
        register(data, "ben")
        until("ben is in the backup", lambda: bucket.events() == 2)
        bucket.go()
        register(data, "cem")
        line = next((line for line in follower.stderr if "behind" in line), "nothing")
        assert "will be tried again" in line, line
        bucket.come()
        until("cem is in the backup", lambda: bucket.events() == 3)
        follower.send_signal(signal.SIGTERM)
        _, errors = follower.communicate(timeout=PATIENCE)
        assert follower.returncode == 0, errors

        other.mkdir()
        shutil.copy2(data / "master.key", other / "master.key")
        print(souk(other, "restore", TARGET), end="")
        read = ("events", "read", "--json")
        assert souk(other, *read) == souk(data, *read)
        assert "all held" in souk(other, "events", "verify", "--anchors", f"{TARGET}/anchors")
    finally:
        for process in (follower, server):
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=PATIENCE)
        bucket.go()
    print("backups to a bucket: well")


with tempfile.TemporaryDirectory() as folder:
    # A private PostgreSQL of root's runs as somebody else, who has to pass through.
    os.chmod(folder, 0o755)
    main(pathlib.Path(folder))
