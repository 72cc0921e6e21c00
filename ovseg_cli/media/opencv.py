"""OpenCV, imported only where it is needed: on many servers it cannot be loaded."""

import os
from types import ModuleType

from ovseg_cli.errors import UsageError


def load_opencv() -> ModuleType:
    """The module cv2; raises UsageError that says how to make it load.

    opencv-python links against libGL and libglib, which a server without a screen lacks.
    """
    # What it has to say of a camera goes to standard error past our own messages.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise UsageError(
            f"OpenCV cannot be loaded ({error}). Either install the system libraries that it needs "
            "(Debian and Ubuntu: apt install libgl1 libglib2.0-0), or, where no window is to be "
            "opened, the build without them: "
            "pip uninstall opencv-python; pip install opencv-python-headless"
        ) from error
    return cv2
