"""The load generator's sums: what it says of a node must be true."""

from __future__ import annotations

import pytest

from cauda.deploy.tally import NO_ANSWER, Answer, Sent, Tally, explained

BEGAN, ENDED = 10.0, 15.0


def tally() -> Tally:
    """A hundred answers of 1 to 100 ms, one refusal and one silence."""
    answers = [Answer(n / 1000) for n in range(1, 101)] + [Answer(0.5, "A700"), Answer(None, NO_ANSWER)]
    made = Tally(studies=[Sent(study_uid="1.2", answers=tuple(answers))], began=BEGAN)
    made.add(*answers, now=ENDED, sent_bytes=50_000_000)
    return made


def summary(of: Tally) -> dict[str, str]:
    return dict(of.summary())


def test_percentiles_are_of_every_answer_refusals_too() -> None:
    assert tally().percentile_ms(50) == pytest.approx(51.0)
    assert tally().percentile_ms(100) == pytest.approx(500.0)
    assert Tally().percentile_ms(99) == 0.0


def test_silence_and_refusal_are_failures_and_nothing_sent_is_no_success() -> None:
    assert tally().failures == {"A700": 1, NO_ANSWER: 1}
    assert not tally().whole
    assert not Tally().whole
    assert Tally(answers=[Answer(0.1)]).whole


def test_a_warning_is_an_image_that_is_stored() -> None:
    """PS3.4 B.2.3: B000 says that elements were coerced."""
    warned = Tally(answers=[Answer(0.1, warning="B000")])
    assert warned.whole
    assert summary(warned)["stored, but"] == "1: B000 (elements were coerced)"


def test_what_was_broken_off_is_no_success() -> None:
    assert not Tally(answers=[Answer(0.1)], interrupted=True).whole
    assert "INTERRUPTED" in summary(Tally(answers=[Answer(0.1)], interrupted=True))


def test_rates_are_by_the_clock() -> None:
    assert tally().per_second == pytest.approx(102 / 5)
    assert tally().mb_per_second == pytest.approx(10.0)
    assert Tally().per_second == 0.0


def test_the_line_says_first_what_was_not_stored_in_words() -> None:
    line = tally().line(ENDED)
    assert line.startswith("1 NOT STORED: A700 (out of resources) · 1 NOT STORED: no answer")
    assert "102 images" in line
    assert "NOT STORED" not in Tally(answers=[Answer(0.1)]).line(ENDED)


def test_the_end_says_how_many_were_sent_and_how_many_acknowledged() -> None:
    assert summary(tally())["images"] == "102 sent, 100 acknowledged"


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
    (study,) = said["studies"]
    assert study["study_instance_uid"] == "1.2"
    assert study["acknowledged"] == 100
    assert study["failures"] == {"A700": 1, NO_ANSWER: 1}
    assert study["unsent"] == 0
