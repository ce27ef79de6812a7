"""The pages: what became of a study and why, an operator's buttons, and who may see and press them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import httpx
import numpy as np
import pytest
from listener_house import House as Door
from listener_house import listener
from logged import logged
from peers import HOST, until
from PIL import Image
from pydicom import dcmread
from sqlalchemy import func, insert, select, update
from worker_house import House, house

from cauda.core import intake, passwords, schema
from cauda.core.domain import Reason
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

pytestmark = pytest.mark.peers
PASSWORD = "correct horse battery"
SECRET = {"PatientName": "Zebrafink^Ottokar", "PatientID": "ZFK4711", "AccessionNumber": "ACCZFK"}
WHY = {"choice": "wrong-level", "text": "counted wrongly"}
QUIET = {"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400}


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path / "data", destinations=[f"folder:{tmp_path}/out"])


@contextmanager
def pages(at: House, **overrides: Any) -> Iterator[tuple[Door, httpx.Client]]:
    """A listener on the house's folder, and a browser that keeps cookies and follows redirects."""
    with listener(at.data, completeness=QUIET, **overrides) as door:
        url = f"http://{HOST}:{door.ports.http}"
        with httpx.Client(base_url=url, follow_redirects=True, timeout=30, trust_env=False) as browser:
            yield door, browser


def reported(at: House, seed: int) -> str:
    """A study that was graded (without a bundle) and delivered into the folder."""
    uid = at.complete(builders.mr_study(seed, **SECRET))
    assert grade_next(at.post())
    while deliver_next(at.post()):
        pass
    return uid


def said(answer: httpx.Response) -> str:
    """A page's text, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", answer.text)))


def token(answer: httpx.Response) -> str:
    """What the forms of a page carry."""
    return re.findall(r'name="token" value="([^"]+)"', answer.text)[0]


def test_a_reported_study_is_told_from_its_first_image_to_the_archives_word(at: House) -> None:
    uid = reported(at, 61)
    with pages(at) as (_, browser):
        page = browser.get(f"/studies/{uid}")
        assert page.status_code == 200
        text = said(page)
        for line in (
            "First object, from SCANNER", "Complete: quiet", "Revision 1: grading began", "Revision 1 reported",
            "L4/L5 NOT GRADED: no grading model installed", f"SR to folder:{at.data.parent}/out: accepted",
        ):  # fmt: skip
            assert line in text, line
        assert [text.index(one) for one in ("First object,", "Complete: quiet", "Revision 1 reported")] == sorted(
            text.index(one) for one in ("First object,", "Complete: quiet", "Revision 1 reported")
        )


def test_the_picture_is_the_secondary_capture_pixel_for_pixel(at: House) -> None:
    uid = reported(at, 62)
    (row,) = at.rows("result", kind="sc")
    with pages(at) as (_, browser):
        page = browser.get(f"/studies/{uid}")
        (source,) = re.findall(r'<img src="([^"]+)"', page.text)
        picture = browser.get(source)
        assert picture.headers["content-type"] == "image/png"
        shown = np.asarray(Image.open(BytesIO(picture.content)))
        assert np.array_equal(shown, dcmread(at.data / row["path"]).pixel_array)
        (sr,) = at.rows("result", kind="sr")
        assert browser.get(f"/studies/{uid}/results/{sr['sop_uid']}.png").status_code == 404
        assert browser.get(f"/studies/1.2.3/results/{row['sop_uid']}.png").status_code == 404


def test_no_page_and_no_log_line_names_a_patient(at: House, capfd: pytest.CaptureFixture[str]) -> None:
    """Also not the pages of what failed, whose stack is shown."""
    uid = reported(at, 63)
    at.file(builders.mr_study(64, axial=0, **SECRET))
    with pages(at) as (_, browser):
        texts = [browser.get(path).text for path in ("/", f"/studies/{uid}", "/login", "/studies/1.2")]
        with at.ledger.write() as conn:
            conn.execute(update(schema.revision).values(state="failed", reason="bug", reason_text="Frames\nOSError"))
        failed = browser.get(f"/studies/{uid}")
    assert "Frames\nOSError" in failed.text
    said = "".join(capfd.readouterr())
    assert re.search(rf"page_seen .*study={uid} ", said)  # who looked at what is audited
    for text in (*texts, failed.text, said):
        for value in ("Zebrafink", "Ottokar", "ZFK4711", "ACCZFK", "19600102"):
            assert value not in text


def test_an_archives_own_words_are_shown_only_after_a_login(at: House) -> None:
    """They may name a patient: an archive's Error Comment often does."""
    uid = reported(at, 59)
    with at.ledger.write() as conn:
        conn.execute(
            update(schema.delivery).values(state="refused", reason="refused", reason_text="status A900: Zebrafink")
        )
    with pages(at) as (_, browser):
        text = browser.get(f"/studies/{uid}").text
        assert "Zebrafink" not in text
        assert "status A900 (the archive&#39;s words are shown after a login" in text
    with pages(at, http={"port": 0, "users": [{"name": "it", "hash": passwords.hashed(PASSWORD)}]}) as (_, browser):
        form = token(browser.get("/login"))
        browser.post("/login", data={"token": form, "name": "it", "password": PASSWORD})
        assert "status A900: Zebrafink" in browser.get(f"/studies/{uid}").text


def test_a_bug_is_a_page_without_its_words(
    at: House, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an exception says may be a patient's name; the log has where it was."""
    uid = at.file(builders.mr_study(60))

    def broken(*_: object) -> None:
        raise ValueError(SECRET["PatientName"])

    monkeypatch.setattr("cauda.core.views.study", broken)
    with pages(at) as (_, browser):
        answer = browser.get(f"/studies/{uid}")
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    said = "".join(capfd.readouterr())
    assert "page_failed" in said
    assert "Zebrafink" not in answer.text + said


def test_every_button_does_what_the_command_does_and_says_who_pressed_it(at: House) -> None:
    uid = at.file(builders.mr_study(65))
    with pages(at) as (_, browser):

        def press(button: str, **fields: str) -> str:
            form = token(browser.get(f"/studies/{uid}"))
            return said(browser.post(f"/studies/{uid}/{button}", data={"token": form, **fields}))

        assert "Waits: " in said(browser.get(f"/studies/{uid}"))
        assert "It is held." in press("hold", text="asks the ward <b>")
        assert at.rows("study")[0]["hold_text"] == "asks the ward <b>"
        assert "asks the ward &lt;b&gt;" in browser.get(f"/studies/{uid}").text
        assert "It is held already." in press("hold")
        assert "It goes on." in press("release")
        assert "It completes within a second." in press("complete")
        until(lambda: at.states("revision") == ["due"], what="a revision")
        assert grade_next(at.post())
        assert "Nothing was refused" not in press("retry")
        assert "It will be graded again." in press("requeue")
        until(lambda: at.states("revision") == ["reported", "due"], what="another revision")
        done = [row["detail"]["action"] for row in at.rows("event", kind="page_action")]
        assert done == ["Hold", "Release", "Complete now", "Send again", "Grade again"]
        assert "somebody at this machine asked for: Grade again" in said(browser.get(f"/studies/{uid}"))


def test_retract_asks_why_takes_the_results_back_and_says_so(at: House) -> None:
    """Nothing happens without a reason of the list and one in words; both stand in the ledger."""
    uid = reported(at, 71)
    with pages(at) as (_, browser):
        page = browser.get(f"/studies/{uid}")
        form = {"token": token(page), "choice": "wrong-level"}
        offered = re.findall(r'<option value="([^"]*)">', page.text)
        assert set(offered) == {"", "wrong-level", "wrong-grade", "wrong-patient", "poor-images"}
        for fields in ({}, {"text": "  "}, {"text": "counted from L6", "choice": ""}, {"text": "x", "choice": "bored"}):
            assert browser.post(f"/studies/{uid}/retract", data=form | fields).status_code == 400
        assert at.states("revision") == ["reported"]
        answer = browser.post(f"/studies/{uid}/retract", data=form | {"text": "counted from <L6>"})
        assert "The results are taken back." in said(answer)
        assert at.rows("revision", kind="retract")[0]["retraction"] == "wrong-level"
        assert at.rows("event", kind="page_action")[0]["detail"] == {
            "user": "somebody at this machine", "action": "Retract", "text": "counted from <L6>",
        }  # fmt: skip
        page = browser.get(f"/studies/{uid}")
        assert "Revision 1 was taken back: wrong level" in said(page)
        assert "asked for: Retract, counted from <L6>" in said(page)
        assert f"/studies/{uid}/retract" not in page.text, "there is nothing any more"
        assert "RETRACTED: DO NOT USE" in said(page)
        again = browser.post(f"/studies/{uid}/retract", data=form | {"text": "once more"})
        assert "Nothing was made of it that could be taken back." in said(again)
        assert grade_next(at.post())
        page = browser.get(f"/studies/{uid}")
        assert "Revision 2: the note that takes the results back was made" in said(page)
        assert "Revision 2, takes the results back" in said(page)
        assert page.text.count("AI canal, unverified") == 1, "findings stand with the revision that found them"
        (warning,) = at.rows("result", kind="warning")
        assert f'src="/studies/{uid}/results/{warning["sop_uid"]}.png"' in page.text
        assert browser.get(f"/studies/{uid}/results/{warning['sop_uid']}.png").status_code == 200
        rows = re.findall(r"<tr><td>(\w[\w ]*)</td><td class=\"number\">(\d)</td>", page.text)
        assert sorted(rows) == [("Page that warns", "2"), ("Retraction", "2"), ("SC", "1"), ("SR", "1")]


def test_what_was_set_aside_for_being_late_goes_when_an_operator_says_so(at: House) -> None:
    """What a setting keeps back stays."""
    uid = at.complete(builders.mr_study(72, **SECRET))
    assert grade_next(at.post())
    with at.ledger.write() as conn:
        delivery = schema.delivery
        conn.execute(update(delivery).values(state="parked", reason=Reason.SHADOW))
        first = conn.execute(select(func.min(delivery.c.id))).scalar_one()
    with pages(at) as (_, browser):
        page = browser.get(f"/studies/{uid}")
        assert "send-late" not in page.text
        with at.ledger.write() as conn:
            conn.execute(update(delivery).where(delivery.c.id == first).values(reason=Reason.TOO_LATE))
        page = browser.get(f"/studies/{uid}")
        assert f"/studies/{uid}/send-late" in page.text
        answer = browser.post(f"/studies/{uid}/send-late", data={"token": token(page)})
        assert "What was set aside for being late is due now." in said(answer)
        assert at.states("delivery") == ["due", "parked"]
        assert "send-late" not in answer.text


def test_a_button_that_another_web_site_presses_does_nothing(at: House) -> None:
    """Without the token of our page, and with a token of another browser's page."""
    uid = at.file(builders.mr_study(66))
    with pages(at) as (door, browser):
        stranger = httpx.get(f"http://{HOST}:{door.ports.http}/studies/{uid}", trust_env=False)
        browser.get(f"/studies/{uid}")
        for fields in ({}, {"token": ""}, {"token": token(stranger)}):
            assert browser.post(f"/studies/{uid}/hold", data=fields).status_code == 403
            assert browser.post(f"/studies/{uid}/retract", data=fields | WHY).status_code == 403
        assert browser.get(f"/studies/{uid}/hold").status_code in {404, 405}
        assert at.rows("study")[0]["hold"] is None
        assert browser.post(f"/studies/{uid}/hold", content=b"x" * 20_000).status_code == 413
        form = token(browser.get(f"/studies/{uid}"))
        assert browser.post(f"/studies/{uid}/explode", data={"token": form}).status_code == 404


def test_a_web_site_whose_name_points_to_loopback_sees_nothing(at: House) -> None:
    """DNS rebinding: the browser takes our page for the site's own."""
    uid = at.file(builders.mr_study(67))
    with pages(at) as (_, browser):
        answer = browser.get("/", headers={"Host": "evil.example"})
        assert (answer.status_code, uid in answer.text) == (403, False)
        assert uid in browser.get("/", headers={"Host": "localhost:1"}).text


def test_where_users_are_named_nothing_is_shown_or_done_before_a_login(at: House) -> None:
    uid = reported(at, 68)
    (sc,) = at.rows("result", kind="sc")
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    paths = ("/", f"/studies/{uid}", f"/studies/{uid}/results/{sc['sop_uid']}.png", "/studies/1.2.3")
    with pages(at, http={"port": 0, "users": users}) as (_, browser):
        for path in paths:
            answer = browser.get(path)
            assert answer.url.path == "/login", path
            assert uid in path or uid not in answer.text  # where to go on is what the visitor said
        form = token(browser.get("/login"))
        assert browser.post(f"/studies/{uid}/hold", data={"token": form}).url.path == "/login"
        assert at.rows("study")[0]["hold"] is None
        wrong = browser.post("/login", data={"token": form, "name": "it", "password": "wrong horse battery"})
        assert (wrong.status_code, "do not go together" in wrong.text) == (403, True)
        answer = browser.post(
            "/login", data={"token": form, "name": "it", "password": PASSWORD, "next": f"/studies/{uid}"}
        )
        assert answer.url.path == f"/studies/{uid}"
        cookie = answer.history[0].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie  # it came without TLS
        assert browser.post(f"/studies/{uid}/hold", data={"token": token(answer)}).status_code == 200
        assert at.rows("event", kind="page_action")[0]["detail"] == {"user": "it", "action": "Hold"}
        out = browser.post("/logout", data={"token": token(browser.get("/"))})
        assert out.url.path == "/login"
        assert browser.get("/").url.path == "/login"


def test_a_login_goes_back_to_our_pages_only(at: House) -> None:
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    with pages(at, http={"port": 0, "users": users}) as (_, browser):
        for target in ("//evil.example", "https://evil.example", "/\\evil.example", "/login"):
            form = {"token": token(browser.get("/login")), "name": "it", "password": PASSWORD, "next": target}
            answer = browser.post("/login", data=form, follow_redirects=False)
            assert answer.headers["location"] == "/"


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(at: House) -> None:
    """And only where the proxy is named: another caller's word about itself is worth nothing."""
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.2.3"}
    for trusted, secure in (([HOST], True), ([], False)):
        with pages(at, http={"port": 0, "users": users, "trusted_proxies": trusted}) as (_, browser):
            cookie = browser.get("/login", headers=said).headers["set-cookie"].lower()
            assert ("secure" in cookie) is secure


def test_who_guesses_passwords_has_to_wait(at: House) -> None:
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    with pages(at, http={"port": 0, "users": users}) as (_, browser):
        form = {"token": token(browser.get("/login")), "name": "it", "password": "wrong horse battery"}
        answers = [browser.post("/login", data=form) for _ in range(6)]
        assert [one.status_code for one in answers] == [403] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert browser.post("/login", data=form | {"password": PASSWORD}).status_code == 429


def test_what_is_typed_as_a_name_is_in_no_log(at: House) -> None:
    """People type their password there, and a patient's name; who is logged in is named."""
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    stream = io.StringIO()
    with pages(at, http={"port": 0, "users": users}) as (_, browser), logged(stream, level="debug"):
        for name in ("MUELLER^ANNA", "s3cret horse battery"):
            form = {"token": token(browser.get("/login")), "name": name, "password": "wrong horse battery"}
            assert browser.post("/login", data=form).status_code == 403
        form = {"token": token(browser.get("/login")), "name": "it", "password": PASSWORD}
        assert browser.post("/login", data=form).status_code == 200
    written = stream.getvalue()
    assert written.count('"login_failed"') == 2
    assert not any(part in written for part in ("MUELLER", "s3cret", "wrong horse", PASSWORD))
    assert '"user": "it"' in written


def test_beyond_loopback_there_are_no_pages_without_users(at: House) -> None:
    uid = at.file(builders.mr_study(69))
    with pages(at, http={"host": "0.0.0.0", "port": 0}) as (_, browser):  # noqa: S104  the case itself
        for path in ("/", f"/studies/{uid}", "/login"):
            answer = browser.get(path)
            assert (answer.status_code, uid in answer.text) == (403, False), path
            assert "cauda config user" in answer.text
        assert browser.get("/healthz").text == "ok\n"


def test_every_page_forbids_scripts_frames_and_keeping(at: House) -> None:
    uid = reported(at, 70)
    with pages(at) as (_, browser):
        for path in ("/", f"/studies/{uid}", "/login", "/studies/1.2", "/?state=nonsense"):
            answer = browser.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script" not in policy
            assert "<script" not in answer.text
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "style=" not in answer.text  # the policy would drop it


def test_the_list_shows_each_study_once_over_its_pages_newest_first(at: House) -> None:
    """Many came in the same second: what is on one page is on no other."""
    wanted = [f"1.2.{number}" for number in range(120)]
    with at.ledger.write() as conn:
        for number, uid in enumerate(wanted):
            conn.execute(
                insert(schema.study).values(
                    uid=uid, state="complete", source="SCANNER", first_at=1000.0 + number // 40, opened_at=0.0
                )
            )
        intake.hold(at.ledger, conn, "1.2.7", Reason.OPERATOR, "asks the ward")
    with pages(at) as (_, browser):
        seen: list[str] = []
        path: str | None = "/"
        while path:
            answer = browser.get(path)
            seen += re.findall(r'href="/studies/([0-9.]+)"', answer.text)
            following = re.findall(r'rel="next" href="([^"]+)"', answer.text)
            path = unescape(following[0]) if following else None
        assert sorted(seen) == sorted(wanted)
        assert [int(uid.rpartition(".")[2]) // 40 for uid in seen] == [2] * 40 + [1] * 40 + [0] * 40
        held = browser.get("/?state=held")
        assert re.findall(r'href="/studies/([0-9.]+)"', held.text) == ["1.2.7"]
        assert "asks the ward" in held.text
        assert browser.get("/?uid=1.2.9").url.path == "/studies/1.2.9"
        for path in ("/?uid=../../etc", "/?before=x", "/studies/1.2.999", "/studies/..%2f..%2fetc"):
            assert browser.get(path).status_code == 404, path
