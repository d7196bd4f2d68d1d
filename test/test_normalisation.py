"""Normalisation: a method per dimension, exact inverses, statistics of older folders."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robovlm_ros.contract import NORMALISATIONS, Contract
from robovlm_ros.errors import UserError
from robovlm_ros.training.finetuning import FinetuneOptions, configure, set_statistics
from robovlm_ros.vlm.normalisation import Normaliser, fit
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import arm_contract, small_vlm
from .test_training import recordings


@given(
    st.lists(st.sampled_from(NORMALISATIONS), min_size=1, max_size=14),
    st.integers(0, 1000),
    st.floats(1e-3, 1e3),
    st.floats(-100, 100),
)
@settings(max_examples=60, deadline=None)
def test_any_mixture_of_methods_has_an_exact_inverse(methods: list[str], seed: int, scale: float, shift: float) -> None:
    values = np.random.default_rng(seed).normal(shift, scale, (50, len(methods)))
    values[:, 0] = np.round(np.random.default_rng(seed).random(50))
    binary = np.arange(len(methods)) == 0
    limits = np.tile([shift - 5 * scale, shift + 7 * scale], (len(methods), 1))
    normaliser = fit(methods, values, binary, limits)
    again = normaliser.restore(normaliser.normalise(values))
    size = np.abs(values) + np.abs(normaliser.offset) + normaliser.scale  # of the numbers that are added
    assert (np.abs(again - values) <= 1e-12 * size).all()
    np.testing.assert_array_equal(normaliser.normalise(values)[:, 0], values[:, 0])
    loaded = Normaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
    assert loaded.methods == ("identity", *methods[1:])
    np.testing.assert_array_equal(loaded.normalise(values), normaliser.normalise(values))


def test_each_dimension_gets_what_its_method_says_and_others_do_not_matter() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, (1000, 6))
    normaliser = fit(list(NORMALISATIONS), values, limits=np.tile([-2.0, 6.0], (6, 1)))
    found = normaliser.normalise(values)
    by_name = dict(zip(NORMALISATIONS, found.T, strict=True))
    for name, column in by_name.items():
        np.testing.assert_array_equal(column, fit(name, values, limits=np.tile([-2.0, 6.0], (6, 1))).normalise(values)[
            :, NORMALISATIONS.index(name)
        ])  # fmt: skip
    assert np.quantile(by_name["quantile"], [0.01, 0.99]) == pytest.approx([-1, 1])
    assert (by_name["min_max"].min(), by_name["min_max"].max()) == pytest.approx((-1, 1))
    assert (by_name["mean_std"].mean(), by_name["mean_std"].std()) == pytest.approx((0, 1))
    assert by_name["limits"] == pytest.approx((values[:, 4] - 2.0) / 4.0)
    np.testing.assert_array_equal(by_name["identity"], values[:, 5])


def test_mu_law_is_that_of_the_standard_and_leaves_zero_and_binary_values_alone() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (1000, 3))
    values[:, 2] = values[:, 2] > 0
    normaliser = fit("mu_law", values, np.array([False, False, True]))
    assert normaliser.normalise(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    for value in (*values[:20, 0], 5.0, -5.0):
        x = value / np.quantile(np.abs(values[:, 0]), 0.99)
        expected = np.copysign(np.log(1 + 255 * abs(x)) / np.log(256), x)
        assert normaliser.normalise(np.array([value, 0, 1])) == pytest.approx([expected, 0, 1])
    with pytest.raises(UserError, match="mu does not fit"):
        Normaliser.from_dict({**normaliser.to_dict(), "mu": [255.0]})


def contract_with(action: dict[int, str], state: Any) -> Contract:
    """An arm of three joints and a gripper, with some normalisations of its own; joint_3 is absolute."""
    values = arm_contract(4).to_dict()
    assert "normalise" not in json.dumps(values)  # programs that do not know the key read such a contract
    values["commands"][0]["dims"][2]["reference"] = None
    for index, method in action.items():
        values["commands"][0]["dims"][index]["normalise"] = method
    values["state"][0]["normalise"] = state
    contract = Contract.from_dict(values)
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    return contract


def test_the_contract_says_the_method_of_a_dimension_and_the_options_that_of_the_others() -> None:
    contract = contract_with({0: "limits", 2: "limits"}, {"joint_2": "mean_std"})
    options = FinetuneOptions(chunk_size=5, action_normalisation="min_max", device="cpu")
    vlm, words = small_vlm()
    processor = ActionTokenProcessor(configure(options, vlm.config, contract), words)
    made = recordings(processor)
    ready = set_statistics(options, processor, made)
    actions, state = ready.action_normaliser, ready.state_normaliser
    assert actions.methods == ("limits", "min_max", "limits", "identity")
    assert state.methods == ("quantile", "mean_std", "quantile", "quantile")
    # limits are [-2, 2]; the difference of two values within them is at most 4
    assert (actions.offset[0], actions.scale[0]) == (0.0, 4.0)
    assert (actions.offset[2], actions.scale[2]) == (0.0, 2.0)
    seen = np.concatenate([recording.states for recording in made]).astype(np.float64)
    assert (state.offset[1], state.scale[1]) == pytest.approx((seen[:, 1].mean(), seen[:, 1].std()))
    assert contract_with({}, "min_max").state_normalisations == ("min_max",) * 4


@pytest.mark.parametrize(
    ("action", "state", "said"),
    [
        ({0: "log"}, None, "action 'joint_1': normalise 'log' is not one of: quantile"),
        ({3: "min_max"}, None, "action 'joint_4' is binary and is never normalised"),
        ({}, {"joint_1": "log"}, "state 'joints': normalise: joint_1: 'log' is not one of: quantile"),
        ({}, "limits", "'limits' is not one of: quantile, min_max, mean_std, mu_law, identity"),
        ({}, {"joint_9": "min_max"}, "normalise: dimension 'joint_9' is not one of: joint_1"),
    ],
)
def test_a_wrong_method_is_refused_when_the_contract_is_built(action: dict[int, str], state: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        contract_with(action, state)


def test_statistics_of_older_folders_are_read_and_damaged_ones_refused() -> None:
    old = {"method": "quantile", "offset": [0.5, 0.0], "scale": [2.0, 1.0]}
    loaded = Normaliser.from_dict(old)
    assert loaded.methods == ("quantile", "quantile")
    assert loaded.normalise(np.array([4.5, 1.0])).tolist() == [2.0, 1.0]
    for wrong in ({"method": ["quantile"]}, {"method": 5}, {"offset": [float("nan"), 0.0]}, {"scale": [0.0, 1.0]}):
        with pytest.raises(UserError, match="statistics are damaged"):
            Normaliser.from_dict({**old, **wrong})
