"""A STOW-RS body on its way to disk: each part lands and is answered as a C-STORE is (PS3.18 section 10.5)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from cauda.core import errors
from cauda.core.domain import Reason
from cauda.core.draft import Draft
from cauda.core.errors import Rejected
from cauda.listener import accepted, multipart, prefix
from cauda.listener.landing import Answer, Door, Request, Session, Store, refuse

MAX_PARTS = 20_000  # a study of a whole-body scanner has a tenth of it
_MEDIA_TYPES = frozenset({"application/dicom", ""})
_TRANSFER_SYNTAXES = frozenset(accepted.TRANSFER_SYNTAXES)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one part; its UIDs are empty where it does not say whose it is."""

    answer: Answer
    sop_class_uid: str = ""
    sop_uid: str = ""

    @property
    def stored(self) -> bool:
        """Whether it is durable."""
        return self.answer.said == errors.SUCCESS


class Reception:
    """One request: `feed` its body as it comes, then `finish`; `drop` where the rest will not come.

    What has landed stays landed whatever comes after it.
    """

    def __init__(self, door: Door, session: Session, boundary: str, study_uid: str | None) -> None:
        """``study_uid`` is the study in the URL; None for any."""
        self.results: list[Result] = []
        self._door = door
        self._session = session
        self._study_uid = study_uid
        self._splitter = multipart.Splitter(boundary)
        self._draft = Draft()
        self._part: _Part | None = None

    def feed(self, content: bytes) -> None:
        """The next bytes. Raises multipart.Malformed."""
        for event in self._splitter.feed(content):
            match event:
                case multipart.Begin(media_type):
                    if len(self.results) == MAX_PARTS:
                        raise multipart.Malformed(f"more than {MAX_PARTS} parts")
                    self._part = _Part(self._door, self._session, media_type, self._study_uid, self._draft)
                case multipart.Content(more) if self._part is not None:
                    self._part.take(more)
                case multipart.End() if self._part is not None:
                    self.results.append(self._part.end())
                    self._part = None

    def finish(self) -> None:
        """The body has ended. Raises multipart.Malformed where it ended too soon."""
        if not self._splitter.complete:
            raise multipart.Malformed("the body ends before its closing boundary")

    def drop(self) -> None:
        """Leave nothing of a part that is not whole."""
        part, self._part = self._part, None
        if part is not None:
            part.drop()


class _Part:
    """One file under way. Nothing is written before its File Meta was read."""

    def __init__(self, door: Door, session: Session, media_type: str, study_uid: str | None, draft: Draft) -> None:
        self._draft = draft
        self._door = door
        self._session = session
        self._study_uid = study_uid
        self._begun = bytearray()
        self._who: prefix.Prefix | None = None
        self._store: Store | None = None
        self._error: Exception | None = None
        if media_type not in _MEDIA_TYPES:
            self._error = Rejected(Reason.NOT_DICOM, "part is not application/dicom")

    def take(self, content: bytes) -> None:
        """The next bytes of the file."""
        if self._store is not None:
            self._store.add(content)
        elif self._error is None:
            self._begun += content
            try:
                self._begin()
            except Exception as error:  # noqa: BLE001  the border of the doors
                self._error = error

    def _begin(self) -> None:
        who = self._who = prefix.read(self._begun)
        if who is None:
            return
        if who.transfer_syntax not in _TRANSFER_SYNTAXES:
            raise Rejected(Reason.TRANSFER_SYNTAX_NOT_SUPPORTED, "transfer syntax is not known here")
        self._store = Store(
            self._door,
            self._session,
            Request(
                sop_class_uid=who.sop_class_uid,
                sop_uid=who.sop_uid,
                abstract_syntax=who.sop_class_uid,
                transfer_syntax=who.transfer_syntax,
                study_uid=self._study_uid,
            ),
            self._draft,
        )
        self._store.add(bytes(memoryview(self._begun)[who.length :]))
        self._begun.clear()

    def end(self) -> Result:
        """The file is whole: its answer, success only when it is durable."""
        if self._store is not None:
            answer = self._store.answer(time.monotonic())
        else:
            error = self._error or Rejected(Reason.NOT_DICOM, "not a DICOM Part 10 file, or cut short in its beginning")
            answer = refuse(self._session, error)
        if self._who is None:
            return Result(answer)
        return Result(answer, self._who.sop_class_uid[:64], self._who.sop_uid[:64])

    def drop(self) -> None:
        """The rest will not come."""
        if self._store is not None:
            self._store.drop()


def http_status(results: Sequence[Result]) -> int:
    """200 all stored, 202 some; none: what they have in common, else 409; 400 nothing came (PS3.18 table 10.5.3-1)."""
    if not results:
        return 400
    failed = {one.answer.said.http for one in results if not one.stored}
    if not failed:
        return 200
    if any(one.stored for one in results):
        return 202
    return failed.pop() if len(failed) == 1 else 409


def response(results: Sequence[Result]) -> dict[str, Any]:
    """The Store Instances Response Module as DICOM JSON (PS3.18 table 10.5.3-2, annex F); nothing can be retrieved."""
    retrieve = {"00081190": {"vr": "UR"}}
    stored = [_who(one) | retrieve for one in results if one.stored]
    failed = [_who(one) | _why(one) for one in results if not one.stored and one.sop_uid]
    other = [_why(one) for one in results if not one.stored and not one.sop_uid]
    found: dict[str, Any] = dict(retrieve)
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", other)):
        if items:
            found[tag] = {"vr": "SQ", "Value": items}
    return found


_KEYWORDS = {
    "00081190": "RetrieveURL",
    "00081198": "FailedSOPSequence",
    "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
    "00081150": "ReferencedSOPClassUID",
    "00081155": "ReferencedSOPInstanceUID",
    "00081197": "FailureReason",
}


def native(attributes: dict[str, Any]) -> bytes:
    """What `response` says as the Native DICOM Model (PS3.19 A.1)."""
    model = ET.Element("NativeDicomModel", {"xml:space": "preserve"})
    _describe(model, attributes)
    return bytes(ET.tostring(model, encoding="utf-8", xml_declaration=True))


def _describe(parent: ET.Element, attributes: dict[str, Any]) -> None:
    for tag, said in sorted(attributes.items()):
        about = {"tag": tag, "vr": said["vr"], "keyword": _KEYWORDS[tag]}
        attribute = ET.SubElement(parent, "DicomAttribute", about)
        for number, value in enumerate(said.get("Value", ()), 1):
            kind = "Item" if said["vr"] == "SQ" else "Value"
            one = ET.SubElement(attribute, kind, {"number": str(number)})
            if kind == "Item":
                _describe(one, value)
            else:  # a UID is the peer's word, and XML has no form for some characters
                one.text = "".join(c if " " <= c <= "~" else "?" for c in str(value))


def _who(one: Result) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [one.sop_uid]},
    }


def _why(one: Result) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [one.answer.said.stow]}}
