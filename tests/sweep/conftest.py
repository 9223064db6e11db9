"""Search spaces and drivers for the tests of sweeps."""

import pytest
from simulation import make_space


@pytest.fixture
def space():
    return make_space()
