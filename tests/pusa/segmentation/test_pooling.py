"""Pooling by products of matrices beside torchvision's."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from pusa.segmentation.pooling import pooled, samples


def test_weights_of_cells():
    """One box from 0 to 4, in two bins of two cells: samples at .5 and 1.5, 2.5 and 3.5, each between two cells."""
    weights = samples(torch.tensor([0.0]), torch.tensor([4.0]), 2, 5)
    expected = torch.tensor([[[0.25, 0.5, 0.25, 0, 0], [0, 0, 0.25, 0.5, 0.25]]])
    torch.testing.assert_close(weights, expected)


@settings(max_examples=30, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(-30, 330)] * 2, *[st.floats(1, 300)] * 2), max_size=4),
    size=st.sampled_from([7, 14]),
)
def test_pooling_by_products_is_pooling_by_samples(boxes, size):
    """Boxes inside, across and beyond a photo of 288 x 192 px, smaller and larger than their bins."""
    features = torch.randn(1, 3, 12, 18, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, x, y, x + w, y + h] for x, y, w, h in boxes]).reshape(-1, 5)
    expected = roi_align(features, rois, size, 1 / 16, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(pooled(features, 1 / 16, rois, size), expected, atol=1e-5, rtol=0)
