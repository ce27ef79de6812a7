"""OHIF in front of an Orthanc: the built viewer's files, and the archive's DICOMweb under the same origin."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from peers import HOST

DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
CONFIG = "window.config = " + json.dumps(
    {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "measurementTrackingMode": "standard",  # asks before it takes measurements over
        "defaultDataSourceName": "orthanc",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "orthanc",
                "configuration": {
                    "friendlyName": "Orthanc",
                    "name": "orthanc",
                    "qidoRoot": "/dicom-web",
                    "wadoRoot": "/dicom-web",
                    "wadoUriRoot": "/wado",
                    "qidoSupportsIncludeField": False,
                    "imageRendering": "wadors",
                    "thumbnailRendering": "wadors",
                    "enableStudyLazyLoad": True,
                    "supportsFuzzyMatching": False,
                    "supportsWildcard": True,
                    "omitQuotationForMultipartRequest": True,
                },
            }
        ],
    }
)


class _Handler(SimpleHTTPRequestHandler):
    """Files of the build, its one page for every other path, and what the archive answers."""

    def __init__(self, *arguments: object, archive: str, **named: object) -> None:
        self.archive = archive
        super().__init__(*arguments, **named)  # type: ignore[arg-type]  # passed on as they came

    def do_GET(self) -> None:
        """Serve or pass on."""
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIG.encode())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _pass_on(self) -> None:
        wanted = {"Accept": self.headers.get("Accept", "*/*")}
        request = urllib.request.Request(self.archive + self.path, headers=wanted)  # noqa: S310 - the archive's own URL
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
                self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def ohif(dist: Path, archive: str) -> Iterator[str]:
    """The address of the viewer built in ``dist`` over the archive at a URL."""
    handler = partial(_Handler, directory=str(dist), archive=archive)
    server = ThreadingHTTPServer((HOST, 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
