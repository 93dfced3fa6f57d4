"""What the skin of an animal looks like where the camera sees it: coat, fur, eyes and nose, wet gloss, light."""

from __future__ import annotations

import numpy as np

from pusa.synthetic.renderer_b.body import radius
from pusa.synthetic.renderer_b.coat import COLUMNS, IS_RING, ROWS, coat
from pusa.synthetic.renderer_b.fields import blurred, f32, fur, sample, smooth
from pusa.synthetic.renderer_b.light import Light
from pusa.synthetic.renderer_b.scene import Actor

RING = 0.25  # reflectance that a ring of full contrast adds to the coat
WET_RINGS = 0.5  # share of the contrast that wet fur loses
EYE = (0.062, 0.125, 0.0105)  # s, theta from the back, radius in body lengths


def drawn_contrast(actor: Actor) -> float:
    """Contrast of its rings as they are drawn, 0..1."""
    return actor.contrast * (1 - WET_RINGS * actor.wet)


def ring_strength(identity: int, skin: np.ndarray, footprint: float) -> np.ndarray:
    """Strength of rings, 0..1, N. skin: N x 3 = s, theta, on the body. footprint: body lengths that a pixel covers."""
    rings = f32(coat(identity).rings)
    sigma = 0.42 * footprint * COLUMNS
    if sigma > 0.5:  # else thin lines would come and go between the pixels
        rings = blurred(rings, sigma)
    return sample(rings, skin[:, 0] * COLUMNS - 0.5, skin[:, 1] * ROWS - 0.5) * skin[:, 2]


def is_ring(strength: np.ndarray, footprint: float) -> np.ndarray:
    """Which pixels are ring: bool N. Where pixels are coarse, a line covers less of them."""
    return strength > IS_RING - 0.15 * min(footprint / 0.008, 1)


def colours(
    actor: Actor,
    skin: np.ndarray,
    normals: np.ndarray,
    height: np.ndarray,
    view: np.ndarray,
    rings: np.ndarray,
    light: Light,
) -> np.ndarray:
    """Light from the skin to the camera: float32 N x 3.

    skin: N x 3 as in body.Mesh. normals: N x 3. height: N, above the ground. view: N x 3, unit vectors to the camera.
    rings: N, strength.
    """
    s, theta, body = skin.T
    identity, wet, moult = actor.animal.identity, actor.wet, actor.moult
    own = coat(identity)
    tone = sample(f32(own.tone), s * COLUMNS - 0.5, theta * ROWS - 0.5)
    strands = sample(fur(), s * 1000, theta * 760)
    patch = smooth(sample(fur(), theta * 60 + 7 * identity, s * 45), 0.6 - 1.6 * moult, 1.4 - 1.6 * moult) * moult
    tone = tone * (1 + 0.9 * patch) * (1 - 0.45 * wet) + drawn_contrast(actor) * RING * rings
    digits = 1 + 0.3 * np.cos(2 * np.pi * 10 * theta) * smooth(s, 0.2, 0.8)
    tone = np.where(body > 0.5, tone, 0.1 * (1 - 0.4 * wet) * digits)
    tone = tone * np.clip(1 + (0.17 - 0.09 * wet) * strands, 0.4, 1.7)
    brown = own.tint ** (0.6 + 1.3 * moult)
    albedo = tone[:, None] * brown
    shape, eye, glint = _face(s, theta, body)
    albedo *= shape[:, None]
    facing = np.clip((normals * view).sum(1), 0, 1)
    rest = np.ones_like(height) if actor.pose.sink else 0.42 + 0.58 * smooth(height, 0.0, 0.14)
    out = albedo * light.irradiance(normals, smooth(height, -0.02, 0.05)) * rest[:, None]
    half = view + light.toward
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    rough = normals + 0.05 * strands[:, None] * np.array([0, 1, 0], np.float32)
    gleam = np.maximum((rough * half).sum(1), 0)
    gloss = (0.02 + 0.98 * wet) * (0.3 + 0.7 * body)
    out += (gloss * 0.13 * gleam**24)[:, None] * light.sun
    mirror = gloss * (0.03 + 0.25 * (1 - facing) ** 4) + 0.02 * eye + 0.5 * glint
    out += (
        mirror[:, None]
        * light.sky(np.clip(2 * facing * normals[:, 1] - view[:, 1], 0, 1))
        * smooth(normals[:, 1], -0.3, 0.5)[:, None]
    )
    rim = 0.10 * (1 - wet) * (1 - facing) ** 3  # light in the tips of dry fur at the outline
    out += rim[:, None] * light.irradiance(normals)
    if light.flash:
        out += (1.4 * eye * smooth(facing, 0.6, 0.95))[:, None]
    return f32(out)


def _face(s: np.ndarray, theta: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors of the reflectance around eyes, nose and mouth, how much a pixel is eye and glint of it, 0..1: N each."""
    factor, dark, glint = np.ones_like(s), np.zeros_like(s), np.zeros_like(s)
    head = np.flatnonzero((s < 0.13) & (body > 0.5))
    hs, ht = s[head], theta[head]
    around = 2 * np.pi * radius(hs)
    turn = np.minimum(ht, 1 - ht)
    away = np.hypot(hs - EYE[0], (turn - EYE[1]) * around) / EYE[2]
    eye = smooth(away, 1.1, 0.85)
    pale = 1 + 0.5 * smooth(hs, 0.045, 0.02) + 0.45 * smooth(away, 2.3, 1.3)
    nose = smooth(np.hypot(hs - 0.004, 0.8 * turn * around), 0.013, 0.009)
    mouth = 0.7 * smooth(np.abs((turn - 0.31) * around + 0.1 * hs), 0.0026, 0.0012) * smooth(hs, 0.045, 0.03)
    factor[head] = pale * (1 - 0.9 * eye) * (1 - 0.75 * nose) * (1 - mouth)
    dark[head] = eye
    spot = np.hypot(hs - EYE[0] - 0.002, (turn - EYE[1]) * around + 0.004) / EYE[2]
    glint[head] = smooth(spot, 0.3, 0.15)
    return factor, dark, glint
