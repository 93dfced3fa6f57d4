"""Renderer A, the one that networks are trained on: a lofted body on painted shores, coats drawn ring by ring."""

from pusa.synthetic.renderer_a.look import Look
from pusa.synthetic.renderer_a.scenes import coat_map, make_scene, shoot

__all__ = ["Look", "coat_map", "make_scene", "shoot"]
