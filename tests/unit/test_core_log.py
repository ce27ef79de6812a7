"""The log speaks in identifiers; what DICOM libraries would put into it stays out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from logged import logged

from cauda.core import log


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with logged(stream, level="debug"):
        yield stream


def test_each_line_is_one_json_object_with_its_part(out: io.StringIO) -> None:
    log.get("filer").info("image_filed", study_uid="1.2")
    logging.getLogger("something").warning("spoken by %s", "the standard library")
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert ours["event"] == "image_filed"
    assert (ours["part"], ours["study_uid"], ours["level"]) == ("filer", "1.2", "info")
    assert theirs["event"] == "spoken by the standard library"


def test_a_stack_fits_into_one_line(out: io.StringIO) -> None:
    log.get("x").error("it_broke", exc_info=ValueError("boom"))
    (line,) = out.getvalue().splitlines()
    assert "ValueError: boom" in json.loads(line)["exception"]


@pytest.mark.parametrize("library", ["pynetdicom", "pydicom", "pynetdicom.dimse", "pynetdicom.evt", "highdicom"])
def test_what_dicom_libraries_say_about_values_stays_out(out: io.StringIO, library: str) -> None:
    """At DEBUG pynetdicom logs whole data sets; pydicom warns with the offending value."""
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger(library).log(level, "PatientName: MARKED^NAME")
    assert "MARKED" not in out.getvalue()


_WARNS = """
import sys, warnings
from cauda.core import log
from pydicom import config
from pydicom.valuerep import validate_value
log.configure(form="json")
validate_value("DA", "MARKED1960", config.WARN)
warnings.warn("MARKED too", stacklevel=1)
"""


def test_a_warning_is_told_without_its_text() -> None:
    """A warning of pydicom repeats the invalid value, on stderr, unless somebody takes care."""
    ended = subprocess.run([sys.executable, "-c", _WARNS], check=True, capture_output=True, text=True)
    assert "MARKED" not in ended.stderr + ended.stdout
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in told] == ["python_warning"]
