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
        free_options: those among them that may differ from the training.
        color_options: those of the free ones that change the color of a point where they are set. They describe the
            images of a use, not the weights: state dictionaries state None.
        takes_input_blur: True if the network can be told the blur of an image, see
            :class:`~monai_iste.networks.ISTE`. Others ignore ``input_blur`` in a call: training tells it to all.
    """

    option_names: ClassVar[tuple[str, ...]] = ()
    free_options: ClassVar[frozenset[str]] = frozenset()
    color_options: ClassVar[frozenset[str]] = frozenset()
    takes_input_blur: bool = False

    def options(self) -> dict[str, Any]:
        """Return the options by name; an attribute of the same name holds each."""
        return {name: getattr(self, name) for name in self.option_names}

    def pixel_options(self) -> dict[str, Any]:
        """Return the options that change the color of a point, by name; those of a use only where they are set."""
        return {
            name: value
            for name, value in sorted(self.options().items())
            if name not in self.free_options or (name in self.color_options and value is not None)
        }

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.takes_input_blur:
            kwargs.pop("input_blur", None)
        return with_metadata(super().__call__(plain_image(image), *args, **kwargs), image)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            unset = dict.fromkeys(self.color_options)
            destination._metadata.setdefault(prefix[:-1], {})[OPTIONS_KEY] = {**self.options(), **unset}

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        check_options(self, local_metadata.get(OPTIONS_KEY), "the state dictionary")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
