"""Label every pixel of photos with words of your own.

    import ovseg_cli
    model = ovseg_cli.load_model("mini")
    result = model.segment("street.jpg", ["sky", "road", "car"])

The public names are loaded when they are first used: importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovseg_cli.errors import (
        CheckpointError,
        InputError,
        NetworkError,
        OutputError,
        OvsegError,
        UsageError,
        VocabularyError,
    )
    from ovseg_cli.exemplars import Exemplar
    from ovseg_cli.frame import Frame
    from ovseg_cli.loading import load_model
    from ovseg_cli.segmentation import UNLABELED, ClassArea, Segmentation
    from ovseg_cli.segmenter import Model, Segmenter
    from ovseg_cli.vocabulary import ClassName, Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "CheckpointError",
        "InputError",
        "NetworkError",
        "OutputError",
        "OvsegError",
        "UsageError",
        "VocabularyError",
    ),
    "exemplars": ("Exemplar",),
    "frame": ("Frame",),
    "loading": ("load_model",),
    "segmentation": ("UNLABELED", "ClassArea", "Segmentation"),
    "segmenter": ("Model", "Segmenter"),
    "vocabulary": ("ClassName", "Vocabulary"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "UNLABELED",
    "CheckpointError",
    "ClassArea",
    "ClassName",
    "Exemplar",
    "Frame",
    "InputError",
    "Model",
    "NetworkError",
    "OutputError",
    "OvsegError",
    "Segmentation",
    "Segmenter",
    "UsageError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
