"""How much a network computes and stores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Of one image.

    Attributes:
        binary_macs, float_macs: multiply-accumulates of convolutions and fully connected layers, with 1-bit
            and with other weights; padding counts, pooling and elementwise operators do not.
        binary_parameters, float_parameters: 1-bit weights, and all other trained values.
    """

    binary_macs: int
    float_macs: int
    binary_parameters: int
    float_parameters: int

    def __add__(self, other: Work) -> Work:
        return Work(
            self.binary_macs + other.binary_macs,
            self.float_macs + other.float_macs,
            self.binary_parameters + other.binary_parameters,
            self.float_parameters + other.float_parameters,
        )
