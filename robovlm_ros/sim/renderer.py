"""Rendering with pip packages only: MuJoCo casts the rays, NumPy shades what they hit.

No GL library is needed, and the images are the same on every machine that has the same packages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from robovlm_ros.sim.model import GROUND_GROUP, VISUAL_GROUP

_BACKGROUND = (0.70, 0.76, 0.82)
_FAR_M = 20.0
_LAMP_M = 3.0  # distance of the light [m]; near enough for one origin of all shadow rays
_SHADOW = 0.4  # share of the light that reaches a shadow
_EDGE = 0.06  # change of colour between neighbours from which a pixel is smoothed
_Rays: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Light and colour of one scene."""

    light: NDArray[np.float64]
    """(3,) unit vector from the scene towards the light."""
    ambient: float
    """Share of its colour that a surface in the dark shows."""
    strength: float
    """Additional share that a surface facing the light shows."""
    tint: NDArray[np.float64]
    """(3,) colour of the light."""
    table: NDArray[np.float64]
    """(3,) colour of the table."""
    floor: NDArray[np.float64]
    """(3,) colour of the floor."""

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Look:
        """A modestly varied look: light from somewhere above, a grey to beige table."""
        azimuth, elevation = rng.uniform(0.0, 2 * math.pi), rng.uniform(math.radians(60), math.radians(85))
        flat = math.cos(elevation)
        return cls(
            light=np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]),
            ambient=rng.uniform(0.45, 0.6),
            strength=rng.uniform(0.4, 0.6),
            tint=rng.uniform(0.92, 1.0, 3),
            table=np.array([0.62, 0.58, 0.52]) + rng.uniform(-0.06, 0.06) + rng.uniform(-0.02, 0.02, 3),
            floor=np.array([0.30, 0.32, 0.36]) + rng.uniform(-0.04, 0.04),
        )


class RayRenderer:
    """Draws a model's visual geoms with one light, its shadows and smoothed edges."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._casters = np.zeros(mujoco.mjNGROUP, np.uint8)
        self._casters[VISUAL_GROUP] = 1
        self._visible = self._casters.copy()
        self._visible[GROUND_GROUP] = 1
        self._rays: dict[tuple[int, int, int], tuple[_Rays, _Rays]] = {}
        self._table = model.geom("table").id
        self._floor = model.geom("floor").id

    def render(self, data: mujoco.MjData, camera: str, width: int, height: int, look: Look) -> NDArray[np.uint8]:
        """(height, width, 3) RGB image of the named camera; ``data`` needs up-to-date kinematics."""
        camera_id = self._model.camera(camera).id
        rotation = data.cam_xmat[camera_id].reshape(3, 3)
        eye = data.cam_xpos[camera_id]
        palette = self._palette(look)
        centres, corners = self._camera_rays(camera_id, width, height)
        image = self._trace(data, eye, centres @ rotation.T, palette, look)  # (height * width, 3)
        edges = _edges(image.reshape(height, width, 3))  # (n,) pixels that need more than one ray
        finer = corners[edges].reshape(-1, 3) @ rotation.T  # (n * 4, 3)
        image[edges] = self._trace(data, eye, finer, palette, look).reshape(-1, 4, 3).mean(axis=1)
        return (image * 255.0 + 0.5).astype(np.uint8).reshape(height, width, 3)

    def _trace(
        self, data: mujoco.MjData, eye: NDArray[np.float64], rays: _Rays, palette: NDArray[np.float64], look: Look
    ) -> NDArray[np.float64]:
        """(n, 3) colour in 0..1 that each of the unit vectors ``rays`` (n, 3) from ``eye`` (3,) meets."""
        hit, distance, normal = self._cast(data, eye, rays, self._visible)
        lit = look.strength * np.maximum(normal @ look.light, 0.0)  # (n,)
        # Shadows: cast from the light towards what was hit; nearer than that point means something stands between.
        # The far floor stays without, and so does what faces away from the light: it is dark already.
        near = np.flatnonzero((hit >= 0) & (hit != self._floor) & (lit > 0.0))
        lamp = look.light * _LAMP_M
        beams = rays[near]  # (m, 3)
        beams *= distance[near, None]
        beams += eye - lamp
        reach = np.sqrt(np.einsum("ij,ij->i", beams, beams))  # (m,)
        beams /= reach[:, None]
        blocker, free, _ = self._cast(data, lamp, beams, self._casters)
        lit[near[(blocker >= 0) & (free < reach - 1e-3)]] *= _SHADOW
        shade = np.where(hit < 0, 1.0, look.ambient + lit)
        colours: NDArray[np.float64] = np.minimum(palette[hit] * shade[:, None], 1.0)  # index -1 is the background
        return colours

    def _cast(
        self, data: mujoco.MjData, origin: NDArray[np.float64], rays: _Rays, groups: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
        """Geom (n,) or -1, distance (n,) [m] and surface normal (n, 3) that rays (n, 3) from one point meet first."""
        count = len(rays)
        hit, distance, normal = np.full(count, -1, np.int32), np.empty(count), np.empty((count, 3))
        if count:
            mujoco.mj_multiRay(
                self._model, data, origin, rays.ravel(), groups, True, -1,
                hit, distance, normal.reshape(-1), count, _FAR_M,
            )  # fmt: skip
        return hit, distance, normal

    def _camera_rays(self, camera_id: int, width: int, height: int) -> tuple[_Rays, _Rays]:
        """Unit vectors in the camera's frame: (n, 3) through pixel centres, (n, 4, 3) through quarter pixels."""
        key = (camera_id, width, height)
        if key not in self._rays:
            focal = focal_length(self._model, camera_id, height)
            u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
            centres = np.stack([u, -v, np.full_like(u, -focal)], axis=-1).reshape(-1, 3)
            quarter = np.array([[-0.25, 0.25, 0], [0.25, 0.25, 0], [-0.25, -0.25, 0], [0.25, -0.25, 0]])
            self._rays[key] = _unit(centres), _unit(centres[:, None] + quarter)
        return self._rays[key]

    def _palette(self, look: Look) -> NDArray[np.float64]:
        """(ngeom + 1, 3) colour of each geom in this light, and of the background."""
        palette: NDArray[np.float64] = np.concatenate([self._model.geom_rgba[:, :3].astype(np.float64), [_BACKGROUND]])
        palette[self._table] = look.table
        palette[self._floor] = look.floor
        palette[:-1] *= look.tint
        return palette


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _edges(image: NDArray[np.float64]) -> NDArray[np.intp]:
    """(n,) flat indices of pixels whose colour differs from that of a neighbour; image (height, width, 3)."""
    grey = image @ np.array([0.5, 0.8, 0.6])  # (height, width); unequal weights keep hues of one brightness apart
    right = np.abs(np.diff(grey, axis=1)) > _EDGE
    below = np.abs(np.diff(grey, axis=0)) > _EDGE
    edge = np.zeros(grey.shape, np.bool_)
    edge[:, :-1] |= right
    edge[:, 1:] |= right
    edge[:-1] |= below
    edge[1:] |= below
    return np.flatnonzero(edge)


def focal_length(model: mujoco.MjModel, camera_id: int, height: int) -> float:
    """Focal length [px] of a camera drawn ``height`` pixels high."""
    return height / 2 / math.tan(math.radians(float(model.cam_fovy[camera_id])) / 2)


def project(
    model: mujoco.MjModel, data: mujoco.MjData, camera: str, points: NDArray[np.floating], width: int, height: int
) -> NDArray[np.float64]:
    """(n, 2) column and row of world points (n, 3); pixel centres lie at .5, NaN behind the camera."""
    camera_id = model.camera(camera).id
    rotation = data.cam_xmat[camera_id].reshape(3, 3)
    local = (np.asarray(points, np.float64).reshape(-1, 3) - data.cam_xpos[camera_id]) @ rotation  # (n, 3)
    depth = np.where(local[:, 2] < -1e-6, -local[:, 2], np.nan)
    focal = focal_length(model, camera_id, height)
    pixels: NDArray[np.float64] = np.stack(
        [width / 2 + focal * local[:, 0] / depth, height / 2 - focal * local[:, 1] / depth], axis=1
    )
    return pixels
