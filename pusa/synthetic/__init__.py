"""Archives of photos with full ground truth: coats, bodies, scenes, and the folder that `pusa synth` writes."""
