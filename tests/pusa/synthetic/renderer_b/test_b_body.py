import numpy as np
import pytest

from pusa.synthetic.renderer_b.body import SPOKES, STATIONS, Pose, axes, build, mesh, radius
from pusa.synthetic.renderer_b.camera import Camera, rasterize

STILL = {"neck": 0, "nod": 0, "look": 0, "bend": 0, "rear": 0}
LYING = Pose(x=0, z=4, yaw=0, roll=0, **STILL)


def test_girth_is_four_fifths_of_the_length():
    assert 2 * np.pi * radius(np.linspace(0, 1, 200)).max() == pytest.approx(0.8, abs=0.05)


def test_proportions_belong_to_the_identity():
    assert build(5, False) == build(5, False) != build(6, False)
    pups = [build(i, True) for i in range(20)]
    assert all(0.45 <= p.length <= 0.65 for p in pups)
    assert np.mean([p.fat for p in pups]) > 1.1  # rounder


@pytest.mark.parametrize(("yaw", "nose", "left"), [(0, 0, 2), (90, 2, 0), (180, 0, 2), (270, 2, 0)])
def test_yaw(yaw, nose, left):
    f, u, side = axes(Pose(x=0, z=4, yaw=yaw, roll=0, **STILL))
    assert u == pytest.approx([0, 1, 0])
    assert np.argmax(np.abs(f)) == nose
    assert np.argmax(np.abs(side)) == left
    assert f[0] == pytest.approx(-np.cos(np.radians(yaw)))  # at 0 the nose is at the left of the photo
    assert f[2] == pytest.approx(-np.sin(np.radians(yaw)))  # at 90 it comes towards the camera


def test_a_seal_lies_on_the_ground_and_floats_in_water():
    shape = build(1, False)
    lying = mesh(shape, LYING).points[:, 1]
    assert lying.min() >= 0
    assert np.mean(lying < 0.02) > 0.03  # flattened where it lies
    afloat = mesh(shape, Pose(x=0, z=4, yaw=0, roll=0, sink=0.1, **STILL)).points[:, 1]
    assert afloat.min() < -0.08


def test_skin_coordinates_and_normals():
    made = mesh(build(2, False), LYING)
    body = slice(0, STATIONS * (SPOKES + 1))
    s, theta, on_body = made.skin[body].T
    assert (on_body == 1).all()
    assert (made.skin[body.stop :, 2] == 0).all()
    middle = np.abs(s - 0.5) < 0.2
    left = middle & (np.abs(theta - 0.25) < 0.02)
    assert made.normals[body][left] == pytest.approx(np.tile([0, 0, -1.0], (left.sum(), 1)), abs=0.4)
    assert np.linalg.norm(made.normals[body][middle], axis=1) == pytest.approx(1, abs=1e-3)
    nose, tail = made.points[body][s < 0.01].mean(0), made.points[body][s > 0.99].mean(0)
    assert nose[0] < tail[0]


def test_camera_meets_the_ground_where_it_projects_from():
    camera = Camera(focal=900, pitch=0.3, distance=4, width=320, height=240)
    x, z, depth = camera.ground(np.array([20.0, 300.0]), np.array([100.0, 230.0]))
    pixels, far = camera.project(np.stack([x, 0 * x, z], 1))
    assert pixels == pytest.approx(np.array([[20.0, 100.0], [300.0, 230.0]]), abs=1e-6)
    assert far == pytest.approx(depth)
    assert camera.ground(np.array(0.0), np.array(camera.horizon - 5))[2] == np.inf


def test_the_nearer_triangle_wins():
    square = np.array([[0, 0], [20, 0], [20, 20], [0, 20]], float)
    pixels = np.concatenate([square, square + 5])
    depth = np.array([2.0] * 4 + [1.0] * 4)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    got = rasterize(pixels, depth, faces, (0, 0, 24, 24))
    seen = np.zeros((24, 24))
    seen[got.y, got.x] = got.depth
    assert seen[2, 2] == seen[18, 3] == pytest.approx(2)
    assert seen[10, 10] == seen[23, 23] == pytest.approx(1)
    assert seen[2, 22] == 0
    assert len(got.x) == (seen > 0).sum()
    back = rasterize(pixels, depth, faces[:, ::-1], (0, 0, 24, 24))
    assert not len(back.x)  # seen from inside
