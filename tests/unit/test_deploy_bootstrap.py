"""What a process starts with: which bundle, which waits, and what makes a fingerprint."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from cauda.core.errors import Misconfigured
from cauda.core.settings import Settings, load
from cauda.deploy import bootstrap


def test_up_waits_seconds_and_a_server_minutes() -> None:
    """CLINICAL.md 3."""
    server = Settings().completeness
    assert (server.after_release_s, server.quiet_s, server.hard_age_s) == (600, 600, 5400)
    up = bootstrap.for_up(Settings()).completeness
    assert (up.after_release_s, up.quiet_s, up.hard_age_s) == (5, 60, 600)


def test_what_a_site_says_goes_before_the_waits_of_up(tmp_path: Path) -> None:
    config = tmp_path / "cauda.toml"
    config.write_text("[completeness]\nquiet_s = 600\n")
    made = bootstrap.for_up(load(config, environ={"CAUDA_COMPLETENESS__AFTER_RELEASE_S": "7"})).completeness
    assert (made.after_release_s, made.quiet_s, made.hard_age_s) == (7, 600, 600)


def test_a_longer_timeout_is_not_another_configuration() -> None:
    plain = bootstrap.fingerprint(Settings())
    patient = Settings.model_validate({"grading": {"time_limit_s": 99}, "node": {"port": 1}, "data": "/elsewhere"})
    assert bootstrap.fingerprint(patient) == plain


@pytest.mark.parametrize(
    "tree",
    [
        {"grading": {"deny_exams": ["x"]}},
        {"grading": {"not_analysed_page": False}},
        {"grading": {"page_modality": "XC"}},
        {"site": {"timezone": "Asia/Tokyo"}},
    ],
)
def test_what_shapes_a_result_is_another_configuration(tree: dict[str, object]) -> None:
    assert bootstrap.fingerprint(Settings.model_validate(tree)) != bootstrap.fingerprint(Settings())


def test_none_is_no_bundle_and_another_name_stays() -> None:
    def bundle(name: str | None, default: str = bootstrap.NO_BUNDLE) -> Path | None:
        settings = Settings.model_validate({"grading": {"bundle": name}})
        return bootstrap.with_bundle(settings, default=default).grading.bundle

    assert bundle("none") is None
    assert bundle("none", bootstrap.STARTER) is None
    assert bundle(None) is None
    assert bundle("/b", bootstrap.STARTER) == Path("/b")
    assert bundle(None, bootstrap.STARTER) == bootstrap.starter()


def test_a_named_starter_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that asks for it must not start without."""
    monkeypatch.setattr(bootstrap, "starter", lambda: None)
    with pytest.raises(Misconfigured, match=r"grading\.bundle"):
        bootstrap.with_bundle(Settings.model_validate({"grading": {"bundle": "starter"}}))


def test_a_bundle_is_verified_before_anything_starts(tmp_path: Path) -> None:
    """One wrong byte, or another digest than the site wrote down, and nothing starts."""
    (tmp_path / "weights").write_bytes(b"right")
    (tmp_path / "bundle.toml").write_text(
        'format = 2\nname = "b"\nversion = "1"\nclinical = false\nscale = "RSNA 3-grade"\nconditions = ["canal"]\n'
        'footer = ""\nintended_use = ""\nexclusions = ""\ntraining_data = []\ngrader = "logistic"\nlibraries = {}\n'
        "evaluation = {abstention_normal_mild = 0, abstention_severe = 0}\n"
        f'[files]\nweights = "{hashlib.sha256(b"right").hexdigest()}"\n[backbone]\nname = "x"\nsize_px = 8\n'
        "[preprocessing]\ncrop_mm = 64\ncrop_px = 128\nnoise_ssim_min = 0.8\nmax_distance = 9\nset_coverage = 0.9\n"
        "uncertain_below = 0\n"
    )
    digest = hashlib.sha256((tmp_path / "bundle.toml").read_bytes()).hexdigest()

    def fingerprint(wanted: str | None = None) -> str | None:
        tree = {"grading": {"bundle": tmp_path, "bundle_digest": wanted}}
        return bootstrap.fingerprint(Settings.model_validate(tree)).bundle_digest

    assert fingerprint() == fingerprint(digest) == digest
    with pytest.raises(Misconfigured, match=r"grading\.bundle_digest"):
        fingerprint("0" * 64)
    (tmp_path / "weights").write_bytes(b"wrong")
    with pytest.raises(Misconfigured, match="weights"):
        fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("format = 2\n", "", "models convert"),
        ("format = 2", "format = 1", "models convert"),
        ("clinical = false", "clinical = true", "bundle_digest"),
        ("abstention_severe = 0", "abstention_severe = 0.5", "Severe"),
        ("abstention_severe = 0", "abstention_other = 0", "abstains"),
    ],
)
def test_a_bundle_that_may_not_grade_stops_the_start(starter_copy: Path, old: str, new: str, text: str) -> None:
    """By its manifest alone, so that every process and `config check` says so, not only the grader."""
    path = starter_copy / "bundle.toml"
    stated = path.read_text().replace("abstention_severe = 0.0", "abstention_severe = 0")
    assert old in stated
    path.write_text(stated)
    assert bootstrap.fingerprint(Settings.model_validate({"grading": {"bundle": starter_copy}})).bundle_digest
    path.write_text(stated.replace(old, new))
    with pytest.raises(Misconfigured, match=text):
        bootstrap.fingerprint(Settings.model_validate({"grading": {"bundle": starter_copy}}))


def test_a_clinical_bundle_with_its_digest_in_the_settings_starts(starter_copy: Path) -> None:
    path = starter_copy / "bundle.toml"
    path.write_text(path.read_text().replace("clinical = false", "clinical = true"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    tree = {"grading": {"bundle": starter_copy, "bundle_digest": digest}}
    assert bootstrap.fingerprint(Settings.model_validate(tree)).bundle_digest == digest


@pytest.fixture
def starter_copy(tmp_path: Path) -> Path:
    """The bundle that comes with Cauda, to be changed."""
    source = bootstrap.starter()
    assert source is not None
    return Path(shutil.copytree(source, tmp_path / "starter"))
