"""gRPC channels to the coordinator: always TLS, always against the pinned authority, always outbound."""

from __future__ import annotations

import grpc

from site_node.certificate import read_identity
from site_node.settings import Home

_OPTIONS = [
    # Under the idle time of usual proxies and firewalls, and only while a call is open.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.enable_retries", 0),  # one place retries: the outbox
]


def enrolment_channel(address: str, authority: bytes) -> grpc.Channel:
    """A channel for a site without a certificate. authority: PEM, from the invitation."""
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates=authority), options=_OPTIONS)


def release_channel(home: Home) -> grpc.Channel:
    """A channel with the site's present certificate; after a renewal it is opened afresh."""
    identity = read_identity(home)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(home.link_keys / "ca.crt").read_bytes(),
        private_key=identity.key,
        certificate_chain=identity.certificate,
    )
    return grpc.secure_channel(home.releases_address(), credentials, options=_OPTIONS)
