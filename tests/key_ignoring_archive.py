"""An archive whose C-FIND and QIDO-RS honour the keys that a test lets them: what hospitals' archives do.

It knows images; a question is answered with every image, series or study that its honoured keys match.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from peers import HOST
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import
from scripted_archive import CLASSES, FIND
from web_server import serving

UIDS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
PATH = re.compile(r"/studies/(?P<StudyInstanceUID>[0-9.]+)(/series/(?P<SeriesInstanceUID>[0-9.]+))?/(series|instances)")


@dataclass(kw_only=True)
class Held:
    """What the archive has and how it answers."""

    images: list[Dataset] = field(default_factory=list)
    ignores: frozenset[str] = frozenset()  # UID keys that it does not look at
    echoes: frozenset[str] = frozenset()  # keys that it puts into whatever it finds, as they were asked
    leaves_out: frozenset[str] = frozenset()  # attributes that are in no answer
    counts: bool = False  # says how many images a series has
    stored: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, level: str, keys: Mapping[str, str], fields: list[str]) -> list[Dataset]:
        """The matches of a question."""
        asked = {key: value for key, value in keys.items() if key in UIDS.values() and value}
        heeded = {key: value for key, value in asked.items() if key not in self.ignores}
        fit = [one for one in self.images if all(str(one.get(key)) == value for key, value in heeded.items())]
        shown = {}
        for one in fit:  # one match for each study of each patient, each series, each image
            shown.setdefault((one.get(UIDS[level]), one.StudyInstanceUID, one.get("PatientID")), one)
        return [self._match(level, one, fields, asked) for one in shown.values()]

    def _match(self, level: str, image: Dataset, fields: list[str], asked: Mapping[str, str]) -> Dataset:
        match = Dataset()
        for keyword in {*fields, *asked} - self.leaves_out:
            setattr(match, keyword, image.get(keyword, ""))
        for keyword in self.echoes & set(asked):
            setattr(match, keyword, asked[keyword])
        if level == "SERIES" and self.counts:
            held = [one for one in self.images if one.SeriesInstanceUID == image.SeriesInstanceUID]
            match.NumberOfSeriesRelatedInstances = len(held)
        return match

    def find(self, event: Any) -> Iterator[tuple[int, Dataset]]:
        """C-FIND."""
        question = event.identifier
        keys = {element.keyword: str(element.value or "") for element in question}
        level = keys.pop("QueryRetrieveLevel")
        for match in self.answer(level, keys, list(keys)):
            match.QueryRetrieveLevel = level
            yield 0xFF00, match

    def store(self, event: Any) -> int:
        """C-STORE."""
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000


@contextmanager
def key_ignoring(protocol: str, *, find: bool = True) -> Iterator[Held]:
    """One on a free port, spoken to by ``protocol``: dimse, with or without C-FIND, or stow."""
    held = Held()
    with _dimse(held, find=find) if protocol == "dimse" else _web(held) as held.url:
        yield held


@contextmanager
def _dimse(held: Held, *, find: bool) -> Iterator[str]:
    ae = AE("PACS")
    for name in (Verification, *((FIND,) if find else ()), *CLASSES):
        ae.add_supported_context(name)
    handlers = [(evt.EVT_C_FIND, held.find), (evt.EVT_C_STORE, held.store)]
    server: Any = ae.start_server((HOST, 0), block=False, evt_handlers=handlers)
    try:
        yield f"dimse://PACS@{HOST}:{server.socket.getsockname()[1]}"
    finally:
        server.socket.shutdown(socket.SHUT_RDWR)  # wakes the server's thread, which looks every half second
        server.shutdown()


@contextmanager
def _web(held: Held) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/pacs")
            within = PATH.fullmatch(path)
            given = parse_qsl(parts.query)
            keys = {key: value for key, value in given if key != "includefield"}
            keys |= {key: value for key, value in (within.groupdict() if within else {}).items() if value}
            level = {"studies": "STUDY", "series": "SERIES", "instances": "IMAGE"}[path.rpartition("/")[2]]
            fields = [
                value if value.isalpha() else keyword_for_tag(value) for key, value in given if key == "includefield"
            ]
            found = held.answer(level, keys, [*fields, *UIDS.values()])
            self._send(json.dumps([match.to_json_dict() for match in found]).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.stored.append(str(len(body)))
            self._send(b"{}")

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        yield f"stow+http://{HOST}:{port}/pacs"
