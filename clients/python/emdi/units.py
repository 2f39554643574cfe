"""Units of measurement, and the one spelling of values and times in text files."""

from datetime import UTC, datetime, timedelta

# Names follow RFC 8428 section 12.1 and RFC 8798 where they have one; the rest is what stack monitors report.
UNITS: frozenset[str] = frozenset(
    {
        "mg/m3",
        "ug/m3",
        "ng/m3",
        "g/m3",
        "kg/m3",
        "kg/kg",
        "ppm",
        "ppb",
        "%",
        "%vol",
        "%RH",
        "1",
        "W",
        "kW",
        "MW",
        "MWh",
        "kWh",
        "GJ",
        "GJ/h",
        "MJ/h",
        "mmBtu",
        "mmBtu/h",
        "lb/mmBtu",
        "Cel",
        "K",
        "degF",
        "Pa",
        "hPa",
        "kPa",
        "MPa",
        "mbar",
        "bar",
        "mmHg",
        "mmH2O",
        "m/s",
        "m3/s",
        "m3/h",
        "km3/h",
        "Nm3/h",
        "l/min",
        "l/s",
        "m3",
        "scfh",
        "t",
        "t/h",
        "t/d",
        "kg",
        "kg/h",
        "g/s",
        "kg/s",
        "lb/h",
        "tonne/h",
        "A",
        "mA",
        "V",
        "kV",
        "VA",
        "var",
        "Hz",
        "1/min",
        "pH",
        "g",
        "l",
        "mm",
        "m",
        "deg",
        "rad",
        "s",
        "min",
        "h",
        "d",
        "lx",
        "W/m2",
        "dB",
        "mS/cm",
        "NTU",
        "1/m",
    }
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_value(value: float | None) -> str:
    """Return the shortest decimal text that reads back as the same double; "" for a missing value."""
    return "" if value is None else repr(float(value))


def format_at(at_ms: int) -> str:
    """Return Unix milliseconds as UTC text, `2026-01-02T03:04:05.678Z`; beyond the year 9999 their number.

    Some times in the log are only said (of receipt, of an event): whoever wrote one must not stop its readers.
    """
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return f"{at_ms} ms after 1970"
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
