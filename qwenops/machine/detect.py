"""The machine as one value: the devices that are here, or those that `--gpu` describes, and the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwenops.machine.amd import read_amd
from qwenops.machine.apple import read_apple
from qwenops.machine.host import read_host
from qwenops.machine.nvidia import read_nvidia
from qwenops.machine.spec import parse_spec, spec_notes
from qwenops.machine.types import Device, Machine


def detect(gpu: str | None = None, *, root: Path = Path("/")) -> Machine:
    """What is there: NVIDIA by NVML, AMD by sysfs, Apple by its wired limit; or the devices that `gpu` describes.

    Never fails on broken hardware or drivers: what could not be read stands in the notes, with the mend. Raises
    BadInput only for a `gpu` that cannot be read. `root` stands for the file system root.
    """
    host = read_host(root)
    if gpu is not None:
        described = parse_spec(gpu)
        return Machine(described, host, notes=spec_notes(described), hypothetical=True)

    devices: list[Device] = []
    notes: list[str] = []
    for found, said in (read_nvidia(host, root), read_amd(host, root), read_apple(host)):
        devices.extend(found)
        notes.extend(said)
    placed = tuple(replace(device, index=index) for index, device in enumerate(devices))
    return Machine(placed, host, notes=tuple(notes))
