"""Base class of ISTE and of the networks it is compared with: stated options, metadata of MONAI's images."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from monai_iste.networks.metadata import plain_image, with_metadata
from monai_iste.networks.options import OPTIONS_KEY, check_options


class UpscalingNetwork(nn.Module):
    """Network that is called as ``network(image, scale=...)`` or at coordinates.

    * Its state dictionaries state its options, and those of a network with other options are refused
      (:mod:`~monai_iste.networks.options`).
    * The result for a MetaTensor is one too, with the affine of the new pixel size; colors at coordinates are a plain
      tensor.

    Attributes:
        option_names: arguments of the constructor that change the result and no tensor's shape.
        free_options: those among them that may differ from the training: they do not change the color of a point.
    """

    option_names: ClassVar[tuple[str, ...]] = ()
    free_options: ClassVar[frozenset[str]] = frozenset()

    def options(self) -> dict[str, Any]:
        """Return the options by name; an attribute of the same name holds each."""
        return {name: getattr(self, name) for name in self.option_names}

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return with_metadata(super().__call__(plain_image(image), *args, **kwargs), image)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})[OPTIONS_KEY] = self.options()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        check_options(self, local_metadata.get(OPTIONS_KEY), "the state dictionary")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
