"""What a later revision says otherwise (CLINICAL.md 23)."""

from __future__ import annotations

from cauda.core.domain import Condition, Finding, Report

_SAID = 3  # more would not be read


def changes(old: Report, new: Report) -> list[str]:
    """Each difference in status, grade, abstention or level name in words; empty when the reader learns nothing new."""
    if old.status is not new.status or (old.reason is not new.reason):
        return [f"{_outcome(new)}, was {_outcome(old)}"]
    before = {_key(one): _said(old, one) for one in old.findings}
    after = {_key(one): _said(new, one) for one in new.findings}
    return [
        f"{after.get(key, 'nothing')}, was {before.get(key, 'not said')}"
        for key in (*after, *(key for key in before if key not in after))
        if before.get(key) != after.get(key)
    ]


def change_text(number: int, said: list[str], reason: str) -> str:
    """What the page's header says about the revision that this one replaces."""
    shown = "; ".join(said[:_SAID]) + (f"; and {len(said) - _SAID} more" if len(said) > _SAID else "")
    return f"replaces revision {number}: {shown} ({reason})"


def _outcome(report: Report) -> str:
    return f"not analysed: {report.reason.text}" if report.reason else "analysed"


def _key(finding: Finding) -> tuple[str, Condition]:
    return finding.level.value, finding.condition


def _said(report: Report, finding: Finding) -> str:
    name = report.level_name(finding.level)
    place = name if finding.condition is Condition.CANAL else f"{name} {finding.condition.value.replace('_', ' ')}"
    if finding.grade is not None:
        return f"{place} {finding.grade}"
    why = f" ({finding.abstained.value.replace('_', ' ')})" if finding.abstained else ""
    return f"{place} not graded{why}"
