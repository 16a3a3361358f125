"""Everything that a site can send, walked field by field: there is no place for weights, noise, a seed or a name.

Two walkers, and both must find what is planted before their silence counts: one over the protobuf descriptors of the
calls that sites make, one over the JSON schema of the documents that travel inside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from flwr.app import ConfigRecord, MetricRecord
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import BaseModel, ConfigDict, Field

from shared.bundle import Manifest
from shared.findings import Comparison, Distribution
from shared.messages import Answer
from shared.metrics import NAMES, Metrics
from shared.revocation import Revocation
from shared.wire import synthward_pb2 as pb

# Every field that a site can fill, and what bounds it. A new field fails the test until somebody writes that down.
BOUNDED_BY = {
    "EnrolRequest.invitation_secret": "the coordinator's own secret, compared by digest",
    "EnrolRequest.certificate_request": "a PEM request; only its P-256 key is used",
    "EnrolRequest.signing_key": "32 bytes of a public key",
    "EnrolRequest.signing_proof": "64 bytes that must verify under signing_key",
    "EnrolRequest.flower_key": "a PEM public key on an elliptic curve",
    "BeginRequest.manifest": "canonical JSON of Manifest, walked below",
    "BeginRequest.signature": "64 bytes that must verify under the site's key",
    "Chunk.bundle_sha256": "names a bundle that this site has begun",
    "Chunk.object_sha256": "names an object of that bundle's manifest",
    "Chunk.offset": "equals what is stored",
    "Chunk.data": "bytes of a PNG that admission decodes, encodes again and compares",
    "FinishRequest.bundle_sha256": "names a bundle that this site has begun",
    "RevokeRequest.revocation": "canonical JSON of Revocation, walked below",
    "RevokeRequest.signature": "64 bytes that must verify under the site's key",
    "CheckpointRequest.link_entries": "a journal's length",
    "CheckpointRequest.link_sha256": "64 hexadecimal digits, checked",
    "CheckpointRequest.trainer_entries": "a journal's length",
    "CheckpointRequest.trainer_sha256": "64 hexadecimal digits, checked",
    "CheckpointRequest.last_checkpoint": "the coordinator's own bytes: must verify under its own key",
    "CheckpointRequest.last_signature": "64 bytes that must verify under the coordinator's own key",
    "CheckpointRequest.rolled_back": "0 or 1, checked",
    "RenewRequest.certificate_request": "a PEM request; only its P-256 key is used",
}
PLAIN = {FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_UINT64}


def wire_problems(message: Descriptor) -> Iterator[str]:
    """What is wrong with a message that sites send."""
    for field in message.fields:
        name = f"{message.name}.{field.name}"
        if field.is_repeated:
            yield f"{name} is repeated: numbers in a row are weights"
        if field.containing_oneof is not None:
            yield f"{name} is one of several"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            yield from wire_problems(field.message_type)
        elif field.type not in PLAIN:
            yield f"{name} has a type that no field of a site has"
        if name not in BOUNDED_BY:
            yield f"{name} is not on the list"


def sent_messages() -> list[Descriptor]:
    """The request of every call that a site can make."""
    services = pb.DESCRIPTOR.services_by_name.values()
    return [method.input_type for service in services for method in service.methods]


def test_a_site_sends_only_fields_that_are_listed_with_their_bound() -> None:
    assert [problem for message in sent_messages() for problem in wire_problems(message)] == []


def test_the_list_has_no_field_that_is_gone() -> None:
    assert {f"{message.name}.{field.name}" for message in sent_messages() for field in message.fields} == set(
        BOUNDED_BY
    )


def test_the_services_are_the_two_that_this_test_knows() -> None:
    called = {(name, m.name) for name, service in pb.DESCRIPTOR.services_by_name.items() for m in service.methods}
    releases = ("Begin", "Upload", "Finish", "Revoke", "Checkpoint", "Renew")
    assert called == {("Enrolment", "Enrol"), *(("Releases", name) for name in releases)}
    # No file behind ours brings messages along, Any among them.
    assert list(pb.DESCRIPTOR.dependencies) == []


def with_planted(field: descriptor_pb2.FieldDescriptorProto) -> Descriptor:
    """BeginRequest of a wire format to which somebody has added a field."""
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    message = next(m for m in file.message_type if m.name == "BeginRequest")
    message.field.append(field)
    if field.HasField("oneof_index"):
        message.oneof_decl.add(name="either")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("synthward.v1.BeginRequest")


FieldProto = descriptor_pb2.FieldDescriptorProto


@pytest.mark.parametrize(
    "field",
    [
        FieldProto(name="weights", number=9, type=FieldProto.TYPE_BYTES, label=FieldProto.LABEL_OPTIONAL),
        FieldProto(name="loss", number=9, type=FieldProto.TYPE_FLOAT, label=FieldProto.LABEL_OPTIONAL),
        FieldProto(name="noise", number=9, type=FieldProto.TYPE_DOUBLE, label=FieldProto.LABEL_REPEATED),
        FieldProto(name="file_name", number=9, type=FieldProto.TYPE_STRING, label=FieldProto.LABEL_OPTIONAL),
        FieldProto(
            name="inner", number=9, type=FieldProto.TYPE_MESSAGE, label=FieldProto.LABEL_OPTIONAL,
            type_name=".synthward.v1.SignedReceipt",
        ),
        FieldProto(
            name="blob", number=9, type=FieldProto.TYPE_BYTES, label=FieldProto.LABEL_OPTIONAL, oneof_index=0
        ),
    ],
    ids=lambda field: field.name,
)  # fmt: skip
def test_the_walker_finds_a_field_that_was_planted(field: descriptor_pb2.FieldDescriptorProto) -> None:
    assert list(wire_problems(with_planted(field)))


def test_a_listed_field_that_changes_its_kind_is_found() -> None:
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    field = next(m for m in file.message_type if m.name == "BeginRequest").field[1]
    field.label = FieldProto.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    assert list(wire_problems(pool.FindMessageTypeByName("synthward.v1.BeginRequest")))


# The documents inside

Schema = dict[str, Any]
UNBOUNDED = re.compile(r"(?<!\\)[+*]|\{\d+,\}|(?<!\\)\.")  # a pattern that any length, or any character, can meet


def schema_problems(schema: Schema, definitions: Schema, place: str = "") -> Iterator[str]:
    """Where a document has room for more than it is meant to say: free text, endless numbers, endless lists."""
    if "$ref" in schema:
        yield from schema_problems(definitions[schema["$ref"].rpartition("/")[2]], definitions, place)
        return
    alternatives = schema.get("anyOf", []) + schema.get("oneOf", []) + schema.get("allOf", [])
    if alternatives:
        for part in alternatives:
            yield from schema_problems(part, definitions, place)
        return
    if "const" in schema or "enum" in schema:
        return
    kind = schema.get("type")
    if kind == "string":
        yield from _text_problems(schema, place)
    elif kind in ("integer", "number"):
        if not {"minimum", "exclusiveMinimum"} & schema.keys() or not {"maximum", "exclusiveMaximum"} & schema.keys():
            yield f"{place}: a number without bounds"
    elif kind == "array":
        if "maxItems" not in schema:
            yield f"{place}: a list without an end"
        for item in [schema["items"]] if "items" in schema else schema.get("prefixItems", [{}]):
            yield from schema_problems(item, definitions, f"{place}[]")
    elif kind == "object":
        yield from _object_problems(schema, definitions, place)
    elif kind not in ("boolean", "null"):
        yield f"{place}: anything at all"


def _text_problems(schema: Schema, place: str) -> Iterator[str]:
    if schema.get("format") in ("date", "date-time"):
        return
    pattern = schema.get("pattern", "")
    if not (pattern.startswith("^") and pattern.endswith("$")):
        yield f"{place}: free text"
    elif UNBOUNDED.search(pattern):
        yield f"{place}: text of any length"


def _object_problems(schema: Schema, definitions: Schema, place: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield from schema_problems(part, definitions, f"{place}.{name}")
    further = schema.get("additionalProperties", True)
    if further is False:
        return
    if "enum" not in schema.get("propertyNames", {}) or further is True:
        yield f"{place}: fields of any name"
    else:
        yield from schema_problems(further, definitions, f"{place}.*")


def problems_of(model: type[BaseModel]) -> list[str]:
    """What is wrong with a document that sites send."""
    schema = model.model_json_schema()
    return list(schema_problems(schema, schema.get("$defs", {}), model.__name__))


def test_a_manifest_has_no_free_text_no_endless_number_and_no_endless_list() -> None:
    assert problems_of(Manifest) == []


def test_a_revocation_says_which_and_when_and_has_no_room_for_why() -> None:
    assert problems_of(Revocation) == []
    assert set(Revocation.model_fields) == {"format", "bundle_sha256", "site", "revoked_on"}


class Closed(BaseModel):
    """Base for planted documents: nothing but the planted field is wrong with them."""

    model_config = ConfigDict(extra="forbid")


class FreeText(Closed):
    note: str


class LooseVersion(Closed):
    software: str = Field(pattern=r"^synthward/[0-9]+$")


class Unanchored(Closed):
    name: str = Field(pattern=r"[0-9a-f]{64}")


class Losses(Closed):
    losses: tuple[Annotated[float, Field(ge=0, le=1)], ...]


class Seed(Closed):
    seed: int


class HalfBounded(Closed):
    loss: float = Field(ge=0.0)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    mode: Literal["audited"] = "audited"


class ByFileName(Closed):
    cases: dict[str, Annotated[int, Field(ge=0, le=9)]]


class Anything(Closed):
    extra: Any


class Nested(Closed):
    inner: FreeText | None


@pytest.mark.parametrize(
    "planted",
    [FreeText, LooseVersion, Unanchored, Losses, Seed, HalfBounded, Open, ByFileName, Anything, Nested],
)
def test_the_walker_finds_a_document_with_room_for_more(planted: type[BaseModel]) -> None:
    assert len(problems_of(planted)) == 1


def test_the_walker_finds_a_field_that_is_added_to_the_manifest() -> None:
    class Grown(Manifest):
        hint: str = ""

    assert problems_of(Grown) == ["Grown.hint: free text"]


# Flower's messages


@pytest.mark.parametrize("metrics", [None, Metrics(**dict.fromkeys(NAMES, 0.25))])
def test_an_answer_through_flower_holds_a_state_a_code_a_count_and_eight_figures(metrics: Metrics | None) -> None:
    content = Answer("done", "", metrics, 7, "m-1").to_content()
    assert set(content) == ({"answer", "metrics"} if metrics else {"answer"})
    answer = content["answer"]
    assert isinstance(answer, ConfigRecord)
    assert dict(answer) == {"state": "done", "code": "", "patients": 7, "about": "m-1", "document": b""}
    assert content.array_records == {}
    if metrics is not None:
        figures = content["metrics"]
        assert isinstance(figures, MetricRecord)
        named = ("dice_loss", "iou", "f_score", "accuracy", "recall", "precision", "hd95", "lesions_found")
        assert dict(figures) == dict.fromkeys(named, 0.25)


def test_metrics_have_no_room_beside_the_eight() -> None:
    assert problems_of(Metrics) == []
    assert tuple(Metrics.model_fields) == NAMES


@pytest.mark.parametrize("finding", [Comparison, Distribution])
def test_a_comparison_and_distances_hold_bounded_figures_of_whole_sets_and_nothing_else(
    finding: type[BaseModel],
) -> None:
    assert problems_of(finding) == []
    assert not {"seed", "scores", "patient", "weights"} & set(
        str(finding.model_json_schema()).replace("'", " ").split()
    )
