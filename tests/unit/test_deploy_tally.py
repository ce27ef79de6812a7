"""The load generator's sums: what it says of a node must be true."""

from __future__ import annotations

import pytest

from cauda.deploy.tally import NO_ANSWER, Answer, Sent, Tally, explained


def tally() -> Tally:
    """A hundred answers of 1 to 100 ms, one refusal and one silence."""
    answers = [Answer(n / 1000) for n in range(1, 101)] + [Answer(0.5, "A700"), Answer(None, NO_ANSWER)]
    sent = Sent(study_uid="1.2", answers=tuple(answers), bytes=50_000_000)
    return Tally(studies=[sent], answers=answers, bytes=50_000_000, began=10.0, ended=15.0)


def test_percentiles_are_of_every_answer_refusals_too() -> None:
    assert tally().percentile_ms(50) == pytest.approx(51.0)
    assert tally().percentile_ms(100) == pytest.approx(500.0)
    assert Tally().percentile_ms(99) == 0.0


def test_silence_and_refusal_are_failures_and_nothing_sent_is_no_success() -> None:
    assert tally().failures == {"A700": 1, NO_ANSWER: 1}
    assert not tally().whole
    assert not Tally().whole
    assert Tally(answers=[Answer(0.1)]).whole


def test_rates_are_by_the_clock() -> None:
    assert tally().per_second == pytest.approx(102 / 5)
    assert tally().mb_per_second == pytest.approx(10.0)
    assert Tally().per_second == 0.0


def test_the_line_says_what_was_not_stored_in_words() -> None:
    line = tally().words()
    assert "102 images in 1 studies" in line
    assert "NOT STORED: 1 A700 (out of resources), 1 no answer" in line
    assert "NOT STORED" not in Tally(answers=[Answer(0.1)]).words()


@pytest.mark.parametrize(
    ("status", "words"),
    [("0122", "SOP class not supported"), ("A900", "not what its SOP class says"), ("C123", "not understood")],
)
def test_statuses_are_explained_by_the_standard(status: str, words: str) -> None:
    """PS3.4 B.2.3."""
    assert explained(status) == f"{status} ({words})"


def test_json_carries_the_counts_of_each_study() -> None:
    said = tally().json()
    assert said["images"] == 102
    assert said["acknowledged"] == 100
    assert said["studies"] == [
        {"study_instance_uid": "1.2", "images": 102, "acknowledged": 100, "failures": {"A700": 1, NO_ANSWER: 1}}
    ]
