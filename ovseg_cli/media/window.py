"""A window that shows pictures as they become ready."""

import os
import subprocess
import sys

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.media.opencv import load_opencv

_TITLE = "ovseg"
_ESCAPE = 27
_LARGEST = 1000  # longer side of the window, pixels
_TICK = 50  # milliseconds between two looks at the keyboard
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
_PATIENCE = 20  # seconds that a trial may take, at most: a screen may be on another machine


class Window:
    """One window, open until it is closed by its user: its own button, q or Escape."""

    def __init__(self) -> None:
        """Open it; raises UsageError where there is no screen or OpenCV has no windows."""
        if sys.platform.startswith("linux"):
            _check_screen()
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


def _check_screen() -> None:
    """Raise UsageError where OpenCV's Qt would end the whole process: it finds no screen."""
    remedy = "leave out --show; the pictures are in the output folder"
    named = [f"{name}={os.environ[name]}" for name in _SCREENS if os.environ.get(name)]
    if not named:
        raise UsageError(
            f"a window needs a screen, and neither {' nor '.join(_SCREENS)} is set: {remedy}"
        )
    if _ends_the_process():
        raise UsageError(f"no window opens on the screen of {', '.join(named)}: {remedy}")


def _ends_the_process() -> bool:
    """Whether a window ends the process that opens it, or is never there."""
    # From where this process has its modules: with -c Python looks in the current folder first.
    trial = f"import sys; sys.path = {sys.path!r}; import cv2; cv2.namedWindow({_TITLE!r})"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", trial], capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return ended.returncode < 0  # by a signal; an exception will come here, too
