"""Pusa: photo-identification of ringed seals, and of any animal with a pattern, from raw photo archives.

This package is the science: plain numpy, torch, OpenCV and scikit-learn. It never imports Ray or a web framework;
`pipelines`, `training` and `serving` run the same classes on a cluster.
"""

__version__ = "0.1.0"
