"""From settings to what every process starts with: the bundle's place, and the fingerprint of a revision."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from cauda.core.errors import Misconfigured
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.models import manifest

STARTER = "starter"
NO_BUNDLE = "none"

# One command is for trying: a study is graded seconds after its sender let go (CLINICAL.md 3).
UP_COMPLETENESS = {"after_release_s": 5.0, "quiet_s": 60.0, "hard_age_s": 600.0}


def starter() -> Path | None:
    """The bundle that comes with Cauda, where this installation has it."""
    folder = Path(str(files("cauda.models"))) / "starter"
    return folder if (folder / manifest.NAME).is_file() else None


def with_bundle(settings: Settings, *, default: str = NO_BUNDLE) -> Settings:
    """The settings with ``starter`` and ``none`` as bundle made into a folder and nothing.

    ``default`` is the bundle where none is named; the starter is that only where this installation has it.
    """
    named = settings.grading.bundle
    if named == Path(STARTER) and starter() is None:
        raise Misconfigured("grading.bundle: this installation has no starter bundle; `make models` trains it")
    if named == Path(STARTER) or (named is None and default == STARTER):
        bundle = starter()
    else:
        bundle = None if named == Path(NO_BUNDLE) else named
    grading = settings.grading.model_copy(update={"bundle": bundle})
    return settings.model_copy(update={"grading": grading})


def for_up(settings: Settings) -> Settings:
    """The settings with the short waits of `up` where the configuration says nothing of them."""
    given = settings.completeness.model_fields_set
    waits = {key: value for key, value in UP_COMPLETENESS.items() if key not in given}
    return settings.model_copy(update={"completeness": settings.completeness.model_copy(update=waits)})


def fingerprint(settings: Settings) -> Fingerprint:
    """What makes a result beside its images; Misconfigured when the bundle is not what it says, or may not grade."""
    digest = None
    if settings.grading.bundle is not None:
        stated, digest = manifest.read_manifest(settings.grading.bundle)
        manifest.check_served(settings.grading.bundle, stated, digest, settings.grading.bundle_digest)
        manifest.verify_files(settings.grading.bundle, stated)
    return Fingerprint(bundle_digest=digest, config_digest=_digest(settings), code_version=version("cauda"))


def _digest(settings: Settings) -> str:
    """Of the settings that shape a result, and of no others: a longer timeout makes no other report."""
    shaping: dict[str, Any] = {
        "deny_exams": settings.grading.deny_exams,
        "heat_map_page": settings.grading.heat_map_page,
        "not_analysed_page": settings.grading.not_analysed_page,
        "page_modality": settings.grading.page_modality,
        "timezone": settings.site.timezone,
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
