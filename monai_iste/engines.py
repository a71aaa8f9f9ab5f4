"""What ISTE needs around MONAI's Ignite engines: how a batch reaches the network, and how a run becomes a table."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import PrepareBatch, PrepareBatchExtraInput, default_prepare_batch
from monai.utils import string_list_all_gather


class PrepareQueries(PrepareBatchExtraInput):
    """Training batches: the network is called as ``network(image, coord=..., cell=...)``, the label is the colors."""

    def __init__(self) -> None:
        super().__init__({"coord": "coord", "cell": "cell"})


class PrepareWholeImage(PrepareBatch):
    """Evaluation and inference batches: the network is called as ``network(image, scale=...)``.

    The label is the whole image at high resolution; None where there is no truth.
    """

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, float]]:
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return image, label, (), {"scale": float(batchdata["scale"][0])}


class ResultTable:
    """Evaluator handler: ``engine.state.images`` holds one row per image, scale and method after every run.

    Reads every metric that is kept twice, as ``psnr`` for the network and as ``bicubic_psnr`` for interpolation, which
    MONAI does per image, and the items' ``name`` and ``scale``; on several processes each ends with all rows.

    Args:
        method: the network's name in the table.
    """

    def __init__(self, method: str = "iste") -> None:
        self.method = method
        self._items: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: self._items.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self._collect)

    def _note(self, engine: Engine) -> None:
        self._items += [f"{float(item['scale'])} {item['name']}" for item in engine.state.batch]  # type: ignore[union-attr]

    def _collect(self, engine: Engine) -> None:
        details: dict[str, torch.Tensor] = engine.state.metric_details  # type: ignore[attr-defined]
        items = [item.split(" ", 1) for item in string_list_all_gather(self._items)]
        metrics = [name for name in details if f"bicubic_{name}" in details]
        engine.state.images = [  # type: ignore[attr-defined]
            {
                "image": name,
                "scale": _plain(float(scale)),
                "method": method,
                **{metric: details[f"{prefix}{metric}"][i].item() for metric in metrics},
            }
            for method, prefix in (("bicubic", "bicubic_"), (self.method, ""))
            for i, (scale, name) in enumerate(items)
        ]


def mean_rows(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean of every metric over images, for every scale and method, in order of scale, then of first appearance."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in images:
        groups.setdefault((row["scale"], row["method"]), []).append(row)
    return [
        {
            "scale": scale,
            "method": method,
            **{
                metric: round(sum(r[metric] for r in rows) / len(rows), 5 if metric == "ssim" else 4)
                for metric in rows[0]
                if metric not in ("image", "scale", "method")
            },
            "images": len(rows),
        }
        for (scale, method), rows in sorted(groups.items(), key=lambda group: group[0][0])
    ]


def format_table(rows: list[dict[str, Any]], protocol: str) -> str:
    """The rows as text, with the gain over bicubic at the same scale.

    Example:
        >>> print(format_table([{"scale": 2, "method": "bicubic", "psnr": 30.0, "ssim": 0.9}], "iste-rgb"))
        protocol iste-rgb
        scale  method        PSNR dB    SSIM    gain dB
        x2     bicubic         30.00  0.9000      +0.00
    """
    bicubic = {row["scale"]: row["psnr"] for row in rows if row["method"] == "bicubic"}
    lines = [f"protocol {protocol}", "scale  method        PSNR dB    SSIM    gain dB"]
    for row in rows:
        gain = f"{row['psnr'] - bicubic[row['scale']]:+.2f}" if row["scale"] in bicubic else ""
        lines.append(f"x{row['scale']:<5} {row['method']:<12} {row['psnr']:>8.2f}  {row['ssim']:.4f} {gain:>10}")
    return "\n".join(lines)


def _plain(scale: float) -> float | int:
    return int(scale) if scale.is_integer() else scale
