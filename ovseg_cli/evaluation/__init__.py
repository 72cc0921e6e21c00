"""Label maps scored against ground truth, by class, photo and region."""

from ovseg_cli.evaluation.confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
