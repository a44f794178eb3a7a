"""Results know which code made them: tests may share the cache of the figures, and never take a result of other code."""

import numpy as np
import pytest

from uturn_lib import cache


def counted():
    calls = []

    def compute():
        calls.append(1)
        return {"value": np.array([1.0, 2.0])}

    return calls, compute


def test_results_of_other_code_are_taken_by_default_and_refused_on_request(monkeypatch):
    calls, compute = counted()
    monkeypatch.setattr(cache, "code_digest", lambda: "older")
    cache.remember("features", {"a": 1}, compute)
    monkeypatch.setattr(cache, "code_digest", lambda: "newer")
    assert set(cache.remember("features", {"a": 1}, compute)) == {"value"} and len(calls) == 1
    monkeypatch.setenv("UTURN_CACHE_CODE", "same")
    cache.remember("features", {"a": 1}, compute)
    assert len(calls) == 2  # computed again, and stored as made by the newer code
    cache.remember("features", {"a": 1}, compute)
    assert len(calls) == 2
    monkeypatch.setenv("UTURN_CACHE_CODE", "similar")
    with pytest.raises(ValueError, match="UTURN_CACHE_CODE = 'similar'"):
        cache.remember("features", {"a": 1}, compute)


def test_the_digest_sees_formulas_and_not_comments(tmp_path, monkeypatch):
    module = tmp_path / "part.py"
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))

    def digest(text):
        module.write_text(text)
        cache.code_digest.cache_clear()
        return cache.code_digest()

    try:
        plain = digest("def f(x):\n    return 2 * x\n")
        assert digest('"""A module."""\ndef f(x):\n    """Twice."""\n    # why\n    return (2 *\n        x)\n') == plain
        assert digest("def f(x):\n    return 3 * x\n") != plain
    finally:
        cache.code_digest.cache_clear()
