"""The page for IT says what the code does: each refusal with its status, words, setting and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from cauda.core.domain import Reason
from cauda.core.errors import ANSWERS
from cauda.core.peers import Standing
from cauda.core.refusals import OBJECT_REFUSALS, PEER_REFUSALS
from cauda.core.settings import Settings
from cauda.listener import admission, command, data_path, http_bounds, multipart, pdu, prefix, stow

PAGE = (Path(__file__).parents[2] / "docs" / "refusals.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line[:1] == "|"
]
OF_ONE_OBJECT = re.compile("max_(object|inflated|element|items|nesting|pixel)")


def shown(setting: str) -> str:
    return setting or "-"


def test_every_refusal_of_a_peer_stands_on_the_page_as_the_code_has_it() -> None:
    for reason, refusal in PEER_REFUSALS.items():
        assert [reason, refusal.answer, refusal.words, shown(refusal.setting), refusal.action] in ROWS


def test_every_refusal_of_an_object_stands_on_the_page_with_its_statuses() -> None:
    assert set(OBJECT_REFUSALS) == set(ANSWERS)
    for reason, refusal in OBJECT_REFUSALS.items():
        answer = ANSWERS[reason]
        stow = f"{answer.http}, {answer.stow:04X}"
        row = [reason, f"{answer.dimse:04X}", stow, refusal.words, shown(refusal.setting), refusal.action]
        assert row in ROWS


def test_no_reason_stands_on_the_page_that_the_code_does_not_have() -> None:
    known = {*PEER_REFUSALS, *OBJECT_REFUSALS}
    named = {row[0] for row in ROWS if row[0] in set(Reason)}
    assert named == known


def test_every_limit_of_an_object_and_every_setting_that_is_named_exists() -> None:
    keys = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGE)) - {"cauda.toml", "tests.unit"}
    settings = {key for key in keys if isinstance(_section(key), BaseModel)}
    assert {"limits.max_associations", "tls.ca", "dicomweb.token"} <= settings
    for key in settings:
        assert key.partition(".")[2] in type(_section(key)).model_fields, key
    limits = filter(OF_ONE_OBJECT.match, type(Settings().limits).model_fields)
    assert {f"limits.{name}" for name in limits} <= settings


def _section(key: str) -> object:
    return getattr(Settings(), key.partition(".")[0], None)


def test_the_longest_request_and_the_time_of_an_unlisted_caller_are_those_of_the_code() -> None:
    assert f"more than {stow.MAX_PARTS:,} parts" in PAGE
    assert f"waits more than {admission.FIRST_WORDS_S[Standing.UNLISTED]:g} s" in PAGE


def test_a_reason_fits_into_its_column_of_the_ledger() -> None:
    assert all(len(reason) <= 32 for reason in PEER_REFUSALS)


def test_every_limit_that_no_setting_changes_stands_on_the_page_as_the_code_has_it() -> None:
    assert pdu.SLOWEST_BYTES_S == http_bounds.SLOWEST_BODY_BYTES_S  # one row for both
    most = {
        "parts of one STOW-RS request": f"{stow.MAX_PARTS:,}",
        "what stands before the first boundary of a STOW-RS body": f"{multipart.MAX_PREAMBLE_BYTES:,} bytes",
        "header of a STOW-RS part": f"{multipart.MAX_HEADER_BYTES:,} bytes",
        "white space behind a boundary of a STOW-RS body": f"{multipart.MAX_PADDING_BYTES:,} bytes",
        "File Meta Information of a STOW-RS part": f"{prefix.MAX_BYTES:,} bytes",
        "a PDU that carries no message, the association request too": f"{pdu.MAX_OTHER_BYTES:,} bytes",
        "a DIMSE command set": f"{command.MAX_BYTES:,} bytes",
        "a DIMSE message that is no C-STORE": f"{data_path.MAX_FOREIGN_BYTES:,} bytes",
        "slowest message, and slowest STOW-RS body": f"{pdu.SLOWEST_BYTES_S:,} bytes/s",
    }
    head = ["limit", "most", "answer"]
    table = ROWS[ROWS.index(head) + 2 :][: len(most)]
    assert {row[0]: row[1] for row in table} == most
