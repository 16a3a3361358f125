"""An S3 server on loopback (moto's), and AWS's variables that point to it. Its objects are in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class S3Server:
    """Where buckets are made."""

    def __init__(self) -> None:
        self._buckets = itertools.count()
        self.client = boto3.client("s3")

    def new_url(self) -> str:
        """The URL of an object store in a bucket of its own."""
        bucket = f"objects-{next(self._buckets)}"
        self.client.create_bucket(Bucket=bucket)
        return f"s3://{bucket}/synthward"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server whose address and credentials stand in the environment until it ends."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with mock.patch.dict(os.environ, {**_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}):
            yield S3Server()
    finally:
        server.stop()
