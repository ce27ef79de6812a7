"""Which instances the archive in ``[source]`` holds, asked by C-FIND or QIDO-RS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from cauda.core.settings import Destination, Settings
from cauda.listener import cfind, qido

Held = dict[str, str]
"""SOP Instance UID to SOP Class UID, empty where the archive does not say."""

Place = tuple[str, str]  # Study and Series Instance UID
Images = Callable[..., Held]  # keywords: study_uid and series_uid, or sop_uid


def ask(settings: Settings, sop_uids: Sequence[str], places: Mapping[str, Place]) -> Held:
    """Those of the instances that the archive lists; Unavailable when it does not say.

    ``places`` is what we know of them: a whole series is asked for at once, by its UIDs as every archive wants it; what
    is not found there (moved, or never here) one by one by its own UID, which only some archives answer.
    """
    series: dict[Place, list[str]] = defaultdict(list)
    for sop_uid in sop_uids:
        if sop_uid in places:
            series[places[sop_uid]].append(sop_uid)
    held: Held = {}
    with _open(settings) as images:
        for (study_uid, series_uid), wanted in series.items():
            listed = images(study_uid=study_uid, series_uid=series_uid)
            held |= {sop_uid: listed[sop_uid] for sop_uid in wanted if sop_uid in listed}
        for sop_uid in sop_uids:
            if sop_uid not in held:
                listed = images(sop_uid=sop_uid)
                held |= {sop_uid: listed[sop_uid]} if sop_uid in listed else {}
    return held


@contextmanager
def _open(settings: Settings) -> Iterator[Images]:
    source = settings.source
    url = str(source.url)
    if urlsplit(url).scheme != "dimse":
        secret = source.authorization.get_secret_value() if source.authorization else None
        base = url.removeprefix("dicomweb+")
        yield lambda **keys: qido.images(base, authorization=secret, timeout_s=source.timeout_s, **keys)
        return
    to = Destination.model_validate(url)
    with cfind.open_archive(
        str(to.host), int(to.port or 0), called=str(to.aet), calling=source.calling_aet or settings.node.aet,
        timeout_s=source.timeout_s,
    ) as archive:  # fmt: skip
        yield archive.images
