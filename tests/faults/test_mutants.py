"""Mutants of every format: a value or one documented error, nothing run, little time and memory.

``mutants.py`` says how much. The long form opens more than 20,000."""

import pytest
from mutants import FORMATS, open_mutants, shares
from scale import LONG

COUNTS = shares(20_000 if LONG else 300)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", FORMATS)
def test_mutants_are_opened_or_refused(name, tmp_path):
    open_mutants(name, COUNTS[name], tmp_path)


def test_the_long_form_opens_at_least_20_000():
    assert sum(shares(20_000).values()) >= 20_000
