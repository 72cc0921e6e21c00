"""What can be chosen about an export."""

from dataclasses import dataclass

REGION, CLASS = "region", "class"


@dataclass(frozen=True)
class ExportOptions:
    """Each of them matters to some formats only."""

    annotations: str = REGION  # coco: one for each connected region, or for each class of a photo
    class_name: str | None = None  # cutout: the class that is kept, by its name or a synonym
    photos_at: str = "/data/local-files/?d="  # label-studio: what precedes the photos' names
