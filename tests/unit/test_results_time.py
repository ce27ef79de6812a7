"""When a result says that it was made: in the images' time, and behind them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import builders_results as given
import pytest

from cauda.pipeline.results.structured_report import structured_report


def test_time_is_told_as_the_images_tell_it() -> None:
    """Their offset is copied only if they have one; otherwise the site's zone decides (CLINICAL.md 30)."""
    with_offset = structured_report(
        given.report(),
        given.sources(TimezoneOffsetFromUTC="-0330"),
        given.context(site_timezone=ZoneInfo("Asia/Tokyo")),
    )
    assert (with_offset.ContentDate, with_offset.ContentTime) == ("20261120", "180015.250000")
    assert with_offset.TimezoneOffsetFromUTC == "-0330"
    tokyo = given.context(site_timezone=ZoneInfo("Asia/Tokyo"))
    at_site = structured_report(given.report(), given.sources(), tokyo)
    assert (at_site.ContentDate, at_site.ContentTime) == ("20261121", "063015.250000")
    assert "TimezoneOffsetFromUTC" not in at_site


@pytest.mark.parametrize(
    ("images", "series"),
    [
        ({}, ("20261120", "213015.250000")),
        ({"SeriesDate": "20261120", "SeriesTime": "213015.25"}, ("20261120", "213016.250000")),
        ({"AcquisitionDate": "20261120", "AcquisitionTime": "235959.500000"}, ("20261121", "000000.500000")),
        ({"ContentDate": "20261120", "ContentTime": "2145"}, ("20261120", "214501.000000")),
        ({"ContentDate": "99991231", "ContentTime": "235959"}, ("20261120", "213015.250000")),
        ({"ContentDate": "later", "ContentTime": "soon"}, ("20261120", "213015.250000")),
        ({"SeriesDate": "20261120", "SeriesTime": "213000"}, ("20261120", "213015.250000")),
    ],
)
def test_our_series_is_later_than_the_images(images: dict[str, str], series: tuple[str, str]) -> None:
    """Also where the scanner's clock is ahead of ours (CLINICAL.md 26); when it was made stays true."""
    made = structured_report(given.report(), given.sources(**images), given.context())
    assert (made.SeriesDate, made.SeriesTime) == series
    assert (made.ContentDate, made.ContentTime) == ("20261120", "213015.250000")


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        given.context(at=given.AT.replace(tzinfo=None))
