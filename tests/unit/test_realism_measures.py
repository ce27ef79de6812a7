"""Numbers that say how real a picture looks must be right on pictures whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest

from cauda.models.realism import measures


def noise(exponent: float, mm: float, seed: int = 0) -> np.ndarray:
    """White noise filtered to power ~ frequency**exponent."""
    draw = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(256, mm)[:, None], np.fft.fftfreq(256, mm))
    f[0, 0] = np.inf if exponent < 0 else 1.0
    return np.fft.ifft2(np.fft.fft2(draw.normal(size=(256, 256))) * f ** (exponent / 2)).real


@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.0])
@pytest.mark.parametrize("mm", [0.469, 0.7])
def test_the_slope_of_noise_of_known_spectrum_is_found(exponent: float, mm: float) -> None:
    found = [measures.spectrum(noise(exponent, mm, seed), mm)["spectrum, slope"] for seed in range(20)]
    assert np.mean(found) == pytest.approx(exponent, abs=0.1)


def test_the_slope_is_free_of_brightness_and_contrast() -> None:
    image = noise(-2.0, 0.5)
    same = measures.spectrum(image * 40 + 900, 0.5)["spectrum, slope"]
    assert same == pytest.approx(measures.spectrum(image, 0.5)["spectrum, slope"], abs=1e-6)


def test_a_wave_has_its_power_in_the_band_of_its_frequency() -> None:
    mm = 0.5
    x = np.arange(256) * mm
    wave = np.broadcast_to(np.sin(2 * np.pi * 0.5 * x), (256, 256))  # 0.5 cycles a millimetre
    found = {key: value for key, value in measures.spectrum(wave, mm).items() if key.startswith("power")}
    assert max(found, key=found.__getitem__).startswith("power, fine")
    assert max(found.values()) == pytest.approx(0.0, abs=0.01)


def painted(grain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A vertebra of 100, a disc of 40, a canal whose brighter part is 200; and their mask."""
    mask = np.zeros((120, 120), np.uint8)
    mask[10:50, 20:60], mask[50:70, 20:60], mask[10:110, 70:90] = measures.VERTEBRA, measures.DISC, measures.CANAL
    image = np.array([5, 100, 40, 200], float)[mask]
    image[10:60, 70:90] = 150
    image += np.random.default_rng(0).normal(0, grain, image.shape) * (mask == measures.VERTEBRA)
    return np.clip(np.round(image), 0, 255).astype(np.uint8), mask


def test_greys_of_tissues_are_medians_beside_each_other() -> None:
    found = measures.tissues(*painted(), 0.5)
    assert found is not None
    assert found["grey, vertebra / CSF"] == pytest.approx(100 / 200)
    assert found["grey, disc / CSF"] == pytest.approx(40 / 200)
    assert found["grey, disc / vertebra"] == pytest.approx(0.4)
    assert found["spread, vertebra"] == 0.0


def test_texture_of_a_vertebra_is_the_deviation_of_its_grain() -> None:
    found = measures.tissues(*painted(grain=8.0), 0.5)
    assert found is not None
    assert found["texture, vertebra"] == pytest.approx(0.08, abs=0.01)
    assert found["texture, disc"] == pytest.approx(0.0, abs=1e-6)  # a neighbour's contrast does not reach in
    assert found["spread, vertebra"] == pytest.approx(2 * 1.2816 * 0.08, abs=0.02)


def test_nothing_is_said_of_tissue_that_is_hardly_seen() -> None:
    image, mask = painted()
    mask[mask == measures.DISC] = 0
    mask[60:64, 20:30] = measures.DISC
    assert measures.tissues(image, mask, 0.5) is None


def test_a_crisp_border_has_a_steeper_gradient_than_a_blurred_one() -> None:
    image, mask = painted()
    soft = image.astype(float)
    for _ in range(6):
        soft[1:-1] = (soft[:-2] + soft[1:-1] + soft[2:]) / 3
    crisp, blurred = (measures.tissues(one, mask, 0.5) for one in (image, soft.astype(np.uint8)))
    assert crisp is not None
    assert blurred is not None
    assert crisp["border, vertebra to disc"] > 1.3 * blurred["border, vertebra to disc"]


def test_a_slice_is_most_like_itself() -> None:
    image, _ = painted()
    assert measures.likeness(image, image) == pytest.approx(1.0)
    assert measures.likeness(image, np.roll(image, 9, axis=1)) < 0.9


def test_a_dark_front_is_seen() -> None:
    image = np.full((100, 100), 150, np.uint8)
    image[:, :25] = 0
    found = measures.surroundings(image)
    assert found["grey of the front quarter / whole"] == 0.0
    assert found["share of black"] == 0.25
    assert found["share brighter than half"] == 0.75
