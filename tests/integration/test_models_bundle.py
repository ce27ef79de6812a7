"""A bundle is trusted only after every file, the digest and the reference inputs agree."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from cauda.core.domain import Condition, GradeScale, Level, Reason
from cauda.core.errors import Misconfigured, Rejected
from cauda.models import bundle, graders, manifest
from cauda.models.backbones import Backbone, TimmEmbedder, create
from cauda.models.bundle import Card, Made, load_bundle, save_bundle
from cauda.models.datasets import read_labelled, read_rsna, split
from cauda.models.localiser import UNet
from cauda.pipeline.parts import Preprocessing

TINY = Backbone(name="lcnet_035", size_px=32)
CARD = Card(
    name="tried", version="0", scale=GradeScale.RSNA_3, footer="Central canal only.", intended_use='say "no"\nmore',
    exclusions="", training_data=("noise",),
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Made:
    """A bundle's parts fitted to noise: what it says is worthless, how it is kept is not."""
    draw = np.random.default_rng(0)
    torch.manual_seed(0)
    weights = create(TINY).state_dict()
    crops = draw.random((150, 32, 32), dtype=np.float32)
    features = TimmEmbedder(TINY, weights).embed(crops)
    levels = [level for level in Level for _ in range(30)]
    grades = np.tile(np.arange(3), 50)
    calibration = np.arange(150) % 5 == 0
    return Made(
        localiser=UNet().state_dict(),
        backbone=TINY,
        backbone_weights=weights,
        grader="logistic",
        graders=graders.fit("logistic", features, grades, levels, calibration, scale=3),
        preprocessing=Preprocessing(max_distance=9.0),
        templates=dict.fromkeys(Level, crops[0]),
        reference_crops=np.round(crops[:4] * 255).astype(np.float32) / np.float32(255),
        reference_levels=tuple(levels[:4]),
        evaluation={"accuracy": 0.33, "abstention_normal_mild": 0.02, "abstention_severe": 0.03},
    )


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A saved bundle."""
    save_bundle(tmp_path / "bundle", made, CARD)
    return tmp_path / "bundle"


def refused(folder: Path, digest: str | None = None) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        load_bundle(folder, digest)
    assert caught.value.reason is Reason.BUNDLE_INVALID
    return caught.value


def test_what_was_saved_is_what_is_loaded(folder: Path, made: Made) -> None:
    parts = load_bundle(folder, manifest.read_manifest(folder)[1])
    assert (parts.info.name, parts.info.scale, parts.info.clinical) == ("tried", GradeScale.RSNA_3, False)
    features = parts.embedder.embed(made.reference_crops)
    found = parts.grader.predict_proba(features, made.reference_levels)
    assert np.allclose(found.sum(axis=1), 1)
    assert np.array_equal(found, made.graders.predict_proba(features, made.reference_levels))
    assert manifest.read_manifest(folder)[0].intended_use == CARD.intended_use


def test_a_loaded_bundle_says_how_and_on_what_it_was_calibrated(folder: Path, made: Made, tmp_path: Path) -> None:
    """Every fifth of 30 crops a level calibrates. A bundle that does not hold their number says that it does not."""
    how = "temperature per level, on cases kept out of the fit"
    assert load_bundle(folder).info.calibration == f"{how} (6 a level); data: noise"
    uneven = made.graders.held_out | {Level.L1_L2: 5, Level.L5_S1: 8}
    assert "(5 to 8 a level)" in replace(made.graders, held_out=uneven).calibration()
    older = replace(made, graders=replace(made.graders, held_out={}))
    data = ("Grader: crops of a site", "Localiser: something else")
    save_bundle(tmp_path / "older", older, replace(CARD, training_data=data))
    said = load_bundle(tmp_path / "older").info.calibration
    assert said == f"{how} (their number is not recorded); data: crops of a site"


def test_another_digest_than_the_configured_one_refuses(folder: Path) -> None:
    assert "bundle_digest" in refused(folder, "0" * 64).message


@pytest.mark.parametrize("name", bundle.FILES)
def test_one_changed_byte_in_any_file_refuses(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert name in refused(folder).message


def test_what_is_loaded_are_the_bytes_that_were_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write into the folder must not swap a file between its check and its use."""
    opened: list[str] = []
    true_open = os.open

    def swap_after(path: str | Path, *arguments: int, **named: int) -> int:
        descriptor = true_open(path, *arguments, **named)
        if Path(path).parent == folder and Path(path).name != manifest.NAME:
            opened.append(Path(path).name)
            Path(path).unlink()
            Path(path).write_bytes(b"something else")
        return descriptor

    monkeypatch.setattr(os, "open", swap_after)
    parts = load_bundle(folder)
    assert sorted(opened) == sorted(bundle.FILES)
    assert parts.grader.predict_proba(np.zeros((1, 1280), np.float32), [Level.L1_L2]).shape == (1, 3)


@pytest.mark.parametrize("name", [bundle.GRADERS, bundle.LOCALISER])
def test_a_link_or_a_pipe_in_place_of_a_file_refuses(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    assert name in refused(folder).message
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert name in refused(folder).message


def resealed(folder: Path, **changes: object) -> Path:
    """The manifest with changes, and with the hashes of the files that are there."""
    stated, _ = manifest.read_manifest(folder)
    files = {name: bundle._sha256(folder / name) for name in stated.files}
    changed = stated.model_copy(update={"files": files} | changes)
    (folder / manifest.NAME).write_text(manifest.to_toml(changed))
    return folder


def rewritten(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    """One file of the bundle with other arrays, and the manifest that goes with it."""
    stored = safetensors.numpy.load((folder / name).read_bytes()) | arrays
    (folder / name).write_bytes(safetensors.numpy.save(stored))
    return resealed(folder)


@pytest.mark.parametrize(
    "arrays",
    [
        {"2.coefficients": np.zeros((2, 1280), np.float32)},
        {"2.classes": np.array([0, 1, 7])},
        {"2.classes": np.array([0, 1, -1])},
        {"2.mean": np.zeros(3)},
        {"temperatures": np.array([1.0, 1.0, 1.0, 0.0, 1.0])},
        {"temperatures": np.ones(4)},
        {"held_out": np.zeros((5, 2), np.int64)},
    ],
    ids=lambda arrays: f"{next(iter(arrays))}{next(iter(arrays.values())).shape}",
)
def test_arrays_that_do_not_belong_together_refuse(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Every hash is right; nothing is computed with what does not fit."""
    assert "does not hold" in refused(rewritten(folder, bundle.GRADERS, **arrays)).message


def test_a_grader_of_another_kind_than_the_manifest_says_refuses(folder: Path) -> None:
    assert "does not hold" in refused(resealed(folder, grader="svm")).message
    assert "oracle" in refused(resealed(folder, grader="oracle")).message


def test_reference_inputs_that_come_out_otherwise_refuse(made: Made, tmp_path: Path) -> None:
    """As with other library versions: every hash is right and the answers are not."""
    folder = tmp_path / "other"
    save_bundle(folder, made, CARD)
    expected = safetensors.numpy.load((folder / bundle.REFERENCE).read_bytes())["probabilities"]
    rewritten(folder, bundle.REFERENCE, probabilities=np.roll(expected, 1, axis=1))
    assert "reference inputs" in refused(folder).message
    rewritten(folder, bundle.REFERENCE, probabilities=np.full_like(expected, np.nan))
    assert "reference inputs" in refused(folder).message


def test_a_file_name_cannot_leave_the_folder(folder: Path) -> None:
    said, _ = manifest.read_manifest(folder)
    outside = said.model_copy(update={"files": {"../secret": "0" * 64}})
    (folder / manifest.NAME).write_text(manifest.to_toml(outside))
    assert "../secret" in refused(folder).message


def test_a_manifest_is_read_without_torch() -> None:
    """`doctor` and the listener's start must not wait for it."""
    program = "import sys, cauda.models.manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("name", "size"), [("vgg19", 64), ("convnext_tiny", 64), ("vit_small_patch14_dinov2.lvd142m", 518)]
)
def test_the_papers_backbones_embed_on_random_weights(name: str, size: int) -> None:
    embedder = TimmEmbedder(Backbone(name=name, size_px=size, channels=3), None)
    out = embedder.embed(np.zeros((1, 128, 128), np.float32))
    assert out.shape[0] == 1
    assert out.shape[1] >= 384


@pytest.mark.realdata
def test_real_weights_come_from_a_local_file(realdata: Path) -> None:
    """ImageNet MobileNetV2: two pictures of one kind lie closer together than two of different kinds."""
    from cauda.models.backbones import load_weights

    weights = load_weights(realdata / "weights" / "mobilenetv2_100.imagenet.pth")
    backbone = Backbone(name="mobilenetv2_100", size_px=224, channels=3, options=(("pad_type", "same"),))
    embedder = TimmEmbedder(backbone, weights)
    draw = np.random.default_rng(1)
    flat = np.full((2, 224, 224), 0.5, np.float32) + draw.normal(0, 0.01, (2, 224, 224)).astype(np.float32)
    stripes = np.tile((np.arange(224) // 8 % 2).astype(np.float32), (2, 224, 1))
    stripes = stripes * 0.8 + draw.normal(0, 0.01, stripes.shape).astype(np.float32)
    f = embedder.embed(np.concatenate([flat, stripes]).astype(np.float32))
    assert np.linalg.norm(f[0] - f[1]) < 0.5 * np.linalg.norm(f[0] - f[2])


@pytest.mark.parametrize(
    ("mild", "severe", "fine"),
    [
        (0.0, 0.0, True), (0.02, 0.03, True), (0.02, 0.04, False), (0.0, 0.01, False),
        (float("nan"), 0.0, False), (0.0, float("nan"), False), (float("inf"), 0.5, False), (0.1, -1.0, False),
    ],
)  # fmt: skip
def test_a_bundle_that_withholds_disease_is_not_loaded(
    made: Made, tmp_path: Path, mild: float, severe: float, fine: bool
) -> None:
    """CLINICAL.md 12; for serving, not only when an operator asks. TOML has nan and inf."""
    rates = {"abstention_normal_mild": mild, "abstention_moderate": 0.0, "abstention_severe": severe}
    save_bundle(tmp_path / "b", replace(made, evaluation=rates), CARD)
    if fine:
        assert load_bundle(tmp_path / "b").info.name == "tried"
    else:
        assert "abstain" in (text := refused(tmp_path / "b").message) or "Severe" in text


def test_a_bundle_that_does_not_say_what_it_withholds_is_not_loaded(made: Made, tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", replace(made, evaluation={"accuracy": 1.0}), CARD)
    assert "abstains" in refused(tmp_path / "b").message


def test_a_clinical_bundle_is_loaded_only_by_its_digest(made: Made, tmp_path: Path) -> None:
    """Its results go to live archives and do not say RESEARCH: no other bundle may stand in its place."""
    digest = save_bundle(tmp_path / "b", made, replace(CARD, clinical=True))
    assert digest in refused(tmp_path / "b").message
    assert load_bundle(tmp_path / "b", digest).info.clinical


def test_a_bundle_of_a_later_form_is_refused(folder: Path) -> None:
    assert "form 3" in refused(resealed(folder, format=3)).message


@pytest.mark.realdata
def test_the_rsna_layout_is_read_with_blank_grades_left_out(realdata: Path, tmp_path: Path) -> None:
    (study,) = read_rsna(realdata / "rsna-sample" / "kaggle")
    assert len(study.grades) == 25
    assert set(study.series.values()) == {"Axial T2", "Sagittal T2/STIR", "Sagittal T1"}
    assert all(point.file.is_file() for point in study.points)
    canal = [point for point in study.points if point.condition is Condition.CANAL]
    assert [point.level for point in canal] == list(Level)
    assert {study.series[point.series] for point in canal} == {"Sagittal T2/STIR"}
    with pytest.raises(Rejected, match=r"train\.csv"):
        read_rsna(tmp_path)


def labelled(folder: Path, *lines: str, header: str = "study,level,grade") -> Path:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("\n".join((header, *lines)) + "\n")
    return folder


def test_a_folder_with_a_csv_of_grades_is_read(tmp_path: Path) -> None:
    """A site's own 50 to 100 levels come like this; what was not graded is left out."""
    found = read_labelled(labelled(tmp_path, "a,L4/L5,Severe", "a,L5/S1,", "a,L1/L2,Normal/Mild"), GradeScale.RSNA_3)
    assert [one.study for one in found] == ["a"]
    assert found[0].grades == {(Level.L4_L5, Condition.CANAL): 2, (Level.L1_L2, Condition.CANAL): 0}


@pytest.mark.parametrize(
    ("line", "said"),
    [("a,L4/L5,Terrible", "line 2: 'Terrible'"), ("a,L7/L8,Severe", "line 2"), ("b,L4/L5,Severe", "no folder 'b'"),
     ("../..,L4/L5,Severe", "no folder")],
)  # fmt: skip
def test_a_grade_that_makes_no_sense_is_named_with_its_line(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=said):
        read_labelled(labelled(tmp_path, line), GradeScale.RSNA_3)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="'grade'"):
        read_labelled(labelled(tmp_path, "a,L4/L5", header="study,level"), GradeScale.RSNA_3)


def test_a_split_keeps_a_patient_together() -> None:
    parts = split([f"p{n % 20}" for n in range(100)], (0.8, 0.1, 0.1), 1)
    assert [len(part) for part in parts] == [16, 2, 2]
    assert not parts[0] & parts[1]


def test_an_unknown_backbone_or_grader_names_what_is_allowed() -> None:
    with pytest.raises(Misconfigured, match="timm"):
        create(Backbone(name="no_such_net"))
    empty = np.zeros(0, dtype=bool)
    with pytest.raises(Misconfigured, match="logistic"):
        graders.fit("oracle", np.zeros((0, 3), np.float32), np.zeros(0, np.int64), [], empty, scale=3)
