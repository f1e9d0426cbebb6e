"""Extract the NOAA hourly temperatures of Seattle from the vega_datasets package into this folder.

Run once, with vega_datasets 0.9.0 installed; the result is committed. Fahrenheit becomes Celsius, local standard time
becomes seconds since 1970, nothing else changes.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path

import vega_datasets

PACIFIC_STANDARD = timezone(timedelta(hours=-8))
TARGET = Path(__file__).with_name("noaa-seattle.csv")


def main() -> None:
    """Write noaa-seattle.csv."""
    origin = Path(vega_datasets.__file__).parent / "_data" / "seattle-temps.csv"
    with origin.open(newline="") as readings, TARGET.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["source", "value", "timestamp"])
        for row in csv.DictReader(readings):
            taken = datetime.strptime(row["date"], "%Y/%m/%d %H:%M").replace(tzinfo=PACIFIC_STANDARD)
            celsius = (float(row["temp"]) - 32) / 1.8
            writer.writerow(["noaa-seattle", f"{celsius:.2f}", int(taken.timestamp())])


if __name__ == "__main__":
    main()
