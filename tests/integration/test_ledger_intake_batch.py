"""Images that are entered together make the ledger that they make one by one, in fewer statements."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ledgers import House, counted, current_of, sha

from cauda.core import intake, schema
from cauda.core.headers import Header, Role
from cauda.core.intake import Filed, Outcome

pytestmark = pytest.mark.peers


def image(study: str, number: int, **changes: Any) -> Filed:
    """A new one of some patient; keyword arguments change its header."""
    header = {
        "study_uid": study, "series_uid": f"{study}.{number % 3}", "sop_uid": f"{study}.9.{number}",
        "sop_class_uid": "1.2.840", "role": Role.AXIAL, "ours": False, "identity": sha("patient"),
        "demographics": sha("words"), "study_date": "20270110",
    } | changes  # fmt: skip
    content = sha(repr(sorted(header.items())))
    return Filed(header=Header(**header), path=content, version=1, sha256=content, dataset_sha256=content, bytes=1,
                 association_id=None, source="MR1")  # fmt: skip


def drawn(draw: random.Random, prefix: str) -> Iterator[list[Filed]]:
    """Batches of what may come: new images and known ones, of other patients, corrected, changed, moved, of ours."""
    for _ in range(40):
        batch: dict[tuple[str, str], Filed] = {}
        for _ in range(draw.randint(1, 12)):
            study, number = draw.choice("123"), draw.randint(1, 25)
            place = "0" if draw.random() < 0.2 else study  # the same UID in several studies, or in one
            one = image(
                f"{prefix}.{study}", number, sop_uid=f"{prefix}.9.{place}.{number}",
                role=draw.choice([*Role, Role.AXIAL, Role.SAGITTAL, Role.SAGITTAL]), ours=draw.random() < 0.1,
                identity=sha(draw.choice(["patient"] * 40 + ["another"])), study_date=draw.choice([None, "20270111"]),
                demographics=sha(draw.choice(["words"] * 4 + ["corrected"])),
            )  # fmt: skip
            batch[one.header.study_uid, one.header.sop_uid] = one  # the filer never has an image twice in a batch
        yield list(batch.values())


def enter(house: House, batch: Sequence[Filed], draw: random.Random, *, together: bool) -> list[Outcome]:
    """Enter a batch, each as the version and beside the picture that the ledger has."""
    with house.ledger.write() as conn:
        placed = []
        for one in batch:
            kept = intake.versions(conn, one.header.study_uid, one.header.sop_uid)
            same = draw.random() < 0.9 if kept else None
            broken, mends = (bool(kept) and draw.random() < 0.1 for _ in range(2))
            placed.append(replace(one, version=len(kept) + 1, compared=current_of(kept), same_picture=same,
                                  broken=broken, mends=mends))  # fmt: skip
        if together:
            return intake.file_instances(house.ledger, conn, placed)
        return [intake.file_instances(house.ledger, conn, [one])[0] for one in placed]


def told(house: House, prefix: str) -> list[Any]:
    """All that the ledger says of the studies under a prefix, without row numbers and prefix."""
    rows = []
    for table, column in ((schema.study, "uid"), (schema.instance, "study_uid"), (schema.event, "study_uid")):
        for row in house.rows(table):
            values = row._mapping
            if str(values[column]).startswith(prefix):
                rows.append(repr(sorted((k, v) for k, v in values.items() if k not in {"id", "path", "sha256",
                            "dataset_sha256"})).replace(f"'{prefix}.", "'").replace(f" {prefix}.", " "))  # fmt: skip
    return sorted(rows)


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_makes_the_ledger_that_its_images_make_one_by_one(house: House, seed: int) -> None:
    apart, outcomes = random.Random(seed), []
    for batch in drawn(random.Random(seed), "71"):
        house.time.passes(10)
        outcomes += enter(house, batch, apart, together=False)
    house.time.now -= 400
    apart = random.Random(seed)
    together = [one for batch in drawn(random.Random(seed), "72") for one in _later(house, batch, apart)]
    assert together == outcomes
    assert set(outcomes) >= set(Outcome) - {Outcome.DUPLICATE}
    assert told(house, "71") == told(house, "72")


def _later(house: House, batch: Sequence[Filed], draw: random.Random) -> list[Outcome]:
    house.time.passes(10)
    return enter(house, batch, draw, together=True)


def test_the_statements_of_a_burst_do_not_grow_with_its_images(house: House) -> None:
    counts = []
    for study, images in (("1.1", 4), ("1.2", 64)):
        with counted(house) as count, house.ledger.write() as conn:
            entered = intake.file_instances(house.ledger, conn, [image(study, number) for number in range(images)])
        assert entered == [Outcome.NEW] * images
        counts.append(count["statements"])
    assert counts[0] == counts[1] <= 15
