"""Pictures encoded in memory, with other threads running beside."""

import io
import os
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.encoding import encoded


@pytest.fixture(scope="module")
def noise():
    """A picture of which the encoding takes a while."""
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def patient():
    """Threads give way only where they say so, not because another waits."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(30)
    yield
    sys.setswitchinterval(before)


class TestEncoded:
    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_read_back(self, format):
        image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
        options = {"quality": 95} if format == "JPEG" else {}
        found = Image.open(io.BytesIO(encoded(image, format, **options)))
        assert (found.format, found.size) == (format, (10, 6))
        np.testing.assert_allclose(np.asarray(found), np.asarray(image), atol=2)

    def test_without_files_in_memory(self, monkeypatch):
        """Other systems have none, and a sandbox may refuse them."""
        image = Image.new("RGB", (30, 20), (200, 30, 30))
        expected = encoded(image, "JPEG", quality=90)

        def refused(name):
            raise PermissionError(name)

        monkeypatch.setattr(os, "memfd_create", refused, raising=False)
        assert encoded(image, "JPEG", quality=90) == expected
        monkeypatch.delattr(os, "memfd_create")
        assert encoded(image, "JPEG", quality=90) == expected

    @pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no files in memory here")
    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_others_run_meanwhile(self, noise, patient, format):
        thread = threading.Thread(target=encoded, args=(noise, format))
        thread.start()
        turns = 0
        while thread.is_alive():
            time.sleep(0.001)
            turns += 1
        assert turns > 10

    def test_nothing_stays_open(self):
        image = Image.new("L", (3, 3))
        encoded(image, "PNG")
        before = os.dup(0)
        os.close(before)
        for _ in range(3):
            encoded(image, "PNG")
        after = os.dup(0)
        os.close(after)
        assert after == before
