import warnings

import pytest

from phoneme.tracking import quieten_lightning


@pytest.fixture(autouse=True)
def lightning_as_in_a_run():
    """Lightning's warnings about itself are filtered in a run; pytest resets the filters for each test."""
    with warnings.catch_warnings():
        quieten_lightning()
        yield
