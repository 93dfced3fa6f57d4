"""Instance segmentation (paper, section 3.1): photos in, boxes, scores and masks of the animals out."""
