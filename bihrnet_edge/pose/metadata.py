"""What a deployed pose network must carry with it: how to feed it and how to read its heatmaps.

Written into every checkpoint and artifact, so that a device needs the file and nothing else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet

#: Key of the metadata in a .tflite file and in an ONNX model's metadata_props.
METADATA_KEY = "bihrnet_edge"
FORMAT_VERSION = 1

#: RGB mean and standard deviation of ImageNet on a 0..1 scale, as HRNet and mmpose normalise.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_MAX_SIDE = 4096
#: Commands name the files they write after the model, so a name must not lead into another folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+ -]{0,99}")


@dataclass(frozen=True)
class PoseMetadata:
    """How to use a pose network.

    Attributes:
        name: the model's name: up to 100 letters, digits, spaces and ``_.+-``.
        input_height, input_width: pixels of the cropped person image.
        keypoints: joints in heatmap order.
        channel_order: always ``RGB``.
        mean, std: per channel, on a 0..1 scale: ``x = (pixel / 255 - mean) / std``.
        heatmap_stride: input pixels per heatmap pixel.
        box_padding: a person box is enlarged by this factor before it is cropped.
    """

    name: str
    input_height: int
    input_width: int
    keypoints: KeypointSet
    channel_order: str = "RGB"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    heatmap_stride: int = 4
    box_padding: float = 1.25

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"model name {self.name[:100]!r} cannot be a file's name; give up to 100 letters, digits, spaces "
                "or _.+- that begin with a letter or digit."
            )
        for side, value in (("height", self.input_height), ("width", self.input_width)):
            if not 1 <= value <= _MAX_SIDE:
                raise UserError(f"model {self.name!r}: input {side} is {value}; give 1 to {_MAX_SIDE} pixels.")
        if self.channel_order != "RGB":
            raise UserError(f"model {self.name!r}: channel order {self.channel_order!r} is not supported; use RGB.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"model {self.name!r}: mean and std need three values each, std above 0.")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise UserError(f"model {self.name!r}: mean or std holds NaN or infinity; give finite values.")
        if self.heatmap_stride < 1 or not 0.5 <= self.box_padding <= 4:
            raise UserError(f"model {self.name!r}: heatmap stride or box padding is out of range.")

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values.update(
            format_version=FORMAT_VERSION,
            mean=list(self.mean),
            std=list(self.std),
            keypoints=self.keypoints.to_dict(),
        )
        return values

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PoseMetadata:
        """Inverse of :meth:`to_dict`; anything malformed is a :class:`UserError`."""
        try:
            version = int(values["format_version"])
            if version > FORMAT_VERSION:
                raise UserError(
                    f"the file's metadata has version {version}, this bihrnet-edge reads up to "
                    f"{FORMAT_VERSION}; upgrade bihrnet-edge."
                )
            mean, std = (tuple(float(v) for v in values[key]) for key in ("mean", "std"))
            return cls(
                name=str(values["name"]),
                input_height=int(values["input_height"]),
                input_width=int(values["input_width"]),
                keypoints=KeypointSet.from_dict(values["keypoints"]),
                channel_order=str(values["channel_order"]),
                mean=mean,  # type: ignore[arg-type]  # length is checked in __post_init__
                std=std,  # type: ignore[arg-type]
                heatmap_stride=int(values["heatmap_stride"]),
                box_padding=float(values["box_padding"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"the file's bihrnet-edge metadata is malformed ({error!r}); export it again.") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> PoseMetadata:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"the file's bihrnet-edge metadata is not JSON ({error}); export it again.") from error
        if not isinstance(values, dict):
            raise UserError("the file's bihrnet-edge metadata is not a JSON object; export it again.")
        return cls.from_dict(values)
