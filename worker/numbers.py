"""Series numbers that a study uses already, so that viewers list ours behind them (CLINICAL.md 26)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from cauda.archive.find import question_of
from cauda.archive.protocol import Archive
from cauda.core import stored
from cauda.core.errors import Unavailable
from cauda.pipeline.frames import number
from cauda.worker.post import Post


def listed(archive: Archive, study_uid: str) -> Collection[int]:
    """Those that an archive lists, which may hold series that never came here; none where it does not say."""
    question = question_of("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", SeriesNumber="")
    try:
        return _numbers(archive.find(question) or ())
    except Unavailable:
        return ()


def written(post: Post, paths: Iterable[str]) -> Collection[int]:
    """Those in files that we keep, for an archive that cannot be asked; what is gone or unreadable says nothing."""
    return _numbers(header for path in paths if (header := _header(post.spool.absolute(path))) is not None)


def _header(path: Path) -> Dataset | None:
    try:
        return stored.header(path, only=["SeriesNumber"])
    except (OSError, InvalidDicomError):
        return None


def _numbers(datasets: Iterable[Dataset]) -> Collection[int]:
    found = (number(one, "SeriesNumber") for one in datasets)
    return {int(one) for one in found if one is not None}
