"""What is a little off in an A-ASSOCIATE PDU is read; what is not read is refused by name, never by an exception."""

from __future__ import annotations

import random
import struct
from copy import deepcopy

import pytest
from associate_pdus import EXPLICIT, HARMLESS, MR, REFUSED, acceptance, context, request, user_information
from pynetdicom import build_context
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import negotiate_as_acceptor, negotiate_as_requestor
from raw_peer import VERIFICATION, item, pdu

from cauda.core import tolerant_pdu
from cauda.core.tolerant_pdu import UnreadableAssociate, normalise

SUPPORTED = [build_context(VERIFICATION), build_context(MR)]
PROPOSED = [build_context(VERIFICATION), build_context(MR)]
for number, one in enumerate(PROPOSED):
    one.context_id = 2 * number + 1


def decoded_request(content: bytes) -> A_ASSOCIATE:
    """The request as pynetdicom has it, after a negotiation and an answer."""
    request_pdu = A_ASSOCIATE_RQ()
    request_pdu.decode(normalise(content))
    primitive = request_pdu.to_primitive()
    answer = A_ASSOCIATE()
    answer.application_context_name = primitive.application_context_name
    answer.calling_ae_title, answer.called_ae_title = primitive.calling_ae_title, primitive.called_ae_title
    results, _ = negotiate_as_acceptor(primitive.presentation_context_definition_list, deepcopy(SUPPORTED))
    answer.presentation_context_definition_results_list = results
    answer.result, answer.user_information = 0, primitive.user_information
    assert A_ASSOCIATE_AC(answer).encode()
    return primitive


@pytest.mark.parametrize("name", HARMLESS)
def test_a_request_that_is_a_little_off_is_decoded(name: str) -> None:
    primitive = decoded_request(HARMLESS[name])
    first = primitive.presentation_context_definition_list[0]
    assert (first.context_id, first.abstract_syntax) == (1, VERIFICATION)
    lengths = {"the smallest Maximum Length": 8, "an unlimited Maximum Length": 0}
    assert primitive.maximum_length_received == lengths.get(name, 16384)
    assert primitive.called_ae_title.strip() == "CAUDA"


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_cannot_be_answered_names_its_reason_and_its_titles(name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(UnreadableAssociate) as caught:
        normalise(content)
    assert caught.value.reason == reason
    stand_in = decoded_request(tolerant_pdu.request_without_contexts(content))
    assert stand_in.called_ae_title.strip() == "CAUDA"
    assert stand_in.calling_ae_title.strip() == ("?" if name == "a request of 20 bytes" else "RAW")
    assert stand_in.presentation_context_definition_list == []


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b"CT1             ", "CT1"), (b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", "CT1"), (b"CT1\0old title   ", "CT1"),
        (b"  CT 1          ", "CT 1"), ("MRT_KÖLN".encode("latin-1"), "MRT_K?LN"), (b"A\\B\x1b[2J", "A?B?[2J"),
        (b" " * 16, "?"), (bytes(16), "?"), (b"", "?"), (b"\0\0CT1", "CT1"),
    ],
)  # fmt: skip
def test_a_title_is_what_stands_before_its_padding_in_plain_ascii(raw: bytes, title: str) -> None:
    assert tolerant_pdu.title(raw) == title


def test_what_was_negotiated_is_kept_and_nothing_is_made_up() -> None:
    role = item(0x54, struct.pack(">H", len(MR)) + MR.encode() + b"\0\1")
    primitive = decoded_request(
        request(
            calling=b"CT1".ljust(16),
            contexts=[context(5, MR.encode(), [b"1.2.3", EXPLICIT.encode(), b"1.2.3"]), context(7, b"1.2.9", [b"1.2"])],
            user=user_information(max_length=struct.pack(">I", 0), version=b"MAKER 7", more=role),
        )
    )
    first, second = primitive.presentation_context_definition_list
    assert (first.context_id, first.abstract_syntax, first.transfer_syntax) == (5, MR, ["1.2.3", EXPLICIT])
    assert (second.context_id, second.abstract_syntax, second.transfer_syntax) == (7, "1.2.9", ["1.2"])
    assert primitive.maximum_length_received == 0
    assert primitive.implementation_class_uid == "1.2.3.4"
    names = [getattr(one, "implementation_version_name", None) for one in primitive.user_information]
    roles = [(one.sop_class_uid, one.scu_role, one.scp_role) for one in primitive.user_information
             if hasattr(one, "scp_role")]  # fmt: skip
    assert "MAKER 7" in names
    assert roles == [(MR, False, True)]


ANSWERS = {
    "plain": acceptance([(1, 0, b"1.2.840.10008.1.2"), (3, 0, EXPLICIT.encode())]),
    "titles all NUL": acceptance([(1, 0, b"1.2.840.10008.1.2")], titles=bytes(32)),
    "titles in Latin-1": acceptance([(1, 0, b"1.2.840.10008.1.2")], titles="PÄCS".encode("latin-1").ljust(32)),
    "syntax padded with blanks": acceptance([(1, 0, b"1.2.840.10008.1.2 ")]),
    "a refused context without syntax": acceptance([(1, 0, b"1.2.840.10008.1.2"), (3, 3, None)]),
    "a refused context with words": acceptance([(1, 0, b"1.2.840.10008.1.2"), (3, 4, b"unknown")]),
    "a result that is none": acceptance([(1, 0, b"1.2.840.10008.1.2"), (3, 9, EXPLICIT.encode())]),
    "accepted without a syntax": acceptance([(1, 0, b"1.2.840.10008.1.2"), (3, 0, b"")]),
    "an even context beside": acceptance([(1, 0, b"1.2.840.10008.1.2"), (2, 0, b"1.2.840.10008.1.2")]),
    "no Maximum Length": acceptance([(1, 0, b"1.2.840.10008.1.2")], user=user_information(max_length=None)),
    "version name of 30": acceptance([(1, 0, b"1.2.840.10008.1.2")], user=user_information(version=b"V" * 30)),
    "user identity unasked": acceptance(
        [(1, 0, b"1.2.840.10008.1.2")], user=user_information(more=item(0x59, b"\0\0"))
    ),
    "unknown items": acceptance(
        [(1, 0, b"1.2.840.10008.1.2")], more=item(0x60, b"x"), user=user_information(more=item(0xA0, b"x"))
    ),
    "protocol version 3": acceptance([(1, 0, b"1.2.840.10008.1.2")], version=3),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_acceptance_that_is_a_little_off_is_decoded(name: str) -> None:
    answer = A_ASSOCIATE_AC()
    answer.decode(normalise(ANSWERS[name]))
    primitive = answer.to_primitive()
    results = negotiate_as_requestor(deepcopy(PROPOSED), primitive.presentation_context_definition_results_list)
    accepted = {one.context_id for one in results if one.result == 0}
    assert accepted == ({1, 3} if name == "plain" else {1})
    assert primitive.maximum_length_received == 16384


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\1\1\3", b"\0\x02\x03\x02", b"\0\x09\x09\x09", b"\0\x01\x03\x00"])
def test_a_rejection_with_values_of_nobody_is_a_rejection(body: bytes) -> None:
    answer = A_ASSOCIATE_RJ()
    answer.decode(normalise(pdu(0x03, body)))
    primitive = answer.to_primitive()
    assert primitive.result == (2 if body[1:2] == b"\2" else 1)
    assert primitive.reason_str


@pytest.mark.parametrize("body", [b"", b"\0\0\2\3", b"\0\0\x09\x09", b"\0\0\2\0"])
def test_an_abort_with_values_of_nobody_is_an_abort(body: bytes) -> None:
    answer = A_ABORT_RQ()
    answer.decode(normalise(pdu(0x07, body)))
    answer.to_primitive()


def test_no_bytes_bring_anything_but_a_request_or_a_reason() -> None:
    draw = random.Random(20261130)
    seeds = list(HARMLESS.values())
    read, reasons = 0, list[str]()
    for _ in range(3000):
        content = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 2, 5, 20))):
            at = draw.randrange(1, len(content))
            content[at] = draw.choice((0, 0xFF, draw.randrange(256)))
        del content[len(content) - draw.choice((0, 0, 0, draw.randrange(1, len(content)))) :]
        try:
            decoded_request(bytes(content) or b"\1")
            read += 1
        except UnreadableAssociate as error:
            decoded_request(tolerant_pdu.request_without_contexts(bytes(content)))
            reasons.append(error.reason)
    assert read > 300
    assert len(reasons) > 300
    assert set(reasons) == {"associate_unreadable", "even_context_id", "protocol_version"}


def test_what_is_hooked_on_an_association_is_there() -> None:
    assert callable(vars(DULServiceProvider)["_decode_pdu"])
