"""Which instances the archive in ``[source]`` holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cauda.archive.find import class_of, echoes_any_key, images_of
from cauda.archive.protocol import open_archive
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.settings import Settings

Held = dict[str, str]
"""SOP Instance UID to SOP Class UID, empty where the archive does not say."""

Place = tuple[str, str]  # Study and Series Instance UID


def held_instances(settings: Settings, sop_uids: Sequence[str], places: Mapping[str, Place]) -> Held:
    """Those of the instances that the archive lists; Unavailable when it does not say.

    ``places`` is what we know of them: a whole series is asked for at once, by its UIDs as every archive wants it; what
    is not found there (moved, or never here) one by one by its own UID, which only some archives answer.
    """
    series: dict[Place, list[str]] = defaultdict(list)
    for sop_uid in sop_uids:
        if sop_uid in places:
            series[places[sop_uid]].append(sop_uid)
    held: Held = {}
    source = settings.source
    with open_archive(source.archive(), settings.node.aet, (), timeout_s=source.timeout_s) as archive:
        for (study_uid, series_uid), wanted in series.items():
            listed = images_of(archive, study_uid, series_uid)
            held |= {sop_uid: listed[sop_uid] for sop_uid in wanted if sop_uid in listed}
        for sop_uid in sop_uids:
            if sop_uid not in held:
                sop_class = class_of(archive, sop_uid)
                held |= {} if sop_class is None else {sop_uid: sop_class}
        if held and echoes_any_key(archive, "SOPInstanceUID"):
            raise Unavailable(Reason.DESTINATION_BUSY, "the archive answers that it holds what nobody has")
    return held
