"""Points travel between series in millimetres, whatever the orientation, the numbering and the order of arrival."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from analytic_spine import Spine, axial_block, multi_frame, sagittal, slice_image, study
from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.pipeline.crop import graded_crop, patch
from cauda.pipeline.frames import frames
from cauda.pipeline.sagittal import upright
from cauda.pipeline.source import SourceImage
from cauda.pipeline.stacks import stacks
from cauda.pipeline.volume import series_volumes, volumes

MARKER = (20.0, 45.0, -10.0)  # on the patient's left, behind the canal
MARKED = Spine(marker=MARKER)

AXIAL_ORIENTATIONS = [
    ((1, 0, 0), (0, 1, 0)),  # head first supine, as usual
    ((-1, 0, 0), (0, -1, 0)),  # prone, not turned
    ((-1, 0, 0), (0, 1, 0)),  # columns run from the patient's left to the right
    ((0, 1, 0), (1, 0, 0)),  # lying on its side
    ((0.996, 0.087, 0), (-0.087, 0.996, 0)),
]


def _axial(right: Sequence[float], down: Sequence[float], z: float) -> SourceImage:
    across, along = np.array(right, dtype=float), np.array(down, dtype=float)
    origin = np.array([0.0, 30.0, z]) - 80 * across - 80 * along
    return slice_image(
        MARKED, origin=origin, right=across, down=along, uid=f"1.{z:.0f}".replace("-", "9"), series="1", number=1
    )


@pytest.mark.parametrize(("right", "down"), AXIAL_ORIENTATIONS)
@pytest.mark.parametrize("direction", [1, -1])
def test_the_patients_left_is_on_the_viewers_right_in_every_orientation(
    right: Sequence[float], down: Sequence[float], direction: int
) -> None:
    images = [_axial(right, down, z) for z in (-18.0, -14.0, -10.0, -6.0, -2.0)[::direction]]
    (volume,) = volumes(images)
    nearest = round(volume.voxel(MARKER)[2])
    cut = patch(volume, nearest, (0.0, 30.0, -10.0), 80.0, 160)
    row, col = np.unravel_index(int(cut.pixels.argmax()), cut.pixels.shape)
    expected = 79.5 + 20 / 0.5, 79.5 + 15 / 0.5
    assert np.hypot(col - expected[0], row - expected[1]) < 10  # the ball has a radius of 8 pixels
    crop = graded_crop(volume, nearest, (0.0, 30.0, -10.0), 80.0, 160)
    assert crop[:, 80:].mean() > crop[:, :80].mean()


def test_a_mirrored_orientation_would_be_noticed() -> None:
    """The guard of the test above: the same pixels under another orientation land on the other side."""
    image = _axial((1, 0, 0), (0, 1, 0), -10.0)
    image.header.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    (volume,) = volumes([image])
    cut = patch(volume, 0, volume.point_mm(80, 80, 0), 80.0, 160)
    assert np.unravel_index(int(cut.pixels.argmax()), cut.pixels.shape)[1] < 80


@pytest.mark.parametrize("flipped", [False, True])
def test_a_patient_point_is_found_on_the_sagittal_stack(flipped: bool) -> None:
    (volume,) = volumes(sagittal(MARKED, flipped=flipped))
    brightest = np.unravel_index(int(volume.pixels.argmax()), volume.pixels.shape)
    found = volume.point_mm(float(brightest[2]), float(brightest[1]), float(brightest[0]))
    assert np.linalg.norm(np.subtract(found, MARKER)) < 4.5
    turned = upright(volume)
    assert turned.voxel(MARKER)[1] == pytest.approx(160.0)
    assert turned.affine[2, 1] < 0 < turned.affine[1, 0]


def test_upright_turns_any_sagittal_orientation_the_same_way() -> None:
    spine = Spine()
    usual = upright(volumes(sagittal(spine))[0])
    for right, down, origin in [
        ((0, -1, 0), (0, 0, 1), (89, -149)),
        ((0, 0, -1), (0, 1, 0), (-70, 150)),
        ((0, 0, 1), (0, -1, 0), (89, -149)),
    ]:
        shape = (160, 300) if right[2] else (300, 160)
        images = [
            slice_image(
                spine, origin=(x, *origin), right=right, down=down, uid=f"1.{i}", series="1", number=i, shape=shape
            )
            for i, x in enumerate(np.arange(-24.0, 25.0, 4.0), start=1)
        ]
        turned = upright(volumes(images)[0])
        at = turned.voxel(spine.disc_point(2))
        same = usual.voxel(spine.disc_point(2))
        assert at[:2] == pytest.approx(same[:2])
        assert turned.pixels.shape == usual.pixels.shape


def test_blocks_nearly_edge_to_edge_are_told_apart() -> None:
    spine = Spine(spacing=22.0)  # blocks of 16 mm, 22 mm apart, the upper ones parallel
    images = [image for disc in range(5) for image in axial_block(spine, disc, start=1 + 5 * disc)]
    found = stacks([frame for image in images for frame in frames(image)])
    assert sorted(len(stack.frames) for stack in found) == [5] * 5
    for stack in found:
        steps = [b.position - a.position for a, b in pairwise(stack.frames)]
        assert np.allclose(steps, steps[0], atol=1e-6)


def test_order_of_arrival_instance_numbers_and_uids_change_no_affine() -> None:
    images = axial_block(Spine(), 1) + axial_block(Spine(), 0, start=6)
    usual = {tuple(np.round(v.affine.ravel(), 6)): v.pixels for v in volumes(images)}
    numbers = list(range(100, 110))
    random.Random(3).shuffle(numbers)
    random.Random(4).shuffle(images)
    for image, number in zip(images, numbers, strict=True):
        image.header.InstanceNumber = number
        image.header.SOPInstanceUID = f"2.25.{number * 7919}"
    again = {tuple(np.round(v.affine.ravel(), 6)): v.pixels for v in volumes(images)}
    assert usual.keys() == again.keys()
    assert all(np.array_equal(usual[key], again[key]) for key in usual)


UNEVEN: dict[str, Callable[[list[SourceImage]], list[SourceImage]]] = {
    "one lost": lambda images: images[:4] + images[5:],
    "two lost": lambda images: images[:3] + images[4:8] + images[9:],
    "steps of two sizes": lambda images: [_moved(image, 0.6 * (n % 2)) for n, image in enumerate(images)],
    "whole millimetres": lambda images: [_rounded(image) for image in images],
}


def _moved(image: SourceImage, mm: float) -> SourceImage:
    x, y, z = image.header.ImagePositionPatient
    image.header.ImagePositionPatient = [x + mm, y, z]
    return image


def _rounded(image: SourceImage) -> SourceImage:
    image.header.ImagePositionPatient = [round(v + 0.4) for v in image.header.ImagePositionPatient]
    return image


@pytest.mark.parametrize("change", UNEVEN.values(), ids=UNEVEN)
@pytest.mark.parametrize("turned", [False, True])
def test_an_uneven_stack_is_one_and_every_slice_stays_in_its_place(
    change: Callable[[list[SourceImage]], list[SourceImage]], turned: bool
) -> None:
    images = change(sagittal(MARKED, flipped=turned))
    (found,) = volumes(images)
    assert len(found.slices) == len(images)
    for volume in (found, upright(found)):
        middle = (volume.pixels.shape[2] - 1) / 2, (volume.pixels.shape[1] - 1) / 2
        for index, ref in enumerate(volume.slices):
            image = next(i for i in images if i.header.SOPInstanceUID == ref.sop_instance_uid)
            centre = np.add(image.header.ImagePositionPatient, (0.0, middle[0], -middle[1]))
            assert volume.point_mm(*middle, index) == pytest.approx(tuple(centre))
            assert volume.voxel(tuple(centre)) == pytest.approx((*middle, index), abs=1e-6)
        between = volume.point_mm(*middle, 3.5)
        assert volume.voxel(between)[2] == pytest.approx(3.5)
        beyond = volume.point_mm(*middle, len(images) + 1.0)
        assert volume.voxel(beyond)[2] == pytest.approx(len(images) + 1.0)


@pytest.mark.parametrize("lost", [[2], [1, 2]])
def test_an_axial_block_with_lost_slices_stays_one_and_joins_no_other(lost: list[int]) -> None:
    images = [image for n, image in enumerate(axial_block(Spine(), 2)) if n not in lost]
    images += axial_block(Spine(), 1, start=6)
    assert sorted(len(volume.slices) for volume in volumes(images)) == sorted([5 - len(lost), 5])


def test_a_slice_sent_twice_under_two_uids_counts_once() -> None:
    images = sagittal(Spine())
    twin = sagittal(Spine())[3]
    twin.header.SOPInstanceUID = "9.9"
    (volume,) = volumes([*images, twin])
    assert len(volume.pixels) == len(images)


def test_two_echoes_at_one_place_become_two_volumes() -> None:
    first, second = sagittal(Spine(), EchoTime=20.0), sagittal(Spine(fluid=300), EchoTime=90.0)
    for image in second:
        image.header.SOPInstanceUID += ".2"
    assert [len(volume.pixels) for volume in volumes([*first, *second])] == [len(first), len(second)]


def test_stations_of_a_whole_spine_in_one_series_become_stacks_of_their_own() -> None:
    lower, upper = sagittal(Spine()), sagittal(Spine())
    for image in upper:
        x, y, z = image.header.ImagePositionPatient
        image.header.ImagePositionPatient = [x, y, z + 250]
        image.header.SOPInstanceUID += ".2"
    found = volumes([image for pair in zip(lower, upper, strict=True) for image in pair])
    assert [len(volume.pixels) for volume in found] == [len(lower), len(upper)]


def test_two_pictures_of_one_plane_do_not_make_a_flat_volume() -> None:
    one, two = sagittal(Spine())[:1], sagittal(Spine())[:1]
    x, y, z = two[0].header.ImagePositionPatient
    two[0].header.ImagePositionPatient = [x, y + 5, z]
    two[0].header.SOPInstanceUID = "9.9"
    for volume in volumes([*one, *two]):
        assert abs(np.linalg.det(volume.affine)) > 0.1


def test_enhanced_and_classic_become_the_same_volume() -> None:
    classic = axial_block(Spine(), 0) + axial_block(Spine(), 1, start=6)
    enhanced = multi_frame(classic)
    assert enhanced.header.get("ImagePositionPatient") is None
    for one in volumes([enhanced]):
        same = next(v for v in volumes(classic) if np.allclose(v.affine, one.affine))
        assert np.array_equal(one.pixels, same.pixels)
        assert [ref.frame for ref in one.slices] == [ref.instance_number for ref in same.slices]


def test_rescale_and_monochrome1_are_applied() -> None:
    plain = volumes(sagittal(Spine()))[0].pixels
    scaled = volumes(sagittal(Spine(), RescaleSlope="2", RescaleIntercept="-5"))[0].pixels
    assert np.array_equal(scaled, plain * 2 - 5)
    turned = volumes(sagittal(Spine(), PhotometricInterpretation="MONOCHROME1"))[0].pixels
    assert np.array_equal(turned, 4095 - plain)


HOSTILE: list[dict[str, Any]] = [
    {"ImagePositionPatient": None},
    {"ImageOrientationPatient": None},
    {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
    {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    {"ImageOrientationPatient": [float("nan")] * 6},
    {"ImagePositionPatient": [float("inf"), 0, 0]},
    {"PixelSpacing": [0, 0]},
    {"PixelSpacing": [-1, 1]},
    {"PixelSpacing": None},
    {"Rows": 65535, "Columns": 65535},
    {"Rows": 0},
    {"Rows": None},
    {"NumberOfFrames": 2000000000},
    {"SamplesPerPixel": 3},
]


@pytest.mark.parametrize("tags", HOSTILE, ids=[",".join(tags) for tags in HOSTILE])
def test_a_hostile_header_has_no_geometry_and_raises_nothing(tags: dict[str, Any]) -> None:
    image = sagittal(Spine())[0]
    for keyword, value in tags.items():
        if value is None:
            del image.header[keyword]
        else:
            setattr(image.header, keyword, value)
    assert frames(image) == []


def test_undecodable_slices_are_left_out_and_a_series_of_them_is_rejected() -> None:
    images = sagittal(Spine())
    broken = [SourceImage(header=image.header, read=_truncated(image)) for image in images[:4]]
    found, missing = series_volumes([f for image in [*broken, *images[4:]] for f in frames(image)])
    assert missing == 4
    assert sum(len(volume.pixels) for volume in found) == len(images) - 4
    everything = [SourceImage(header=image.header, read=_truncated(image)) for image in images]
    with pytest.raises(Rejected) as rejected:
        volumes(everything)
    assert rejected.value.reason is Reason.UNDECODABLE


def _truncated(image: SourceImage) -> Any:
    def read() -> Dataset:
        whole = image.read()
        whole.PixelData = whole.PixelData[:100]
        return whole

    return read


def test_a_file_that_reads_as_an_empty_data_set_is_undecodable() -> None:
    images = [SourceImage(header=image.header, read=Dataset) for image in study(Spine())[:3]]
    with pytest.raises(Rejected):
        volumes(images)
