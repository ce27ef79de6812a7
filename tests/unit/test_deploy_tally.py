"""The load generator's sums: what it says of a node must be true."""

from __future__ import annotations

import pytest

from cauda.deploy.tally import NO_ANSWER, Answer, Sent, Tally, explained


def tally() -> Tally:
    """A hundred answers of 1 to 100 ms, the last one a warning, one refusal and one silence."""
    answers = [Answer(n / 1000) for n in range(1, 100)] + [Answer(0.1, warning="B000")]
    answers += [Answer(0.5, "A700"), Answer(None, NO_ANSWER)]
    sent = Sent(study_uid="1.2", answers=tuple(answers), unsent=3)
    return Tally(studies=[sent], answers=answers, bytes=50_000_000, associations=2, began=10.0, ended=15.0)


def test_percentiles_are_of_every_answer_refusals_too() -> None:
    assert tally().percentile_ms(50) == pytest.approx(51.0)
    assert tally().percentile_ms(100) == pytest.approx(500.0)
    assert Tally().percentile_ms(99) == 0.0


def test_silence_and_refusal_are_failures_and_nothing_sent_is_no_success() -> None:
    assert tally().failures == {"A700": 1, NO_ANSWER: 1}
    assert not tally().whole
    assert not Tally().whole
    assert Tally(answers=[Answer(0.1)]).whole


def test_what_was_broken_off_is_no_success_though_all_that_was_sent_is_stored() -> None:
    assert not Tally(answers=[Answer(0.1)], interrupted=True).whole


def test_a_warning_is_told_and_is_no_failure() -> None:
    """PS3.4 B.2.3: the image is stored."""
    stored = Tally(answers=[Answer(0.1, warning="B000")])
    assert stored.whole
    assert stored.warnings == {"B000": 1}
    assert ("stored, but", "1: B000 (elements were coerced)") in stored.summary()


def test_rates_are_by_the_clock() -> None:
    assert tally().per_second == pytest.approx(102 / 5)
    assert tally().mb_per_second == pytest.approx(10.0)
    assert Tally().per_second == 0.0


def test_scanners_add_to_it_and_the_last_answer_ends_the_clock() -> None:
    counted = Tally(began=1.0)
    counted.add(sent_bytes=500, associations=1)
    assert counted.seconds == 0.0
    counted.add(Answer(0.1), now=3.0)
    counted.add(sent_bytes=500)
    assert (counted.bytes, counted.associations, counted.images, counted.seconds) == (1000, 1, 1, 2.0)


def test_the_line_begins_with_what_was_not_stored() -> None:
    """A narrow terminal cuts its end."""
    line = tally().line(now=17.0)
    assert line.startswith("1 NOT STORED: A700 (out of resources) · 1 NOT STORED: no answer · 7 s · 1 studies")
    assert "102 images" in line
    assert "NOT STORED" not in Tally(answers=[Answer(0.1)]).line(now=0.0)


def test_falling_behind_the_rate_that_was_asked_for_is_said() -> None:
    late = Tally(answers=[Answer(0.1)], behind_s=12.0)
    assert "12 s behind the rate" in late.line(now=0.0)
    assert "behind the rate" in dict(late.summary())
    assert "behind the rate" not in dict(tally().summary())


def test_the_summary_tells_sent_from_acknowledged_and_whole_from_part() -> None:
    said = tally().summary()
    assert ("studies", "1, 1 in part") in said
    assert ("images", "102 sent, 100 acknowledged") in said
    assert ("NOT STORED", "1: A700 (out of resources)") in said


@pytest.mark.parametrize(
    ("status", "words"),
    [("0122", "SOP class not supported"), ("A900", "does not match its SOP class"), ("C123", "cannot understand")],
)
def test_statuses_are_explained_by_the_standard(status: str, words: str) -> None:
    """PS3.4 B.2.3."""
    assert explained(status) == f"{status} ({words})"


def test_json_carries_the_counts_of_each_study() -> None:
    said = tally().json()
    assert said["images"] == 102
    assert said["acknowledged"] == 100
    assert said["warnings"] == {"B000": 1}
    failures = {"A700": 1, NO_ANSWER: 1}
    assert said["studies"] == [
        {"study_instance_uid": "1.2", "images": 102, "acknowledged": 100, "failures": failures, "unsent": 3}
    ]
