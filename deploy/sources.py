"""What a virtual scanner sends: synthetic studies, or the studies of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from cauda.core import stored
from cauda.models.phantom.copies import as_test, readdressed
from cauda.models.phantom.negatives import negative_study
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study
from cauda.models.phantom.truth_file import write_truth


def drawn(
    seed: int, count: int, protocol: Protocol, vendors: Sequence[str], *, truth: Path | None = None
) -> Iterator[list[Dataset]]:
    """Different synthetic studies, of each maker in turn; what is true of each is written into the folder ``truth``."""
    for number in range(count):
        study = make_study(seed, number, replace(protocol, vendor=vendors[number % len(vendors)]))
        if truth is not None:
            write_truth(study, truth)
        yield study.images


def negatives(kind: str, seed: int, count: int, protocol: Protocol, vendors: Sequence[str]) -> Iterator[list[Dataset]]:
    """Different studies of what is no lumbar spine, of each maker in turn."""
    for number in range(count):
        yield negative_study(kind, seed, number, replace(protocol, vendor=vendors[number % len(vendors)]))


def repeated(originals: Sequence[list[Dataset]], studies: int) -> Iterator[list[Dataset]]:
    """So many studies: the drawn ones, and then their copies, each of a patient of its own."""
    for number in range(studies):
        images = originals[number % len(originals)]
        yield images if number < len(originals) else readdressed(images, number)


@dataclass(frozen=True, slots=True)
class Folder:
    """The studies in a folder, each as its files in the order of sending."""

    studies: tuple[tuple[Path, ...], ...]
    others: int  # files that are no DICOM objects

    @property
    def images(self) -> int:
        """How many files belong to studies."""
        return sum(map(len, self.studies))


def folder(path: Path) -> Folder:
    """What lies in a folder and below it, series by series in the order of Instance Number; headers are read."""
    studies: dict[str, list[tuple[str, float, Path]]] = {}
    others = 0
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        try:
            header = stored.header(file)
            place = float(header.get("InstanceNumber") or 0)
            study, series, _sop, _class = (str(header[name].value) for name in _NEEDED)
        except (InvalidDicomError, KeyError, ValueError, TypeError, EOFError):
            others += 1
        else:
            studies.setdefault(study, []).append((series, place, file))
    return Folder(tuple(tuple(file for *_, file in sorted(one)) for one in studies.values()), others)


_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def replayed(found: Folder, studies: int, *, renamed: str | None = None) -> Iterator[list[Dataset]]:
    """So many studies of a folder, one at a time in memory.

    As they are, and at most as many as there are; or, ``renamed``, as copies under UIDs that follow from this word, of
    test patients, round after round.
    """
    if renamed is None:
        for files in islice(found.studies, studies):
            yield [dcmread(file) for file in files]
        return
    for number in range(studies):
        files = found.studies[number % len(found.studies)]
        yield as_test([dcmread(file) for file in files], "replay", renamed, str(number // len(found.studies)))
