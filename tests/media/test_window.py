"""OpenCV and its windows, on a stand-in for cv2: the machines that run tests have no screen."""

import stat
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.media import window as module
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.media.window import Window


class Screen(SimpleNamespace):
    """What cv2 offers to a window; `keys` are pressed one by one, -1 is none."""

    WINDOW_NORMAL = WINDOW_KEEPRATIO = 0
    WINDOW_GUI_NORMAL, WND_PROP_VISIBLE = 16, 4
    error = type("error", (Exception,), {})

    def __init__(self, keys=()):
        super().__init__(keys=list(keys), shown=[], titles=[], sizes=[], visible=False, asked=0)

    def namedWindow(self, name, flags):
        self.visible = True

    def imshow(self, name, picture):
        self.shown.append(picture)

    def resizeWindow(self, name, width, height):
        self.sizes.append((width, height))

    def setWindowTitle(self, name, title):
        self.titles.append(title)

    def waitKey(self, milliseconds):
        self.asked += 1
        assert milliseconds > 0  # 0 would wait for ever
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, name, which):
        return 1.0 if self.visible else 0.0

    def destroyAllWindows(self):
        self.visible = False


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(module, "_ends_the_process", lambda: False)

    def with_keys(*keys):
        screen = Screen(keys)
        monkeypatch.setitem(sys.modules, "cv2", screen)
        return screen

    return with_keys


RED = np.full((2, 3, 3), (255, 0, 9), np.uint8)


def test_pictures_are_shown_in_opencvs_order_of_colours(screen):
    cv2 = screen(-1, -1)
    window = Window()
    window.show(RED, "a.png")
    assert cv2.shown[0].tolist() == np.full((2, 3, 3), (9, 0, 255)).tolist()
    assert cv2.shown[0].flags.c_contiguous  # OpenCV refuses others
    assert cv2.titles == ["a.png"]
    assert window.is_open


def test_the_window_takes_the_pictures_shape_and_fits_the_screen(screen):
    cv2 = screen()
    window = Window()
    for height, width in ((30, 40), (2000, 4000), (1, 9000)):
        window.show(np.zeros((height, width, 3), np.uint8), "a.png")
    assert cv2.sizes == [(40, 30), (1000, 500), (1000, 1)]


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_q_and_escape_close_it_and_nothing_more_is_shown(screen, key):
    cv2 = screen(key)
    window = Window()
    window.show(RED, "a.png")
    window.show(RED, "b.png")
    window.wait()
    assert (cv2.titles, cv2.asked, cv2.visible) == (["a.png"], 1, False)


def test_its_own_button_closes_it(screen):
    cv2 = screen()
    window = Window()
    cv2.visible = False
    window.show(RED, "a.png")
    assert not window.is_open


def test_at_the_end_any_key_goes_on(screen):
    cv2 = screen(-1, -1, -1, ord("x"))
    window = Window()
    window.show(RED, "a.png")
    assert window.is_open
    window.wait()
    assert cv2.asked == 4
    assert not window.is_open


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others have always a screen")
def test_without_a_screen_opencv_is_not_touched(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match="leave out --show"):
        Window()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others have always a screen")
@pytest.mark.parametrize("end", ["kill -ABRT $$", "exec sleep 20"])
def test_a_screen_that_is_not_there_any_more_does_not_end_the_process(monkeypatch, tmp_path, end):
    """Qt aborts where it cannot connect; the interpreter of the trial stands in for that."""
    trial = tmp_path / "python"
    trial.write_text(f"#!/bin/sh\n{end}\n")
    trial.chmod(trial.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(trial))
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match="screen of DISPLAY=:987: leave out --show"):
        Window()


def test_a_build_without_windows(screen):
    cv2 = screen()

    def refuse(name, flags):
        raise cv2.error("The function is not implemented")

    cv2.namedWindow = refuse
    with pytest.raises(UsageError, match="pip uninstall opencv-python-headless"):
        Window()


def test_an_opencv_that_cannot_be_loaded_names_both_remedies(monkeypatch, tmp_path):
    text = "libGL.so.1: cannot open shared object file"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({text!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(UsageError) as caught:
        load_opencv()
    for part in ("libGL.so.1", "apt install libgl1", "pip install opencv-python-headless"):
        assert part in str(caught.value)
