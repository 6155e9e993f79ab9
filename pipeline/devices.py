"""What devices can do: published peaks, memory and power, and the share of a peak that training reaches.

Peaks are dense TFLOP/s (no sparsity) of the makers' data sheets: bf16 and fp16 on tensor cores, float32 outside them.
A share is the utilisation by model FLOPs (MFU; Chowdhery et al., arXiv:2204.02311, appendix B), to plan with: `reached`
says where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ASSUMED = "assumed, not measured"
HOPPER = "measured on one H200, bf16: MAE-B 23 % eager and 31 % compiled, MAE-L 27 % eager"
AMPERE = "DailyMAE's 18 hours (arXiv:2404.00509) and MAE-ST's Table 1 (arXiv:2205.09113)"


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device.

    peaks: TFLOP/s by precision. mfu: share of each that training reaches; reached: where that comes from.
    memory_gib, watts: of a board at its rated power; None where they are not known.
    """

    peaks: Mapping[str, float]
    mfu: Mapping[str, float] = field(default_factory=lambda: {"bf16": 0.3, "float32": 0.5})
    reached: str = ASSUMED
    memory_gib: int | None = None
    watts: int | None = None


# The first name whose words are all found in a device's own name counts, so longer names stand before shorter ones.
DEVICES: dict[str, Device] = {
    "B200": Device(peaks={"bf16": 2250.0, "float32": 75.0}, memory_gib=180, watts=1000),
    "H200": Device(peaks={"bf16": 989.4, "float32": 66.9}, memory_gib=141, watts=700, reached=HOPPER),
    "H100 PCIe": Device(peaks={"bf16": 756.0, "float32": 51.2}, memory_gib=80, watts=350, reached=HOPPER),
    "H100 NVL": Device(peaks={"bf16": 835.5, "float32": 60.0}, memory_gib=94, watts=400, reached=HOPPER),
    "H100": Device(peaks={"bf16": 989.4, "float32": 66.9}, memory_gib=80, watts=700, reached=HOPPER),
    "A100": Device(
        peaks={"bf16": 312.0, "float32": 19.5},
        mfu={"bf16": 0.35, "float32": 0.5},
        memory_gib=80,
        watts=400,
        reached=AMPERE,
    ),
    "L40S": Device(peaks={"bf16": 362.0, "float32": 91.6}, memory_gib=48, watts=350),
    "L4": Device(peaks={"bf16": 121.0, "float32": 30.3}, memory_gib=24, watts=72),
    "A40": Device(peaks={"bf16": 149.7, "float32": 37.4}, memory_gib=48, watts=300),
    "A10": Device(peaks={"bf16": 125.0, "float32": 31.2}, memory_gib=24, watts=150),
    "V100": Device(
        peaks={"fp16": 125.0, "float32": 15.7},
        mfu={"fp16": 0.1, "float32": 0.5},
        memory_gib=32,
        watts=300,
        reached="MAE's released code: ViT-L, 800 epochs in 42 hours on 64",
    ),
    "RTX 4090": Device(peaks={"bf16": 165.2, "float32": 82.6}, memory_gib=24, watts=450),
    "RTX 3090": Device(peaks={"bf16": 71.0, "float32": 35.6}, memory_gib=24, watts=350),
    "TPU v3 core": Device(
        peaks={"bf16": 61.5},
        mfu={"bf16": 0.3},
        memory_gib=16,
        reached="MAE's Table 2 (arXiv:2111.06377)",
    ),
}

# What a job without GPUs computes on: one core's float32 products of matrices, measured on a Xeon with AVX-512.
CORE = Device(
    peaks={"float32": 0.097}, mfu={"float32": 0.5}, reached="the demo's MAE step on one core, 47 of 97 GFLOP/s"
)


def find_device(name: str) -> Device | None:
    """The device of a name such as `NVIDIA H100 80GB HBM3`, or None where it is not in the table."""
    return next((device for known, device in DEVICES.items() if all(part in name for part in known.split())), None)
