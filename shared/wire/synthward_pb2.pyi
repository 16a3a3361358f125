from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("invitation_secret", "certificate_request", "signing_key", "signing_proof", "flower_key")
    INVITATION_SECRET_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNING_PROOF_FIELD_NUMBER: _ClassVar[int]
    FLOWER_KEY_FIELD_NUMBER: _ClassVar[int]
    invitation_secret: bytes
    certificate_request: bytes
    signing_key: bytes
    signing_proof: bytes
    flower_key: bytes
    def __init__(self, invitation_secret: _Optional[bytes] = ..., certificate_request: _Optional[bytes] = ..., signing_key: _Optional[bytes] = ..., signing_proof: _Optional[bytes] = ..., flower_key: _Optional[bytes] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("site", "certificate", "coordinator_key", "releases_address", "fleet_address")
    SITE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_KEY_FIELD_NUMBER: _ClassVar[int]
    RELEASES_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FLEET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    site: str
    certificate: bytes
    coordinator_key: bytes
    releases_address: str
    fleet_address: str
    def __init__(self, site: _Optional[str] = ..., certificate: _Optional[bytes] = ..., coordinator_key: _Optional[bytes] = ..., releases_address: _Optional[str] = ..., fleet_address: _Optional[str] = ...) -> None: ...

class BeginRequest(_message.Message):
    __slots__ = ("manifest", "signature")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signature: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class MissingObject(_message.Message):
    __slots__ = ("sha256", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset: int
    def __init__(self, sha256: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class BeginReply(_message.Message):
    __slots__ = ("missing", "receipt")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[MissingObject]
    receipt: SignedReceipt
    def __init__(self, missing: _Optional[_Iterable[_Union[MissingObject, _Mapping]]] = ..., receipt: _Optional[_Union[SignedReceipt, _Mapping]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("bundle_sha256", "object_sha256", "offset", "data")
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    bundle_sha256: str
    object_sha256: str
    offset: int
    data: bytes
    def __init__(self, bundle_sha256: _Optional[str] = ..., object_sha256: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("stored_objects",)
    STORED_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    stored_objects: int
    def __init__(self, stored_objects: _Optional[int] = ...) -> None: ...

class FinishRequest(_message.Message):
    __slots__ = ("bundle_sha256",)
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    bundle_sha256: str
    def __init__(self, bundle_sha256: _Optional[str] = ...) -> None: ...

class FinishReply(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: SignedReceipt
    def __init__(self, receipt: _Optional[_Union[SignedReceipt, _Mapping]] = ...) -> None: ...

class SignedReceipt(_message.Message):
    __slots__ = ("payload", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("revocation", "signature")
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    revocation: bytes
    signature: bytes
    def __init__(self, revocation: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RevokeReply(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: SignedReceipt
    def __init__(self, receipt: _Optional[_Union[SignedReceipt, _Mapping]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("link_entries", "link_sha256", "trainer_entries", "trainer_sha256", "last_checkpoint", "last_signature", "rolled_back")
    LINK_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LINK_SHA256_FIELD_NUMBER: _ClassVar[int]
    TRAINER_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TRAINER_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAST_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LAST_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    link_entries: int
    link_sha256: str
    trainer_entries: int
    trainer_sha256: str
    last_checkpoint: bytes
    last_signature: bytes
    rolled_back: int
    def __init__(self, link_entries: _Optional[int] = ..., link_sha256: _Optional[str] = ..., trainer_entries: _Optional[int] = ..., trainer_sha256: _Optional[str] = ..., last_checkpoint: _Optional[bytes] = ..., last_signature: _Optional[bytes] = ..., rolled_back: _Optional[int] = ...) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("checkpoint", "sha256_at_last")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SHA256_AT_LAST_FIELD_NUMBER: _ClassVar[int]
    checkpoint: SignedReceipt
    sha256_at_last: str
    def __init__(self, checkpoint: _Optional[_Union[SignedReceipt, _Mapping]] = ..., sha256_at_last: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...
