"""Extract the daily maximum temperatures of Seattle from the vega_datasets package into this folder.

Run once, with vega_datasets 0.9.0 installed; the result is committed. The day becomes the second it began at, in local
standard time; nothing else changes.
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
    origin = Path(vega_datasets.__file__).parent / "_data" / "seattle-weather.csv"
    with origin.open(newline="") as days, TARGET.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["source", "value", "timestamp"])
        for row in csv.DictReader(days):
            day = datetime.strptime(row["date"], "%Y/%m/%d").replace(tzinfo=PACIFIC_STANDARD)
            writer.writerow(["noaa-seattle", row["temp_max"], int(day.timestamp())])


if __name__ == "__main__":
    main()
