"""What of pynetdicom is overridden although it is private: a version without it must not be met in a hospital."""

from __future__ import annotations

import pytest

from cauda.listener import data_path


@pytest.mark.parametrize(("owner", "name"), data_path.SEAM)
def test_what_is_overridden_is_there(owner: type, name: str) -> None:
    assert callable(vars(owner)[name]) or isinstance(vars(owner)[name], property)
