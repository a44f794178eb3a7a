"""The book's own modules can be imported in its tests."""

import sys

from uturn_lib.support.places import ROOT

sys.path.insert(0, str(ROOT / "book"))
