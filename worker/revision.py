"""One revision's work: from its frozen list to results in the outbox (DESIGN.md 2)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from pydicom import dcmread
from sqlalchemy import Connection

from cauda.core import revisions, uids
from cauda.core.claims import Addressee, Claim
from cauda.core.decoding import StudyDecoder
from cauda.core.domain import Json, Level, Reason, Report, Status
from cauda.core.revisions import Made
from cauda.core.schema import RevisionKind, RevisionState
from cauda.pipeline import words
from cauda.pipeline.analyse import Analysis, AnalysisOptions, analyse_study
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.occlusion import heat_maps
from cauda.pipeline.report_json import from_json, to_json
from cauda.pipeline.results.retraction import RetractionReason
from cauda.pipeline.results.structured_report import SR_CLASSES
from cauda.pipeline.source import SourceImage
from cauda.worker import results
from cauda.worker.abilities import Abilities, negotiated, numbers_in_use
from cauda.worker.addressees import addressees, is_phantom
from cauda.worker.changes import change_text, changes
from cauda.worker.images import headers, source_images
from cauda.worker.outbox import put
from cauda.worker.post import Post
from cauda.worker.replace import rejecting


class LostClaim(Exception):
    """Somebody else has the revision now, or nobody wants it any more: stop, quietly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What came of a revision: durable in the outbox, not yet in the ledger."""

    state: RevisionState
    reason: Reason | None
    text: str
    report: Json
    made: tuple[Made, ...] = ()
    replaces: int | None = None  # the revision that readers have
    research: bool = True
    phantom: bool = False
    identity_checked: bool | None = None  # what the results say of that
    to: tuple[str, ...] | None = None  # only these destinations, whatever the settings say of others
    note: Callable[[Sequence[Made]], Made] | None = None  # makes what rejects the results that this replaces
    only_to_replace: bool = False  # readers who have no earlier results get nothing


def outcome(claim: Claim, report: Report) -> Graded:
    """A report that ends a revision without results."""
    state = RevisionState.REPORTED if report.status is Status.REPORTED else RevisionState.REJECTED
    return Graded(state=state, reason=report.reason, text=report.reason_text, report=to_json(report, claim.number))


def grade_revision(post: Post, claim: Claim, going_on: Callable[[], None]) -> Graded:
    """As `_grade_revision`, its images decoded by a process that ends with it."""
    with StudyDecoder(post.settings.decoding) as decoder:
        return _grade_revision(post, claim, going_on, decoder)


def _grade_revision(post: Post, claim: Claim, going_on: Callable[[], None], decoder: StudyDecoder) -> Graded:
    """Grade, or reissue with corrected demographics, and put the results into the outbox.

    ``going_on`` is called between steps and raises LostClaim once the work is nobody's. Raises Unavailable when a
    file is not there.
    """
    with post.ledger.write() as conn:
        inputs = revisions.inputs(conn, claim.id)
        before = _Before.of(revisions.previous(conn, claim.study_uid, claim.number))
        published = _Before.of(revisions.previous(conn, claim.study_uid, claim.number, published=True))
        tracking = _tracking_uids(conn, claim.study_uid)
        numbered = revisions.numbered(conn, claim.study_uid)  # now: a ledger that goes away meanwhile undoes no work
    images = source_images(post.spool, inputs, going_on, decoder)
    analysis = _analysis(post, claim, images, before)
    analysis = replace(analysis, report=_with_gaps(claim, analysis.report))
    report = analysis.report
    ended = outcome(claim, report)
    sources = headers(post.spool, inputs)  # again: nobody has decoded these
    phantom = any(is_phantom(image.header) for image in images)
    wanted = addressees(post.settings.destinations, research=results.is_research(report), phantom=phantom)
    archives = _archives(post, wanted, _study_there(claim))
    grading = post.settings.grading
    maps = heat_maps(report, images, post.parts) if grading.heat_map_page and post.parts else {}
    going_on()
    origin = results.Origin(
        code_version=post.fingerprint.code_version,
        site_timezone=post.settings.site.timezone,
        tracking_uids=tracking,
        # CLINICAL.md 25: whoever cannot be asked whose study it is gets a page that says so
        identity_checked=claim.identity_checked is not False
        and bool(archives)
        and all(one is None or one.can_find for one in archives.values()),
        page_modality=post.settings.grading.page_modality,
        sr_class=sr_class([archives[to.name] for to in wanted if to.sr and not to.parked and to.name in archives]),
        heat_map=bool(maps),
        series_numbers=numbers_in_use(post, numbered, list(archives.values())),
    )
    context, carried = results.result_context(claim, report, sources, origin)
    unsaid = claim.identity_checked is False  # the earlier results claim otherwise
    if before is not None and not unsaid and not _differences(post, before, report, carried):
        text = f"{ended.text} Nothing changed since revision {before.number}: not sent.".strip()
        return replace(ended, text=text)
    if published is not None:
        said = _differences(post, published, report, carried) or ["unchanged"]
        change = change_text(published.number, said, claim.complete_reason)
        context = results.with_previous(context, published.made, change)
    notice = grading.not_analysed_page and results.ordered_as_lumbar([one.header for one in images])
    replaced = published or before  # what was only made may leave before these are written down
    going_on()
    made = results.make(
        report, analysis.pictures, sources, context,
        notice=notice or replaced is not None, sr_class=origin.sr_class, maps=maps,
    )  # fmt: skip
    stored = tuple(put(post, claim.study_uid, one) for one in made)
    note = None
    if replaced is not None:
        note = rejecting(post, claim, report, sources, context, _why(post, replaced, report, carried))
    return replace(
        ended,
        made=stored,
        replaces=published.number if published and stored else None,
        research=results.is_research(report),
        phantom=phantom,
        identity_checked=origin.identity_checked if stored else None,
        note=note,
        only_to_replace=report.status is Status.REJECTED and not notice,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """An earlier revision that made results."""

    number: int
    report: Report
    made: Sequence[Made]

    @classmethod
    def of(cls, found: tuple[Json, list[Made]] | None) -> _Before | None:
        return found and cls(number=found[0]["revision"], report=from_json(found[0]), made=found[1])

    def carried(self, post: Post) -> str | None:
        """A digest of the patient and study attributes that its results carry; None when they are not kept any more."""
        try:
            return results.carried(dcmread(post.spool.absolute(self.made[0].path), stop_before_pixels=True))
        except FileNotFoundError:
            return None


def _differences(post: Post, before: _Before, report: Report, carried: str) -> list[str]:
    """What a reader of the earlier results would learn, in words."""
    said = changes(before.report, report)
    if before.carried(post) not in {None, carried}:
        said.append("patient or study attributes corrected")
    return said


def _why(post: Post, before: _Before, report: Report, carried: str) -> RetractionReason:
    """Why the earlier results are rejected; where findings and attributes changed, the findings are the graver."""
    if report.status is Status.REJECTED and before.report.status is not Status.REJECTED:
        return RetractionReason.NOT_GRADABLE
    if changes(before.report, report):
        return RetractionReason.OTHER_FINDINGS
    said = _differences(post, before, report, carried)
    return RetractionReason.OTHER_ATTRIBUTES if said else RetractionReason.OTHER_STATEMENT


def _analysis(post: Post, claim: Claim, images: Sequence[SourceImage], before: _Before | None) -> Analysis:
    """What is to be reported. A reissue keeps the earlier findings; only its pictures are read again."""
    if claim.kind is RevisionKind.REISSUE and before is not None:
        return Analysis(report=before.report, pictures=pictures(before.report, images))
    denied = tuple(rf"(?<!\w){re.escape(words.folded(word))}(?!\w)" for word in post.settings.grading.deny_exams)
    options = AnalysisOptions(denied_exams=denied, clock=perf_counter)
    return analyse_study(claim.study_uid, images, post.parts, options)


def _with_gaps(claim: Claim, report: Report) -> Report:
    """The report, saying first what is known to be missing."""
    said = tuple(f"Incomplete: {gap.text}." for gap in claim.gaps)
    return replace(report, flags=tuple(dict.fromkeys((*said, *report.flags))))


def _tracking_uids(conn: Connection, study_uid: str) -> dict[Level, str]:
    """The tracking UIDs of the study's levels: random once, then kept (CLINICAL.md 17)."""

    def tracked(level: Level) -> str:
        fresh = uids.derived("tracking", secrets.token_hex(16))
        return revisions.tracking_uid(conn, study_uid, level.value, "canal", fresh)

    return {level: tracked(level) for level in Level}


def _study_there(claim: Claim) -> str:
    """The study's UID as the archive has it, where it said so."""
    return (claim.identity or {}).get("StudyInstanceUID") or claim.study_uid


def _archives(post: Post, wanted: Sequence[Addressee], study_uid: str) -> Mapping[str, Abilities | None]:
    """What each archive can do; None for one that is not there and never was, or that gets nothing for now."""
    parked = {one.name: one.parked for one in wanted}
    return {
        one.name: negotiated(post, one, SR_CLASSES, study_uid) if parked[one.name] is None else None
        for one in post.settings.destinations
        if one.kind != "folder"
    }


def sr_class(archives: Sequence[Abilities | None]) -> str:
    """The best SR class that one of the archives takes or, not known yet, may take (CLINICAL.md 27).

    What another takes is negotiated with it when the SR goes there (`exchange`). The best of all when none takes any.
    """
    taken = {name for one in archives for name in (SR_CLASSES if one is None else one.sop_classes)}
    return next((str(name) for name in SR_CLASSES if name in taken), str(SR_CLASSES[0]))
