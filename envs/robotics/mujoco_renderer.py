"""Off-screen pictures of a MuJoCo model, whose textures may change between two of them."""

import mujoco
import numpy as np

from envs.robotics.engine import Frame


class Renderer:
    """One OpenGL context. Several can draw in turn in a process: each makes its own current.

    Args:
        model: what is drawn.
        numbers: of each geom, what segmentation calls it, int [geoms].
        shadows: whether lights cast them.
    """

    def __init__(self, model: "mujoco.MjModel", numbers: np.ndarray, shadows: bool) -> None:
        self.model, self.numbers = model, numbers
        self.width = self.height = 0
        self.option, self.camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self.scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.stale: set[int] = set()  # textures that the context has old pixels of
        self._context: mujoco.GLContext | None = None
        self._drawing: mujoco.MjrContext | None = None

    def upload(self, texture: int) -> None:
        """Says that a texture's pixels in the model have changed."""
        self.stale.add(texture)

    def rgb(self, data: "mujoco.MjData", camera: int, width: int, height: int) -> np.ndarray:
        """Colours, uint8 [H, W, 3]."""
        view, drawing = self._prepare(data, camera, width, height)
        return self._colours(view, drawing)

    def frame(self, data: "mujoco.MjData", camera: int, width: int, height: int) -> Frame:
        """Colours, depth and segmentation of the same moment."""
        view, drawing = self._prepare(data, camera, width, height)
        rgb = self._colours(view, drawing)
        buffer = np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(None, buffer, view, drawing)
        flags = self.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        ids = self._colours(view, drawing).astype(np.int32)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        ids = ids[..., 0] + (ids[..., 1] << 8) + (ids[..., 2] << 16)
        table = np.zeros(self.scene.ngeom + 1, np.int32)  # 0: nothing is drawn there
        for drawn in self.scene.geoms[: self.scene.ngeom]:
            if drawn.segid >= 0:
                table[drawn.segid + 1] = self.numbers[drawn.objid]
        segmentation = table[ids]
        metres = self._metres(buffer[::-1])
        metres[segmentation == 0] = np.inf  # the sky is painted on a box
        return Frame(rgb, metres, segmentation)

    def _prepare(
        self, data: "mujoco.MjData", camera: int, width: int, height: int
    ) -> tuple["mujoco.MjrRect", "mujoco.MjrContext"]:
        if self._context is None or width > self.width or height > self.height:
            # Costs a quarter of a second; smaller pictures are drawn in a corner of the buffer.
            self._open(max(width, self.width), max(height, self.height))
        assert self._context is not None
        assert self._drawing is not None
        self._context.make_current()
        for texture in self.stale:
            mujoco.mjr_uploadTexture(self.model, self._drawing, texture)
        self.stale.clear()
        self.camera.fixedcamid = camera
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(
            self.model, data, self.option, None, self.camera, everything, self.scene
        )
        return mujoco.MjrRect(0, 0, width, height), self._drawing

    def _open(self, width: int, height: int) -> None:
        self.close()
        self.width, self.height = width, height
        quality = self.model.vis.global_
        quality.offwidth, quality.offheight = width, height
        self._context = mujoco.GLContext(width, height)
        self._context.make_current()
        self._drawing = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._drawing.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.stale.clear()

    def _colours(self, view: "mujoco.MjrRect", drawing: "mujoco.MjrContext") -> np.ndarray:
        mujoco.mjr_render(view, self.scene, drawing)
        pixels = np.empty((view.height, view.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, view, drawing)
        return np.ascontiguousarray(pixels[::-1])

    def _metres(self, buffer: np.ndarray) -> np.ndarray:
        """The depth buffer (1 at the near plane, 0 at the far one) as metres along the axis."""
        near = self.model.vis.map.znear * self.model.stat.extent
        far = self.model.vis.map.zfar * self.model.stat.extent
        metres: np.ndarray = near * far / (near + buffer.astype(np.float64) * (far - near))
        return metres.astype(np.float32)

    def close(self) -> None:
        if self._context is None:
            return
        self._context.make_current()
        if self._drawing is not None:  # else it could not be made
            self._drawing.free()
        self._context.free()
        self._context = self._drawing = None
