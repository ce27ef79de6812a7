"""The ledger's tables. Times are seconds since 1970 UTC on the database's clock; paths are relative to the data folder.

No patient attribute is kept here: identity and demographics are digests, the values stay in the files.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts itself up there


class StudyState(StrEnum):
    """A study's machine; a hold is a flag beside it."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    PURGED = "purged"


class RevisionState(StrEnum):
    """A revision's machine: due -> grading(attempt, lease) -> one of the rest."""

    DUE = "due"
    GRADING = "grading"
    REPORTED = "reported"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    RETRACTED = "retracted"


class RevisionKind(StrEnum):
    """Images are graded, earlier findings reissued with corrected demographics, or earlier results taken back."""

    GRADE = "grade"
    REISSUE = "reissue"
    RETRACT = "retract"


class ResultKind(StrEnum):
    """What an object that we made is, in the order of its delivery."""

    SR = "sr"
    SC = "sc"
    HEAT_MAP = "heatmap"  # a page that explains the model
    REPLACES = "replaces"  # a note that rejects what its revision replaces
    KO = "ko"  # a note that takes back, at an operator's word
    WARNING = "warning"  # a page, where what was taken back stays visible


READ = (ResultKind.SR, ResultKind.SC, ResultKind.HEAT_MAP)  # what readers see
OF_REVISION = (*READ, ResultKind.REPLACES)  # what goes out of date with its revision
WITHDRAWING = (ResultKind.KO, ResultKind.WARNING)  # what takes results back: it waits for nobody's leave


class DeliveryState(StrEnum):
    """An object on its way to one destination: due -> sent(attempt, lease) -> accepted -> committed, or an end.

    ``sent`` is written before the first byte leaves: after a crash the archive may or may not have it.
    """

    DUE = "due"
    SENT = "sent"
    ACCEPTED = "accepted"
    COMMITTED = "committed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    PARKED = "parked"


class PeerRule(StrEnum):
    """What a row of `peer` says of a caller."""

    ALLOW = "allow"
    FORBID = "forbid"  # goes before what allows, the configuration's too
    LEARN = "learn"  # until a time, who calls from there is let in and gets a row of its own


class CommitmentState(StrEnum):
    """A commitment that somebody asked of us: asked -> decided -> told, or an end without being told."""

    ASKED = "asked"
    DECIDED = "decided"
    TOLD = "told"
    GIVEN_UP = "given_up"


process = Table(
    "process",
    metadata,
    Column("token", String(128), primary_key=True),  # liveness.token, and the role
    Column("role", String(16), nullable=False),  # listener | grade | deliver
    Column("slots", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("since", Double),  # seen without a gap since then
    # of a listener: the folder of what it acknowledged, how much of that is not filed, and how far it has filed
    Column("arrivals", String(64)),
    Column("unfiled", Integer),
    Column("filed_until", Double),  # all that it acknowledged before that is filed
    Column("unfiled_why", String(64)),  # why filing waits, if it does
)

clock = Table(  # how the ledger's time follows from the database's clock (`core.steady_clock`); one row
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),  # counts the corrections
    Column("offset_s", Double, nullable=False),  # ledger time less the database's clock
    Column("boot", String(64)),  # the kernel boot that `lead_s` belongs to
    Column("lead_s", Double),  # ledger time less that boot's CLOCK_BOOTTIME
    Column("seen_at", Double),
    Column("stepped_at", Double),  # when a step was last noticed
    Column("step_s", Double),  # how far the clock was set, positive for forward
)

refused_object = Table(  # MR images that were refused for a passing reason and did not come since
    "refused_object",
    metadata,
    Column("sop_uid", String(64), primary_key=True),
    Column("study_uid", String(64)),  # null where the refusal came before it was known
    Column("association_id", String(64), nullable=False),
    Column("reason", String(32), nullable=False),  # Reason
    Column("at", Double, nullable=False),
    Index("ix_refused_object_study_uid", "study_uid"),
)

association = Table(
    "association",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("listener", String(128), nullable=False),  # process.token
    Column("calling_aet", String(16), nullable=False),
    Column("called_aet", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("ended_how", String(16)),  # released | aborted | lost
    Index("ix_association_open", "listener", "ended_at"),
)

source = Table(
    "source",
    metadata,
    Column("aet", String(16), primary_key=True),  # who sends studies
    Column("served_at", Double, nullable=False),  # when a study of theirs was last claimed for grading
)

study = Table(
    "study",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),  # higher first
    Column("source", String(16), nullable=False),  # the AE title that sent its first image
    Column("first_at", Double, nullable=False),  # the first instance of any kind
    Column("study_date", String(8)),  # the latest StudyDate among its images, YYYYMMDD
    Column("opened_at", Double, nullable=False),  # the first instance since the last completion: the hard age
    Column("input_at", Double),  # the last change of the gradable set
    Column("released_at", Double),  # the last release of an association that brought gradable images
    Column("corrected_at", Double),  # demographics changed and not yet reissued
    Column("forced", Boolean, nullable=False, server_default="0"),  # an operator said it is complete
    Column("late_revisions", Integer, nullable=False, server_default="0"),
    Column("complete_at", Double),
    Column("complete_reason", String(256)),
    Column("hold", String(32)),  # Reason
    Column("hold_text", String(256)),
    Column("hold_at", Double),
    Index("ix_study_state", "state", "corrected_at"),
    Index("ix_study_first_at", "first_at"),
)

listing = Table(  # what the archive says that a study holds (`core.listings`)
    "listing",
    metadata,
    Column("study_uid", String(64), ForeignKey("study.uid"), primary_key=True),
    Column("asked_at", Double, nullable=False),
    Column("series", JSON(none_as_null=True)),  # Series UID -> images, or null where the archive does not say
    Column("since", Double),  # the first of the answers in a row that say the same
    Column("answered_at", Double),  # the last of them
    Column("problem", String(128)),  # why the last question has no answer
)

instance = Table(
    "instance",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("study_uid", String(64), ForeignKey("study.uid"), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("current", Boolean, nullable=False),  # one current version a SOP UID
    Column("path", String(256), nullable=False),
    Column("sha256", String(64), nullable=False),  # of the file
    Column("dataset_sha256", String(64), nullable=False),  # without File Meta
    Column("bytes", BigInteger, nullable=False),
    Column("role", String(16), nullable=False),  # headers.Role
    Column("ours", Boolean, nullable=False),  # a result of ours that came back
    Column("identity", String(64), nullable=False),  # digest: PatientID, issuer, birth date
    Column("demographics", String(64), nullable=False),  # digest: every attribute that results copy
    Column("stated", String(160)),  # digests, one an attribute (`core.identity`); null of what was filed before them
    Column("association_id", String(64)),
    Column("filed_at", Double, nullable=False),
    UniqueConstraint("study_uid", "sop_uid", "version"),
    # what each arriving image and each tick ask of its study, answered without reading the rows
    Index("ix_instance_identity", "study_uid", "current", "identity", "role"),
    Index("ix_instance_series", "study_uid", "current", "ours", "series_uid", "role"),
    Index("ix_instance_sop_uid", "sop_uid"),
    Index("ix_instance_association", "association_id", "study_uid", "filed_at"),
)

revision = Table(
    "revision",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("study_uid", String(64), ForeignKey("study.uid"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),  # fences: a worker with an old one changes nothing
    Column("deaths", Integer, nullable=False, server_default="0"),  # claims in a row that ended in a lost lease
    Column("worker", String(128)),
    Column("lease_until", Double),
    Column("not_before", Double, nullable=False),
    Column("claimed_at", Double),
    Column("frozen_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("complete_reason", String(256), nullable=False),
    Column("bundle_digest", String(64)),
    Column("config_digest", String(64), nullable=False),
    Column("code_version", String(32), nullable=False),
    Column("identity", JSON),  # DICOM keyword -> value from the archive, only with demographics = archive
    Column("identity_checked", Boolean),  # False: an archive cannot be asked whose study it is, and the results say so
    Column("reason", String(32)),  # Reason
    Column("reason_text", String(4096)),  # for FAILED, the stack
    Column("report", JSON),  # report.json
    Column("gaps", JSON(none_as_null=True)),  # what is known to be missing (`core.gaps`)
    Column("retraction", String(32)),  # why earlier results are taken back, of a revision of kind retract
    UniqueConstraint("study_uid", "number"),
    Index("ix_revision_state", "state", "not_before"),
    Index("ix_revision_study", "study_uid", "state"),
)

revision_input = Table(
    "revision_input",
    metadata,
    Column("revision_id", _Id, ForeignKey("revision.id"), primary_key=True),
    Column("instance_id", _Id, ForeignKey("instance.id"), primary_key=True),
)

result = Table(
    "result",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("revision_id", _Id, ForeignKey("revision.id"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("kind", String(8), nullable=False),  # ResultKind
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False, unique=True),
    Column("series_uid", String(64), nullable=False),
    Column("path", String(256), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("made_at", Double, nullable=False),
    Index("ix_result_study_uid", "study_uid"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("result_id", _Id, ForeignKey("result.id"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("destination", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row, of this object; sets the backoff
    Column("worker", String(128)),
    Column("lease_until", Double),
    Column("not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sent_at", Double),
    Column("accepted_at", Double),
    Column("committed_at", Double),
    Column("released_at", Double),  # an operator let it go, however old it is
    Column("confirm_at", Double),  # when the archive is asked next whether it has it; null when it is not
    Column("confirmed_by", String(16)),  # commitment | read_back
    Column("transaction_uid", String(64)),
    Column("reason", String(32)),
    Column("reason_text", String(512)),  # the archive's own words
    UniqueConstraint("result_id", "destination"),
    Index("ix_delivery_confirm_at", "state", "confirm_at"),
    Index("ix_delivery_transaction_uid", "transaction_uid"),
    Index("ix_delivery_state", "state", "not_before"),
    Index("ix_delivery_study", "study_uid", "destination"),
)

destination = Table(
    "destination",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("open_until", Double, nullable=False, server_default="0"),  # circuit breaker: nothing is sent before
    Column("ok_at", Double),
    Column("reason_text", String(512)),
    Column("negotiated_at", Double),  # when it last said what it takes
    Column("sop_classes", JSON(none_as_null=True)),  # of ours, those that it takes
    Column("can_find", Boolean),
)

tracking = Table(
    "tracking",
    metadata,
    Column("study_uid", String(64), ForeignKey("study.uid"), primary_key=True),
    Column("level", String(8), primary_key=True),
    Column("condition", String(32), primary_key=True),
    Column("uid", String(64), nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", String(48), nullable=False),
    Column("study_uid", String(64)),
    Column("revision_id", _Id),
    Column("delivery_id", _Id),
    Column("detail", JSON, nullable=False),
    Index("ix_event_study_uid", "study_uid", "id"),
    Index("ix_event_kind", "kind", "id"),
)

refused_peer = Table(
    "refused_peer",
    metadata,
    Column("aet", String(16), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("why", String(32), primary_key=True),  # Reason
    Column("count", Integer, nullable=False),
    Column("last_at", Double, nullable=False),
)

peer = Table(  # beside those of the configuration
    "peer",
    metadata,
    Column("aet", String(16), primary_key=True),  # * for any
    Column("network", String(64), primary_key=True),
    Column("rule", String(8), nullable=False),  # PeerRule
    Column("learned", Boolean, nullable=False),  # by the listener, not by an operator
    Column("since", Double, nullable=False),
    Column("until", Double),  # of learn
    Column("max_associations", Integer),  # of allow, as are the next; `limits` where it is empty
    Column("max_object_bytes", BigInteger),
    Column("max_pdu_bytes", Integer),
)

commitment_request = Table(
    "commitment_request",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("transaction_uid", String(64), nullable=False),
    Column("asker", String(16), nullable=False),  # its AE title
    Column("state", String(16), nullable=False),  # CommitmentState
    Column("instances", JSON, nullable=False),  # [SOP Class UID, SOP Instance UID], as asked
    Column("failed", JSON(none_as_null=True)),  # SOP Instance UID -> failure reason, once decided
    Column("listener", String(128), nullable=False),  # process.token of who works on it
    Column("lease_until", Double, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("answered_at", Double),
    Column("problem", String(128)),  # why the asker has not been told yet
    UniqueConstraint("asker", "transaction_uid"),
    Index("ix_commitment_request_state", "state", "not_before"),
)
