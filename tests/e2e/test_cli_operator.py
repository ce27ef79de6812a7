"""An operator's commands on a ledger that holds one study of each kind; each command is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import builders
import command
import pytest
from sqlalchemy import insert, update

from cauda.core import claims, deliveries, intake, ledger, listings, peers, revisions, schema
from cauda.core.claims import Addressee
from cauda.core.domain import Reason
from cauda.core.headers import Header, Role
from cauda.core.revisions import Fingerprint, Made
from cauda.core.schema import ResultKind, RevisionState

RECEIVING, REFUSED, FAILED = "1.2.1", "1.2.2", "1.2.3"
FINGERPRINT = Fingerprint(bundle_digest=None, config_digest="c", code_version="0")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose ledger knows a study that arrives, one whose SC was refused, and one that met a bug."""
    opened = ledger.open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate(opened)
    for uid in (RECEIVING, REFUSED, FAILED):
        with opened.write() as conn:
            intake.file_instance(opened, conn, image(uid))
            if uid != RECEIVING:
                revisions.freeze(opened, conn, uid, reason="quiet", fingerprint=FINGERPRINT)
    for _ in range(2):
        claim = claims.claim(opened, worker="w", lease_s=60, max_deaths=3)
        assert claim is not None
        if claim.study_uid == FAILED:
            claims.fail(opened, claim, Reason.BUG, "  deploy/x.py:1 in f: 1/0\nZeroDivisionError")
            continue
        made = Made(
            kind=ResultKind.SC, sop_class_uid="1.2", sop_uid="1.2.9", series_uid="1.3", path="outbox/x", sha256="0"
        )
        findings = [{"level": "L4/L5", "condition": "canal", "grade": "Severe", "abstained": None, "possible": []}]
        claims.report(opened, claim, state=RevisionState.REPORTED, reason=None, reason_text="", made=[made],
                         report_json={"findings": findings}, addressees=[Addressee(name="pacs")])  # fmt: skip
    sending = deliveries.claim(opened, worker="w", lease_s=60, known=["pacs"])
    assert sending is not None
    deliveries.refused(opened, sending, Reason.DESTINATION_REFUSED, "0xA900 not for us")
    opened.engine.dispose()
    return tmp_path


def image(study_uid: str) -> intake.Filed:
    header = Header(study_uid=study_uid, series_uid=f"{study_uid}.1", sop_uid=f"{study_uid}.1.1", sop_class_uid="1.2",
                    role=Role.AXIAL, ours=False, identity="i", demographics="d")  # fmt: skip
    return intake.Filed(header=header, path="x", version=1, sha256=study_uid, dataset_sha256=study_uid, bytes=1,
                        association_id=None, source="SCANNER")  # fmt: skip


def cauda(*words: str | Path, ok: int = 0) -> subprocess.CompletedProcess[str]:
    done = command.cauda(*words)
    assert done.returncode == ok, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def shown(*words: str | Path) -> Any:
    return json.loads(cauda(*words, "--json").stdout)


def test_studies_are_listed_newest_first_with_one_word_for_their_state(data: Path) -> None:
    listed = shown("studies", "list", "--data", data)
    assert [(one["study_uid"], one["state"]) for one in listed] == [
        (FAILED, "FAILED"), (REFUSED, "REPORTED"), (RECEIVING, "RECEIVING"),
    ]  # fmt: skip
    assert listed[1]["deliveries"] == {"refused": 1}
    assert listed[0]["reason"] == "bug"
    assert listed[0]["reason_text"] == "ZeroDivisionError"
    assert [one["study_uid"] for one in shown("studies", "list", "--data", data, "--state", "failed")] == [FAILED]


def test_every_study_is_found_by_the_word_that_is_shown_for_it(data: Path) -> None:
    """The filter and the shown word are made in two places: SQL and Python."""
    cauda("studies", "requeue", FAILED, "--data", data)
    cauda("studies", "hold", REFUSED, "--data", data)
    states = {one["study_uid"]: one["state"] for one in shown("studies", "list", "--data", data)}
    assert states == {RECEIVING: "RECEIVING", REFUSED: "HELD", FAILED: "QUEUED"}
    for uid, state in states.items():
        assert [one["study_uid"] for one in shown("studies", "list", "--state", state, "--data", data)] == [uid]
    cauda("studies", "release", REFUSED, "--data", data)
    assert [one["study_uid"] for one in shown("studies", "list", "--state", "reported", "--data", data)] == [REFUSED]
    assert shown("studies", "list", "--state", "COMPLETE", "--data", data) == []


def test_a_table_is_whole_when_piped(data: Path) -> None:
    """`cauda studies list | grep` must see whole UIDs, one study a line."""
    lines = cauda("studies", "list", "--data", data).stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:2] == [FAILED, "FAILED"]


def test_a_study_is_shown_with_findings_deliveries_and_events(data: Path) -> None:
    found = shown("studies", "show", REFUSED, "--data", data)
    assert found["revisions"][0]["findings"][0]["grade"] == "Severe"
    assert found["deliveries"][0]["reason_text"] == "0xA900 not for us"
    assert [event["event"] for event in found["events"]] == [
        "study_opened", "study_completed", "revision_due", "revision_claimed", "revision_reported", "delivery_sent",
        "delivery_refused",
    ]  # fmt: skip
    text = cauda("studies", "show", REFUSED, "--data", data).stdout
    assert "0xA900 not for us" in text
    assert f"complete because: {found['complete_reason']}" in text
    assert found["waits_for"] is None


def test_a_study_that_is_being_received_says_what_it_waits_for(data: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    with opened.write() as conn:
        conn.execute(insert(schema.listing).values(study_uid=RECEIVING, asked_at=0, problem="the archive is not there"))
    assert "sagittal and axial T2" in shown("studies", "show", RECEIVING, "--data", data)["waits_for"]
    text = cauda("studies", "show", RECEIVING, "--data", data).stdout
    assert "never answered; asked 1970-01-01T00:00:00+00:00: the archive is not there" in text
    listings.answered(opened, RECEIVING, {"1.2": 5})
    opened.engine.dispose()
    found = shown("studies", "show", RECEIVING, "--data", data)
    assert found["archive"]["series"] == {"1.2": 5}
    assert "lists 1 MR series since" in cauda("studies", "show", RECEIVING, "--data", data).stdout


def test_an_operator_completes_holds_releases_and_requeues(data: Path) -> None:
    cauda("studies", "complete", RECEIVING, "--data", data)
    assert shown("studies", "show", RECEIVING, "--data", data)["events"][-1]["event"] == "study_forced"
    cauda("studies", "hold", RECEIVING, "--text", "asks radiology", "--data", data)
    held = shown("studies", "show", RECEIVING, "--data", data)
    assert (held["state"], held["reason"], held["reason_text"]) == ("HELD", "operator", "asks radiology")
    cauda("studies", "hold", RECEIVING, "--data", data, ok=3)
    cauda("studies", "release", RECEIVING, "--data", data)
    cauda("studies", "release", RECEIVING, "--data", data, ok=3)
    cauda("studies", "requeue", FAILED, "--data", data)
    assert [one["number"] for one in shown("studies", "show", FAILED, "--data", data)["revisions"]] == [1]
    cauda("studies", "requeue", REFUSED, "--data", data)
    assert [one["number"] for one in shown("studies", "show", REFUSED, "--data", data)["revisions"]] == [1, 2]


def test_what_was_refused_is_sent_again_on_request(data: Path) -> None:
    assert shown("deliveries", "list", "--data", data, "--state", "refused")[0]["destination"] == "pacs"
    cauda("deliveries", "retry", "--data", data, ok=2)  # which?
    cauda("deliveries", "retry", "--data", data, "--to", "elsewhere", ok=3)
    assert "1 delivery due" in cauda("deliveries", "retry", "--data", data, "--to", "pacs").stdout
    assert shown("deliveries", "list", "--data", data)[0]["state"] == "due"


def test_what_was_refused_and_taken_back_stays_so_and_the_command_says_what_to_do(data: Path) -> None:
    cauda("studies", "retract", REFUSED, "--reason", "wrong-grade", "--data", data)
    said = cauda("deliveries", "retry", "--data", data, "--study", REFUSED, ok=3).stdout
    assert f"not sent again: refused results of {REFUSED}" in said
    assert f"`cauda studies requeue {REFUSED}`" in said
    assert shown("deliveries", "list", "--data", data)[0]["state"] == "refused"


def test_who_was_turned_away_is_shown_with_the_line_that_lets_it_in(data: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    with opened.write() as conn:
        conn.execute(
            schema.refused_peer.insert().values(
                aet="NEWCT", address="10.1.2.3", why="calling_ae_not_allowed", count=7, last_at=opened.now()
            )
        )
    peers = shown("peers", "list", "--data", data)
    assert peers["refused"][0]["allow"] == "cauda peers allow NEWCT@10.1.2.3"
    assert {one["network"] for one in peers["allowed"]} == {"127.0.0.0/8", "::1/128"}


@pytest.mark.parametrize("words", [("show",), ("complete",), ("requeue",), ("hold",), ("release",)])
def test_an_unknown_study_is_said_in_one_line(data: Path, words: tuple[str]) -> None:
    done = cauda("studies", *words, "1.2.404", "--data", data, ok=3)
    assert done.stderr == "cauda: no study 1.2.404 here\n"


def test_a_folder_without_a_ledger_is_not_made_into_one(tmp_path: Path) -> None:
    """A typing error in --data must not look like an empty node."""
    done = cauda("studies", "list", "--data", tmp_path / "typo", ok=2)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "typo").exists()


def test_a_ledger_of_another_version_is_not_touched(data: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    with opened.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9999'")
    assert "v9999" in cauda("studies", "list", "--data", data, ok=2).stderr
    assert cauda("doctor", "--data", data, "--port", "0", "--http", "0", ok=1).stdout.count("FAIL") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("config", "check", "--http", "all"), "--http"),
        (("config", "check", "--send-to", "ftp://x"), "dimse://AET@HOST:PORT"),
        (("config", "check", "--config", "/nowhere/cauda.toml"), "is not there"),
        (("config", "check", "--bundle", "/nowhere"), "/nowhere"),
        (("config", "check", "--allow", "everybody"), "everybody"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(words: tuple[str, ...], told: str) -> None:
    done = cauda(*words, ok=2)
    assert done.stderr.startswith("cauda: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr


def test_the_example_is_what_config_check_accepts(tmp_path: Path) -> None:
    example = cauda("config", "example").stdout
    path = tmp_path / "cauda.toml"
    path.write_text(example)
    assert "valid" in cauda("config", "check", "--config", path).stdout
    shown = json.loads(cauda("config", "show", "--config", path).stdout)
    assert shown["completeness"].pop("max_study_age_days") == 14
    default = json.loads(cauda("config", "show").stdout)
    assert default["completeness"].pop("max_study_age_days") is None
    assert shown == default


def test_an_operator_releases_what_came_too_late_and_only_when_told_what_a_setting_kept_back(data: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    parked = update(schema.delivery).values(state="parked", reason=Reason.SHADOW)
    with opened.write() as conn:
        conn.execute(parked)
    said = cauda("deliveries", "release", "--all", "--data", data, ok=3).stdout
    assert "others stay parked" in said
    assert cauda("deliveries", "release", "--all", "--kept-back", "--data", data).stdout == "1 delivery due now\n"
    with opened.write() as conn:
        conn.execute(parked.values(reason=Reason.TOO_LATE))
    assert cauda("deliveries", "release", "--all", "--data", data).stdout == "1 delivery due now\n"
    assert shown("deliveries", "list", "--data", data)[0]["state"] == "due"
    cauda("deliveries", "release", "--data", data, ok=2)


def test_results_are_taken_back_with_a_reason_of_the_list(data: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    with opened.write() as conn:
        conn.execute(update(schema.delivery).values(state="accepted"))
    cauda("studies", "retract", REFUSED, "--reason", "because", "--data", data, ok=2)
    said = cauda("studies", "retract", REFUSED, "--reason", "wrong-level", "--data", data).stdout
    assert f"{REFUSED} RETRACTED: 0 unsent cancelled" in said
    assert "a rejection note goes to pacs" in said
    assert [one["study_uid"] for one in shown("studies", "list", "--state", "retracted", "--data", data)] == [REFUSED]
    cauda("studies", "retract", REFUSED, "--reason", "wrong-level", "--data", data, ok=3)
    assert (
        "no results" in cauda("studies", "retract", RECEIVING, "--reason", "wrong-level", "--data", data, ok=3).stderr
    )
    assert "no study" in cauda("studies", "retract", "1.2.99", "--reason", "wrong-level", "--data", data, ok=3).stderr


def test_a_caller_with_markup_for_a_title_is_listed_as_it_called_itself(data: Path) -> None:
    """An AE title is chosen by who calls; also what an archive or an operator said is shown as text."""
    opened = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    titles = ["[/x]", "[red]A", "[link=x]", "A[/]B"]
    with opened.write() as conn:
        for title in titles:
            peers.refused(opened, conn, title, "10.1.2.3", Reason.CALLING_AE_NOT_ALLOWED)
        conn.execute(update(schema.delivery).values(reason_text="[/b] \x1b[2J says the archive"))
        intake.hold(opened, conn, RECEIVING, Reason.OPERATOR, "[/i] \x1b]0;x\x07 wait")
    listed = cauda("peers", "list", "--data", data).stdout
    assert all(title in listed for title in titles)
    said = (
        cauda("deliveries", "list", "--data", data).stdout + cauda("studies", "show", RECEIVING, "--data", data).stdout
    )
    assert "[/b] \\x1b[2J says the archive" in said
    assert "[/i] \\x1b]0;x\\x07 wait" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("before", [0o000, 0o022, 0o077])
def test_what_commands_write_is_for_this_user_and_its_group_alone(tmp_path: Path, before: int) -> None:
    """Whatever the umask of the shell; a stricter one stays."""
    umask = os.umask(before)
    try:
        images = builders.write(builders.mr_study(3), tmp_path / "images")
        cauda("analyze", images[0].parent, "--out", tmp_path / "out", "--bundle", "none")
    finally:
        os.umask(umask)
    made = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(made) > 1
    for path in made:
        mode = path.stat().st_mode & 0o777
        assert mode & 0o027 == 0, path
        assert not (before == 0o077 and mode & 0o070), path
