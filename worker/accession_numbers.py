"""The accession numbers of a study: two procedures done in one exam give its series different ones."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from sqlalchemy import select

from cauda.archive.matches import text
from cauda.core import revisions, schema, stored
from cauda.core.headers import Role
from cauda.core.spool import Spool
from cauda.worker.post import Post


def accession_numbers(post: Post, study_uid: str, revision_id: int) -> frozenset[str]:
    """Those of the images that a revision was made of; of a retraction, which has none, of all that ever came.

    A file that is gone or unreadable says nothing.
    """
    image = schema.instance
    with post.ledger.read() as conn:
        paths = [one.path for one in revisions.inputs(conn, revision_id)]
        if not paths:
            ever = select(image.c.path).where(image.c.study_uid == study_uid, ~image.c.ours, image.c.role != Role.INERT)
            paths = list(conn.execute(ever).scalars())
    numbers = {text(_header(post.spool, path), "AccessionNumber") for path in paths}
    return frozenset(numbers - {""})


def _header(spool: Spool, path: str) -> Dataset:
    try:
        return stored.header(spool.absolute(path), only=["AccessionNumber"])
    except (OSError, InvalidDicomError):
        return Dataset()
