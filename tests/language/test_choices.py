"""The three choice methods against numbers worked out by hand."""

from __future__ import annotations

import pytest

from sglnb.language import (
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from sglnb.language.choices import mean_logprob


def tokens(*logprobs):
    return [(lp, i, f"t{i}") for i, lp in enumerate(logprobs)]


def decide(method, scored, unconditional=None):
    return method(
        choices=[f"c{i}" for i in range(len(scored))],
        normalized_prompt_logprobs=[mean_logprob(s) for s in scored],
        input_token_logprobs=scored,
        output_token_logprobs=[[] for _ in scored],
        unconditional_token_logprobs=unconditional,
    )


def test_token_length_normalized_takes_the_mean_not_the_sum():
    # sums -1.0 and -1.5, means -1.0 and -0.5
    decision = decide(token_length_normalized, [tokens(-1.0), tokens(-0.25, -0.5, -0.75)])
    assert decision.decision == "c1"
    assert decision.scores == [-1.0, -0.5]
    assert decision.meta_info["normalized_prompt_logprobs"] == [-1.0, -0.5]
    assert decision.meta_info["input_token_logprobs"][0] == [(-1.0, 0, "t0")]
    assert decision.meta_info["output_token_logprobs"] == [[], []]


def test_ties_go_to_the_first():
    assert decide(token_length_normalized, [tokens(-1.0), tokens(-1.0)]).decision == "c0"
    assert decide(greedy_token_selection, [tokens(-1.0), tokens(-1.0)]).decision == "c0"


def test_greedy_goes_token_by_token():
    # c1 has the better mean (-0.55 against -1.45) but loses at the first token
    decision = decide(greedy_token_selection, [tokens(-0.9, -2.0), tokens(-1.0, -0.1)])
    assert decision.decision == "c0"
    assert decision.meta_info["greedy_logprob_matrix"] == [[-0.9, -2.0], [-1.0, -0.1]]


def test_greedy_goes_on_with_the_mean_of_a_choice_that_ended():
    # "a" against "a b": equal at token 0; then mean -0.5 of the short one against -0.4, -0.6
    long_wins = decide(greedy_token_selection, [tokens(-0.5), tokens(-0.5, -0.4)])
    short_wins = decide(greedy_token_selection, [tokens(-0.5), tokens(-0.5, -0.6)])
    assert (long_wins.decision, short_wins.decision) == ("c1", "c0")
    assert short_wins.meta_info["greedy_logprob_matrix"] == [[-0.5, -0.5], [-0.5, -0.6]]
    third = decide(greedy_token_selection, [tokens(-0.2, -0.6), tokens(-0.2, -0.6, -0.5)])
    assert third.meta_info["greedy_logprob_matrix"][0] == [-0.2, -0.6, -0.4]
    assert third.decision == "c0"


def test_unconditional_likelihood_normalized():
    # c0: (-1 - 0 + -2 + 3) / 2 = 0.0; c1: (-0.5 - 0 + -0.5 + 0.1) / 2 = -0.45
    decision = decide(
        unconditional_likelihood_normalized,
        [tokens(-1.0, -2.0), tokens(-0.5, -0.5)],
        [tokens(None, -3.0), tokens(None, -0.1)],
    )
    assert decision.decision == "c0"
    assert decision.scores == pytest.approx([0.0, -0.45])
    key = "normalized_unconditional_prompt_logprobs"
    assert decision.meta_info[key] == pytest.approx([0.0, -0.45])
    assert decision.meta_info["unconditional_token_logprobs"][0][0][0] is None


def test_unconditional_needs_its_numbers():
    with pytest.raises(ValueError, match="missing"):
        decide(unconditional_likelihood_normalized, [tokens(-1.0)])
    with pytest.raises(ValueError, match="differ in length"):
        decide(unconditional_likelihood_normalized, [tokens(-1.0)], [tokens(None, -1.0)])
