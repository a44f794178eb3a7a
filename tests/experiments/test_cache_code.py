"""Results know which code made them: tests may share the cache of the figures, and never take a result of other code."""

import numpy as np
import pytest

from uturn_lib.experiments import engine


def counted():
    calls = []

    def compute():
        calls.append(1)
        return {"value": np.array([1.0, 2.0])}

    return calls, compute


def test_results_of_other_code_are_taken_by_default_and_refused_on_request(monkeypatch):
    calls, compute = counted()
    monkeypatch.setattr(engine, "code_digest", lambda: "older")
    engine.remember("features", {"a": 1}, compute)
    monkeypatch.setattr(engine, "code_digest", lambda: "newer")
    assert set(engine.remember("features", {"a": 1}, compute)) == {"value"} and len(calls) == 1
    monkeypatch.setenv("UTURN_CACHE_CODE", "same")
    engine.remember("features", {"a": 1}, compute)
    assert len(calls) == 2  # computed again, and stored as made by the newer code
    engine.remember("features", {"a": 1}, compute)
    assert len(calls) == 2
    monkeypatch.setenv("UTURN_CACHE_CODE", "similar")
    with pytest.raises(ValueError, match="UTURN_CACHE_CODE = 'similar'"):
        engine.remember("features", {"a": 1}, compute)


def test_the_digest_sees_formulas_and_not_comments(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    module = tmp_path / "folder" / "part.py"
    monkeypatch.setattr(engine, "PACKAGE", tmp_path)

    def digest(text):
        module.write_text(text)
        engine.code_digest.cache_clear()
        return engine.code_digest()

    try:
        plain = digest("def f(x):\n    return 2 * x\n")
        assert digest('"""A module."""\ndef f(x):\n    """Twice."""\n    # why\n    return (2 *\n        x)\n') == plain
        assert digest("def f(x):\n    return 3 * x\n") != plain
    finally:
        engine.code_digest.cache_clear()
