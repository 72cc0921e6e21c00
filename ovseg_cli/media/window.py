"""A window that shows pictures as they become ready."""

import os
import sys

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.media.opencv import load_opencv

_TITLE = "ovseg"
_ESCAPE = 27
_LARGEST = 1000  # longer side of the window, pixels
_TICK = 50  # milliseconds between two looks at the keyboard


class Window:
    """One window, open until it is closed by its user: its own button, q or Escape."""

    def __init__(self) -> None:
        """Open it; raises UsageError where there is no screen or OpenCV has no windows."""
        screens = ("DISPLAY", "WAYLAND_DISPLAY")
        # Asked first, because OpenCV's Qt ends the whole process where it finds no screen.
        if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
            raise UsageError(
                "a window needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set: "
                "leave out --show; the pictures are in the output folder"
            )
        self._cv2 = load_opencv()
        try:
            look = self._cv2.WINDOW_KEEPRATIO | self._cv2.WINDOW_GUI_NORMAL  # without a toolbar
            self._cv2.namedWindow(_TITLE, self._cv2.WINDOW_NORMAL | look)
        except self._cv2.error as error:
            raise UsageError(
                "this build of OpenCV opens no windows: "
                "pip uninstall opencv-python-headless; pip install opencv-python"
            ) from error
        self.is_open = True

    def show(self, pixels: np.ndarray, title: str) -> None:
        """Show a picture (H, W, 3) uint8 RGB at once; nothing happens in a closed window."""
        if self.is_open:
            height, width = pixels.shape[:2]
            scale = min(1.0, _LARGEST / max(height, width))
            self._cv2.resizeWindow(
                _TITLE, max(1, round(width * scale)), max(1, round(height * scale))
            )
            self._cv2.imshow(_TITLE, np.ascontiguousarray(pixels[..., ::-1]))
            self._cv2.setWindowTitle(_TITLE, title)
            self._look(1)

    def wait(self) -> None:
        """Leave the last picture on the screen until any key is pressed or the window closed."""
        while self.is_open and not self._look(_TICK):
            pass
        self.close()

    def close(self) -> None:
        """Take the window from the screen."""
        if self.is_open:
            self.is_open = False
            self._cv2.destroyAllWindows()

    def _look(self, milliseconds: int) -> bool:
        """Let the window work; whether a key was pressed. q, Escape and its button close it."""
        key = self._cv2.waitKey(milliseconds) & 0xFF
        visible = self._cv2.getWindowProperty(_TITLE, self._cv2.WND_PROP_VISIBLE) >= 1
        if not visible or key in (ord("q"), _ESCAPE):
            self.close()
        return key != 0xFF
