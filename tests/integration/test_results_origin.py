"""Where a result comes from, read in the SR files that a worker made of a study graded twice and reissued.

The truth is the shipped bundle's folder and the ledger's rows; stand-ins that carry its name do the grading.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import builders_results as given
import pytest
import sr_mistakes as read
from analytic_spine import Spine, parts, study
from pydicom import Dataset, dcmread
from worker_house import FINGERPRINT, House, house

import cauda.models.manifest
from cauda.core import revisions
from cauda.core.domain import Reason, Report
from cauda.core.schema import RevisionKind
from cauda.models.bundle import load_bundle
from cauda.pipeline.parts import Parts
from cauda.pipeline.results.structured_report import structured_report
from cauda.worker.grade import grade_next

STARTER = Path(cauda.models.manifest.__file__).parent / "starter"
TRACKING_IDENTIFIER, TRACKING_UID = "112039", "112040"
NAME, VERSION, PARAMETERS = "111001", "111003", "111002"
# The shipped graders hold a temperature for each level and not how many crops it was fitted on.
CALIBRATION = (
    "calibration temperature per level, on cases kept out of the fit (their number is not recorded); "
    "data: Cauda phantom (synthetic), this repository"
)


@pytest.fixture(scope="module")
def used() -> Parts:
    """What the shipped bundle says of itself, with stand-ins that grade an analytic spine."""
    return replace(parts(), info=load_bundle(STARTER).info)


def graded(at: House, parts: Parts | None) -> Dataset:
    """The SR of the last revision."""
    assert grade_next(replace(at.post(), parts=parts))
    last = at.rows("revision")[-1]["id"]
    (row,) = at.rows("result", revision_id=last, kind="sr")
    return dcmread(at.data / row["path"])


def tracking_uids(sr: Dataset) -> dict[str, set[str]]:
    """By the level in the group's name."""
    found = defaultdict(set)
    for group in read.groups(sr):
        (named,), (tracked,) = (read.children(group, code) for code in (TRACKING_IDENTIFIER, TRACKING_UID))
        level = re.fullmatch(r"AI unverified (L\d/[LS]\d) canal: .+", named.TextValue)
        assert level
        found[level[1]].add(str(tracked.UID))
    return found


def test_tracking_bundle_configuration_calibration_and_completeness_stand_in_what_a_worker_made(
    tmp_path: Path, used: Parts
) -> None:
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    images = [image.read() for image in study(Spine(dark={1: 0.1}))]
    made = []
    # Graded, graded again, and reissued by a worker that has no bundle at all: the findings are the bundle's still.
    for number, kind, by in (
        (1, RevisionKind.GRADE, used), (2, RevisionKind.GRADE, used), (3, RevisionKind.REISSUE, None),
    ):  # fmt: skip
        for image in images:
            image.StudyDescription = f"MR LSPINE {number}"
        study_uid = at.file(images)
        fingerprint = replace(FINGERPRINT, config_digest=f"{number}f" * 32)
        at.write(revisions.freeze, study_uid, reason=f"reason {number}", fingerprint=fingerprint, kind=kind)
        made.append(graded(at, by))
    manifest = (STARTER / "bundle.toml").read_bytes()
    stated = tomllib.loads(manifest.decode())
    for sr, row in zip(made, at.rows("revision"), strict=True):
        assert row["state"] == "reported"
        assert len(read.groups(sr)) >= 10
        for group in read.groups(sr):
            said = {code: [one.TextValue for one in read.children(group, code)] for code in (NAME, VERSION, PARAMETERS)}
            assert said == {
                NAME: [stated["name"]],
                VERSION: [stated["version"]],
                PARAMETERS: [
                    f"bundle digest {hashlib.sha256(manifest).hexdigest()}",
                    CALIBRATION,
                    f"configuration {row['config_digest']}",
                    f"code {row['code_version']}",
                    f"complete because {row['complete_reason']}",
                ],
            }
    first, *others = map(tracking_uids, made)
    assert set(first) == {"L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"}
    assert [len(uids) for uids in first.values()] == [1] * 5
    assert len(set.union(*first.values())) == 5
    assert others == [first, first]
    assert len({sr.SOPInstanceUID for sr in made}) == 3


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (given.report(), ["calibration not stated by the bundle"]),
        (
            given.report(bundle=replace(given.bundle(), calibration="at L4/L5"), level_doubt=Reason.TRANSITIONAL),
            ["calibration at 2nd from lowest"],
        ),
    ],
)
def test_of_a_calibration_nothing_is_claimed_that_the_bundle_does_not_say(report: Report, said: list[str]) -> None:
    """And no L-name leaves with it while numbering is in doubt."""
    for group in read.groups(structured_report(report, given.sources(), given.context())):
        texts = [item.TextValue for item in read.children(group, "111002")]
        assert [text for text in texts if "calibrat" in text] == said
