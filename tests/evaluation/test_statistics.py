"""Bootstrap intervals against theory, and what counts as one observation."""

import numpy as np
import pytest

from blinddiff.evaluation.statistics import Difference, Estimate, compared_pairs, estimate, paired_difference


def test_interval_is_that_of_the_normal_approximation_for_many_images() -> None:
    values = np.random.default_rng(0).normal(30, 2, 400)
    found = estimate({(f"image{i}", 0): float(v) for i, v in enumerate(values)})
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_more_kernels_on_the_same_images_are_no_more_evidence() -> None:
    values = np.random.default_rng(0).normal(30, 2, 20)
    one = estimate({(f"image{i}", 0): float(v) for i, v in enumerate(values)})
    eight = estimate({(f"image{i}", k): float(v) for i, v in enumerate(values) for k in range(8)})
    assert (eight.low, eight.high) == pytest.approx((one.low, one.high))
    assert (eight.images, eight.values) == (20, 160)


def test_paired_differences_see_what_means_hide() -> None:
    level = np.random.default_rng(0).normal(30, 5, 10)
    values = {
        "a": {(f"image{i}", 0): float(v) for i, v in enumerate(level)},
        "b": {(f"image{i}", 0): float(v) + 0.1 for i, v in enumerate(level)},
    }
    difference = paired_difference("b", "a", values)
    assert difference is not None
    assert (difference.estimate.low, difference.estimate.high) == pytest.approx((0.1, 0.1))
    assert difference.verdict(higher_is_better=True) == "better"
    assert difference.verdict(higher_is_better=False) == "worse"
    assert estimate(values["a"]).high > estimate(values["b"]).low


def test_only_common_cases_are_compared() -> None:
    values = {"a": {("x", 0): 1.0, ("y", 0): 5.0}, "b": {("x", 0): 3.0, ("z", 0): 100.0}, "c": {("w", 0): 1.0}}
    difference = paired_difference("b", "a", values)
    assert difference is not None
    assert (difference.estimate.mean, difference.estimate.values) == (2.0, 1)
    assert paired_difference("c", "a", values) is None


@pytest.mark.parametrize(
    ("low", "high", "images", "verdict"),
    [(0.1, 0.3, 6, "better"), (-0.3, -0.1, 6, "worse"), (-0.1, 0.3, 6, "undecided"), (0.1, 0.3, 5, "too few images")],
)
def test_a_claim_needs_an_interval_without_zero(low: float, high: float, images: int, verdict: str) -> None:
    difference = Difference("a", "b", Estimate((low + high) / 2, low, high, images, images))
    assert difference.verdict(higher_is_better=True) == verdict
    assert difference.verdict(higher_is_better=None) == ""


def test_every_method_is_compared_with_those_named_before_it() -> None:
    assert compared_pairs(["a", "b", "c"]) == [("b", "a"), ("c", "a"), ("c", "b")]


def test_of_many_methods_only_the_usual_pairs_are_compared() -> None:
    methods = ["bicubic", "closed-form", "fidelity", "a", "b", "c", "d"]
    pairs = compared_pairs(methods)
    assert ("d", "fidelity") in pairs
    assert ("fidelity", "closed-form") in pairs
    assert ("d", "bicubic") in pairs
    assert ("d", "c") not in pairs
    six = methods[:6]
    assert compared_pairs(six) == [(method, baseline) for i, method in enumerate(six) for baseline in six[:i]]
