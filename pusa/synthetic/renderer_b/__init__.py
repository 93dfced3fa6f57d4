"""Renderer B, never trained on: meshes in true perspective, coats from a cell field, light from a small sky."""

from pusa.synthetic.renderer_b.coat import coat_map
from pusa.synthetic.renderer_b.look import Look
from pusa.synthetic.renderer_b.scene import make_scene
from pusa.synthetic.renderer_b.shot import shoot

__all__ = ["Look", "coat_map", "make_scene", "shoot"]
