"""Units of measurement behind a number, and the conversion of one into another by pint (https://pint.readthedocs.io)."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Any

PERCENT = "percent"
_NAMES = {  # pint's name -> how answers write it; no words that mean other things too ("bar", "are", "at")
    "millimeter": "mm millimeter millimetre",
    "centimeter": "cm cms centimeter centimetre",
    "meter": "m meter metre",
    "kilometer": "km kms kilometer kilometre",
    "inch": '" inch inches',
    "foot": "ft foot feet",
    "yard": "yd yds yard",
    "mile": "mi mile",
    "milligram": "mg milligram",
    "gram": "g gram gramme",
    "kilogram": "kg kgs kilo kilogram",
    "pound": "lb lbs pound",
    "ounce": "oz ounce",
    "tonne": "tonne",
    "milliliter": "ml milliliter millilitre",
    "centiliter": "cl centiliter centilitre",
    "liter": "l liter litre",
    "gallon": "gallon",
    "second": "s sec secs second",
    "minute": "min mins minute",
    "hour": "h hr hrs hour",
    "day": "day",
    "degree": "° deg degree",
    "radian": "rad radian",
    "degree_Celsius": "°c celsius",
    "degree_Fahrenheit": "°f fahrenheit",
    "kilometer/hour": "km/h kmh kph",
    "mile/hour": "mph",
    "meter/second": "m/s",
    "millimeter**2": "mm2 mm^2",
    "centimeter**2": "cm2 cm^2",
    "meter**2": "m2 m^2 sqm",
    "kilometer**2": "km2 km^2",
    "centimeter**3": "cm3 cm^3",
    "meter**3": "m3 m^3",
    PERCENT: "% percent percents",
}
_UNIT_OF = MappingProxyType(
    {
        form: unit
        for unit, names in _NAMES.items()
        for name in names.split(" ")
        for form in (name, name + "s" if len(name) > 3 and name.isalpha() else name)
    }
)
_WRITTEN = re.compile(
    r"\s*-?\s*(?P<degrees>degrees? (?=celsius|fahrenheit|[CF]\b))?"
    r"(?P<power>square |cubic )?"
    r"(?P<unit>°\s?[CF]\b|[%°\"]|per cent\b|(?:km/h|m/s)\b|[A-Za-z]+(?:\^?[23])?(?![\w'])|[CF]\b)",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\b(?:in|to the nearest|unit[s:]*|\()\s*(?P<unit>[A-Za-z°%]+)\s*[?).,]", re.IGNORECASE)


def unit_after(text: str, end: int) -> tuple[str, int]:
    """Return the unit that stands behind the number that ends at `end`, and where it ends; ("", end) without one."""
    match = _WRITTEN.match(text, end)
    if match is None:
        return "", end
    name = match["unit"].lower().replace(" ", "")
    if match["degrees"]:
        name = "°" + name[0]
    if name == '"' and text[:end].count('"') % 2:
        return "", end  # it closes a quotation
    unit = _UNIT_OF.get(name, "")
    if match["power"] and unit:
        unit = f"{unit}**{2 if match['power'].lower().startswith('square') else 3}"
    return (unit, match.end()) if unit else ("", end)


def unit_asked(question: str) -> str:
    """Return the unit in which a question wants its answer ("in meters?"); "" if it names none."""
    found = [_UNIT_OF.get(match["unit"].lower(), "") for match in _ASKED.finditer(question)]
    return next((unit for unit in found if unit), "")


def convert(value: Decimal, unit: str, wanted: str) -> Decimal | None:
    """Return the value in the unit `wanted`; None if the two measure different things."""
    if unit == wanted:
        return value
    registry = _registry()
    try:
        converted = registry.Quantity(float(value), unit).to(wanted).magnitude
    except _errors():
        return None
    return Decimal(repr(float(f"{converted:.12g}")))


@cache
def _registry() -> Any:
    import pint  # here: it takes a moment, and few answers need it

    return pint.UnitRegistry()


@cache
def _errors() -> tuple[type[Exception], ...]:
    """Return what pint raises for units that do not fit each other."""
    import pint

    return (pint.DimensionalityError, pint.OffsetUnitCalculusError)
