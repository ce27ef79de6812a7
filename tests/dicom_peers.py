"""Real DICOM peers for tests: Orthanc as archive, DCMTK's storescp as receiver, its storescu and echoscu as senders."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from peers import HOST, Process, free_port, own_folder, program
from pynetdicom.association import Association


def _asked(url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    return httpx.request(method, url, content=body, timeout=20).raise_for_status().content


def _read(answer: bytes) -> Any:
    return json.loads(answer) if answer.strip() else None


@dataclass(kw_only=True)
class Orthanc(Process):
    """An archive: DICOM on ``port``, REST on ``http``."""

    aet: str
    http: int

    @property
    def url(self) -> str:
        """Where its REST API is."""
        return f"http://{HOST}:{self.http}"

    @property
    def dimse(self) -> str:
        """How Cauda is told to send there."""
        return f"dimse://{self.aet}@{HOST}:{self.port}"

    def ready(self) -> bool:
        """Both doors are open."""
        if not super().ready():
            return False
        try:
            self.get("/system")
        except httpx.HTTPError:
            return False
        return True

    def get(self, path: str) -> Any:
        """Read from the REST API."""
        return _read(_asked(self.url + path))

    def post(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Write to the REST API; bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return _read(_asked(self.url + path, method, data))

    def store(self, files: Iterable[Path]) -> None:
        """Put files into the archive, past DICOM."""
        for file in files:
            self.post("/instances", file.read_bytes())

    def studies(self) -> list[str]:
        """The Study Instance UIDs it holds."""
        return [s["MainDicomTags"]["StudyInstanceUID"] for s in self.get("/studies?expand")]

    def instances(self, study_uid: str | None = None) -> list[dict[str, Any]]:
        """All instances, or those of a study: sop_uid, series_uid, modality, and ``id`` for `file` and `send`."""
        found: list[dict[str, Any]] = []
        for study in self.get("/studies?expand"):
            if study_uid not in {None, study["MainDicomTags"]["StudyInstanceUID"]}:
                continue
            for series in self.get(f"/studies/{study['ID']}/series"):
                tags = series["MainDicomTags"]
                found += [
                    {
                        "id": one["ID"],
                        "sop_uid": one["MainDicomTags"]["SOPInstanceUID"],
                        "series_uid": tags["SeriesInstanceUID"],
                        "modality": tags.get("Modality", ""),
                        "study_uid": study["MainDicomTags"]["StudyInstanceUID"],
                    }
                    for one in self.get(f"/series/{series['ID']}/instances")
                ]
        return found

    def results(self, study_uid: str) -> list[dict[str, Any]]:
        """The instances of a study that are no MR images: what was sent to the archive beside them."""
        return [one for one in self.instances(study_uid) if one["modality"] != "MR"]

    def file(self, instance_id: str) -> bytes:
        """The stored Part 10 file of an instance."""
        return _asked(f"{self.url}/instances/{instance_id}/file")

    def know(self, name: str, aet: str, port: int, host: str = HOST) -> None:
        """Make a modality known, to send to it."""
        self.post(f"/modalities/{name}", [aet, host, port], "PUT")

    def send(self, name: str, instance_ids: Sequence[str]) -> None:
        """C-STORE instances to a known modality; raises HTTPError when one was not accepted."""
        self.post(f"/modalities/{name}/store", {"Resources": list(instance_ids), "Synchronous": True})


@contextmanager
def orthanc(aet: str = "ORTHANC", *, started: bool = True, **config: Any) -> Iterator[Orthanc]:
    """An Orthanc that takes everything from everybody; keyword arguments change its configuration."""
    with own_folder("orthanc") as folder:
        port, http = free_port(), free_port()
        settings: dict[str, Any] = {
            "Name": aet,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": http,
            "DicomPort": port,
            "DicomAet": aet,
            "DicomCheckCalledAet": False,
            "DicomCheckModalityHost": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "OverwriteInstances": False,
            "StableAge": 1,
            "DicomModalities": {},
            "Plugins": [],
            "JobsHistorySize": 10,
            "SaveJobs": False,
            "DicomScpTimeout": 30,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings | config))
        peer = Orthanc(
            argv=[program("Orthanc"), str(folder / "orthanc.json")], port=port, http=http, folder=folder, aet=aet
        )
        with peer.running(signal.SIGKILL, started=started):  # an orderly end takes it seconds
            yield peer


@dataclass(kw_only=True)
class Storescp(Process):
    """DCMTK's storage SCP: takes everything into ``received``."""

    aet: str

    @property
    def received(self) -> Path:
        """Where it writes."""
        return self.folder / "received"

    @property
    def dimse(self) -> str:
        """How Cauda is told to send there."""
        return f"dimse://{self.aet}@{HOST}:{self.port}"

    def files(self) -> list[Path]:
        """What it has received."""
        return sorted(p for p in self.received.rglob("*") if p.is_file())


@contextmanager
def storescp(*options: str, aet: str = "STORESCP") -> Iterator[Storescp]:
    """DCMTK's storescp with further options (``--refuse``, ``--abort-during``, ``--sleep-during 3`` ...)."""
    with own_folder("storescp") as folder:
        port = free_port()
        (folder / "received").mkdir()
        argv = [program("storescp"), "-aet", aet, "-od", str(folder / "received"), "+xa", *options, str(port)]
        peer = Storescp(argv=argv, port=port, folder=folder, aet=aet)
        with peer.running():
            yield peer


def storescu(
    port: int, files: Iterable[Path], *options: str, called: str = "CAUDA", calling: str = "STORESCU",
    timeout: float = 120, env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """DCMTK's storescu; ``-R`` negotiates only what the files need. Output is text; nothing is raised on failure."""
    argv = [program("storescu"), "-aet", calling, "-aec", called, *options, HOST, str(port), *map(str, files)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, env=env)


def echoscu(port: int, *, called: str = "CAUDA", calling: str = "ECHOSCU") -> bool:
    """DCMTK's echoscu: whether the node answers."""
    argv = [program("echoscu"), "-aet", calling, "-aec", called, "-ta", "5", "-td", "5", HOST, str(port)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0


def only_asking(association: Association) -> Association:
    """An SCU's association whose answers reach who waits for them.

    pynetdicom's reactor says that it pauses a moment before it does, and then takes an answer for a request.
    """
    receive = association.dimse.get_msg

    def for_who_waits(block: bool = False) -> Any:
        return receive(block=True) if block else (None, None)

    association.dimse.get_msg = for_who_waits
    return association
