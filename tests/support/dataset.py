"""A small data set of a simulated plant on disk, with its manifest: what an operator's export looks like."""

import csv
from pathlib import Path

from stackwitness_client.simulator import Plant

HOUR_MS = 3_600_000
FROM_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z


def write_plant(folder: Path, *, days: int, step_s: int = 3600, seed: int = 7) -> tuple[Path, int]:
    """Write plant.csv and stations.toml of station `mill-1`; return the manifest's path and how many readings it holds."""
    plant = Plant(seed, "cement_kiln", stn="mill-1")
    names = [channel.name for channel in plant.channels]
    rows: dict[int, dict[str, str]] = {}
    count = 0
    for record in plant.records(FROM_MS, FROM_MS + days * 24 * HOUR_MS, step_s):
        if record.value is not None:
            rows.setdefault(record.at_ms, {})[record.name] = str(record.value)
            count += 1
    with (folder / "plant.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ms", *names])
        for at_ms in range(FROM_MS, FROM_MS + days * 24 * HOUR_MS, step_s * 1000):
            writer.writerow([at_ms, *(rows.get(at_ms, {}).get(name, "") for name in names)])
    channels = "".join(
        f'  {{ column = "{c.name}", quantity = "{c.quantity}", unit = "{c.unit}", role = "{c.role}"'
        + (f", limit = {float(c.limit)}" if c.limit is not None else "")
        + " },\n"
        for c in plant.channels
    )
    manifest = folder / "stations.toml"
    manifest.write_text(
        '[dataset]\ntitle = "A simulated mill"\nagency = "Test bureau"\n\n[[stations]]\nstn = "mill-1"\n'
        'name = "Mill 1"\nindustry = "cement"\nutc_offset_min = 0\nfiles = ["plant.csv"]\n'
        f"channels = [\n{channels}]\n\n[stations.time]\n"
        f'start = "2025-01-01T00:00:00"\nstep_s = {step_s}\n'
    )
    return manifest, count
