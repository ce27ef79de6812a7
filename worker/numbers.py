"""Series numbers that a study uses already, so that viewers list ours behind them (CLINICAL.md 26)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pydicom import Dataset, dcmread

from cauda.core.errors import Unavailable
from cauda.core.revisions import Made
from cauda.pipeline.frames import number
from cauda.worker.archive import Archive
from cauda.worker.post import Post


def listed(archive: Archive, study_uid: str) -> Collection[int]:
    """Those that an archive lists, which may hold series that never came here; none where it does not say."""
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "SERIES", study_uid
    question.SeriesInstanceUID = question.SeriesNumber = ""
    try:
        return _numbers(archive.find(question) or ()) if archive.can_find else ()
    except Unavailable:
        return ()


def written(post: Post, made: Sequence[Made]) -> Collection[int]:
    """Those of earlier results, for an archive that cannot be asked; what the outbox has lost says nothing."""
    headers = []
    for one in made:
        path = post.spool.absolute(one.path)
        if path.exists():
            headers.append(dcmread(path, stop_before_pixels=True))
    return _numbers(headers)


def _numbers(datasets: Iterable[Dataset]) -> Collection[int]:
    found = (number(one, "SeriesNumber") for one in datasets)
    return {int(one) for one in found if one is not None}
