"""On the way from one model to another."""

import pandas as pd
import pytest
import torch
from torch import nn

from lib.training import forgetting
from lib.training.settings import TrainingError


def two_models():
    torch.manual_seed(0)
    before, after = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(2))
    after.train()(torch.randn(4, 3))
    return before, after


def test_its_ends_are_the_two_models_and_the_middle_is_their_mean():
    before, after = two_models()
    kept = {name: tensor.clone() for name, tensor in after.state_dict().items()}
    for share, wanted in ((0.0, before.state_dict()), (1.0, kept)):
        for name, tensor in forgetting.interpolate(before, after, share).state_dict().items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor, wanted[name])
    middle = forgetting.interpolate(before, after, 0.5).state_dict()
    torch.testing.assert_close(middle["0.weight"], (before[0].weight + after[0].weight).detach() / 2)
    torch.testing.assert_close(middle["1.running_mean"], (before[1].running_mean + kept["1.running_mean"]) / 2)
    assert middle["1.num_batches_tracked"] == 1
    assert all(torch.equal(tensor, kept[name]) for name, tensor in after.state_dict().items())


def test_the_largest_share_that_forgets_no_more_than_allowed():
    along = pd.DataFrame({"share": [0.0, 0.5, 0.75, 1.0], "place": [1.0, 2, 3, 4], "source": [8.0, 7.9, 7.71, 7.61]})
    assert forgetting.choose(along) == 0.75
    assert forgetting.choose(along, most=0.4) == 1.0
    assert forgetting.choose(along, most=0.0) == 0.0
    with pytest.raises(TrainingError, match="measure the domain source"):
        forgetting.choose(along.drop(columns="source"))
