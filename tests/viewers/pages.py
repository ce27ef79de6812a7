"""Our own pages as a browser shows them: `make pages`. Phantoms only; the screenshots in out/pages are for people.

The command fails where a page has an error, a picture that is not shown, a width that needs scrolling or another look
without scripts, where it names a patient, and where one of the states that a study can be in was not shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops
from pydicom.uid import ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).parents[1]))

from listener_house import listener
from peers import HOST
from worker_house import House, house

from cauda.core import claims, deliveries, intake, passwords, retractions
from cauda.core.domain import Reason
from cauda.core.retractions import Why
from cauda.models.bundle import load_bundle
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next
from cauda.worker.post import Post

HERE = Path(__file__).parent
STARTER = HERE.parents[1] / "models" / "starter"
SEED = 1
QUIET = {"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400}
SECRETS = ("PHANTOM", "CAUDA-TEST")  # patient name and ID of every phantom
LEASE_S = 600.0
BECAUSE = "sagittal and axial T2 are there and 10 minutes were quiet"


def main() -> None:
    """Make studies in every state, take the pictures, say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/pages"))
    parser.add_argument("--keep", type=Path, help="a folder for the studies, which the next run takes as they are")
    given = parser.parse_args()
    browser = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if browser is None:
        sys.exit("not found: chromium: sudo apt-get install chromium, or say where one is with CHROMIUM=")
    given.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        data = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cauda-pages-")))
        at = house(
            data / "node",
            destinations=[f"folder:{data}/archive", {"name": "pacs", "url": f"dimse://P@{HOST}:9?test=1&research=1"}],
        )
        made = data / "studies.json"
        if not made.exists():
            made.write_text(json.dumps(scene(at)))
        studies = json.loads(made.read_text())
        users = [{"name": "it", "hash": passwords.hashed("nobody logs in here")}]
        door = stack.enter_context(listener(at.data, completeness=QUIET))
        guarded = stack.enter_context(listener(data / "guarded", http={"port": 0, "users": users}))
        base = f"http://{HOST}:{door.ports.http}"
        asked = [{"name": "list", "url": base}, {"name": "login", "url": f"http://{HOST}:{guarded.ports.http}/login"}]
        asked += [{"name": name, "url": f"{base}/studies/{uid}"} for name, uid in studies.items()]
        asked += [{"name": "nothing", "url": f"{base}/?state=grading"}]
        answer = subprocess.run(
            ["node", HERE / "pages.mjs", browser, given.out],
            input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    seen = json.loads(answer.stdout)
    sys.exit("\n".join([*faults(seen), *changed(seen, given.out)]) or 0)


def scene(at: House) -> dict[str, str]:
    """Study Instance UIDs by what became of the study."""
    parts, made = load_bundle(STARTER, None), {}
    # "reported" first: once the archive is known to be away nothing is claimed for it that it could refuse
    for name, number in {"reported": 15, "retracted": 14, "not-analysed": 5, "revised": 4}.items():
        images = make_study(SEED, number, Protocol(balanced=True, syntax=ExplicitVRLittleEndian)).images
        axial = [one for one in images if abs(float(one.ImageOrientationPatient[4])) > 0.5]
        late = {"not-analysed": axial, "revised": axial[2 * len(axial) // 3 :]}.get(name, [])
        grading = at.settings.grading.model_copy(update={"heat_map_page": name == "reported"})
        post = replace(at.post(grading=grading), parts=parts)
        later = {image.SOPInstanceUID for image in late}
        made[name] = at.file([image for image in images if image.SOPInstanceUID not in later])
        at.freeze(made[name], reason=BECAUSE)
        work(at, post, "refused" if name == "reported" else "")
        if name == "revised":
            at.file(late)
            at.freeze(made[name], reason="images came later")
            work(at, post)
        if name == "retracted":
            at.write(retractions.retract, made[name], Why.WRONG_LEVEL)
            work(at, post)
    few = make_study(SEED, 20, Protocol(syntax=ExplicitVRLittleEndian)).images
    for name in ("failed", "held", "queued", "receiving"):
        others = [renamed(image, name) for image in few]
        made[name] = at.file(others[:30])
        if name != "receiving":
            at.freeze(made[name], reason=BECAUSE)
        if name == "failed":
            claim = claims.claim(at.ledger, worker="w", lease_s=LEASE_S, max_deaths=3)
            assert claim is not None
            claims.fail(
                at.ledger, claim, Reason.BUG, "  worker/revision.py:99 in grade_revision: 1 / 0\nZeroDivisionError"
            )
        if name == "held":
            at.write(
                intake.hold, made[name], Reason.IDENTITY_MISMATCH, "the archive has this study with another PatientID"
            )
    return made


def renamed(image: Any, name: str) -> Any:
    """The same picture in another study."""
    other = image.copy()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(other, keyword, f"{image.get(keyword)}.{len(name)}")
    return other


def work(at: House, post: Post, refused: str = "") -> None:
    """Grade and deliver until nothing is due; the archive is away, or says what it refuses."""
    while grade_next(post):
        pass
    if refused:
        claim = deliveries.claim(at.ledger, worker="w", lease_s=LEASE_S, known=("pacs",))
        assert claim is not None
        deliveries.refused(at.ledger, claim, Reason.DESTINATION_REFUSED, "0xA900 Data Set does not match SOP Class")
    while deliver_next(post):
        pass


def faults(seen: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with a page, in whatever way it is looked at."""
    for one in seen:
        yield from (f"{one['name']} {one['as']}: {what}" for what in one["wrong"])
        yield from (f"{one['name']}: names a patient" for secret in SECRETS if secret in one["text"])
    listed = next(one["text"] for one in seen if (one["name"], one["as"]) == ("list", "light"))
    for state in ("reported", "not analysed", "failed", "held", "retracted", "being received", "waits for the grader"):
        if state not in listed:
            yield f"list: no study is {state}"


def changed(seen: Sequence[dict[str, Any]], out: Path) -> Iterator[str]:
    """Pages that look otherwise without scripts."""
    for name in dict.fromkeys(one["name"] for one in seen):
        with Image.open(out / f"{name}-light.png") as scripts, Image.open(out / f"{name}-no-script.png") as none:
            if (
                scripts.size != none.size
                or ImageChops.difference(scripts.convert("RGB"), none.convert("RGB")).getbbox()
            ):
                yield f"{name}: looks otherwise without scripts"


if __name__ == "__main__":
    main()
