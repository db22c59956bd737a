"""Durations, sizes and shares: from text to a number, and back to the shortest text."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from siger_gateway.config.names import BadText

MAX_DURATION: Final = 10 * 365 * 86400.0
"""Seconds: ten years. Timers and JetStream take more; a typing mistake is likelier."""

MAX_SIZE: Final = 2**50
"""Bytes: 1 PiB, for the same reason."""

_DURATION_UNITS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  # milliseconds
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,25})?(?:ms|h|m|s))+")
_DURATION_PART: Final = re.compile(r"([0-9.]+)(ms|h|m|s)")
_SIZE_UNITS: Final = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_DECIMAL_SIZES: Final = {"k": "KiB", "kb": "KiB", "m": "MiB", "mb": "MiB", "g": "GiB", "gb": "GiB"}


def parse_duration(text: str) -> float:
    """Seconds: ``250ms`` -> 0.25, ``1h30m`` -> 5400.0. Fractions (``1.5s``) are allowed; so is a
    bare ``0``.

    :raises BadText: if it is not a duration, or is longer than ``MAX_DURATION``.
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text):
            raise BadText("the unit is missing", f"{text}s")
        raise BadText("")
    total = sum(
        Decimal(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)
    )
    seconds = float(total / 1000)
    if seconds > MAX_DURATION:
        raise BadText(f"longer than ten years ({format_duration(MAX_DURATION)})")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that ``parse_duration`` takes back to exactly ``seconds`` (not negative):
    a whole number of the largest unit that divides it, else milliseconds with a fraction."""
    # repr() is the shortest decimal that is this very float, so no digit is invented here.
    milliseconds = Decimal(repr(float(seconds))) * 1000
    if not milliseconds:
        return "0s"
    for unit, size in _DURATION_UNITS.items():
        if milliseconds % size == 0:
            return f"{int(milliseconds // size)}{unit}"
    return f"{milliseconds.normalize():f}ms"


def parse_size(text: str) -> int:
    """Bytes: ``512`` -> 512, ``64KiB`` -> 65536.

    :raises BadText: if it is not a size, or is larger than ``MAX_SIZE``.
    """
    found = re.fullmatch(r"(0|[1-9][0-9]{0,17}) ?([A-Za-z]*)", text)
    if not found:
        raise BadText("")
    number, unit = found.groups()
    if unit and unit not in _SIZE_UNITS:
        names = {name.lower(): name for name in _SIZE_UNITS} | _DECIMAL_SIZES
        nearby = names.get(unit.lower())
        raise BadText(
            "units are B, KiB, MiB, GiB and TiB, of 1024 each",
            f"{number}{nearby}" if nearby else "",
        )
    size = int(number) * _SIZE_UNITS[unit or "B"]
    if size > MAX_SIZE:
        raise BadText(f"larger than {format_size(MAX_SIZE)}")
    return size


def format_size(size: int) -> str:
    """The shortest text that ``parse_size`` takes back to exactly ``size`` bytes."""
    for unit, factor in _SIZE_UNITS.items():
        if factor > 1 and size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_percent(text: str) -> float:
    """A share: ``50%`` -> 0.5. Fractions (``0.5%``) are allowed.

    :raises BadText: if it is not one, or is more than 100 %.
    """
    number = text.removesuffix("%")
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,15})?", number):
        raise BadText("")
    if number == text:
        raise BadText("the % is missing", f"{text}%")
    share = float(Decimal(number) / 100)
    if share > 1:
        raise BadText("more than 100%")
    return share


def format_percent(share: float) -> str:
    """The text that ``parse_percent`` takes back to ``share``."""
    return f"{(Decimal(repr(float(share))) * 100).normalize():f}%"
