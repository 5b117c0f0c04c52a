"""Patterns to rules: the grammar of event-ruler's compiler, operator by operator, with its error texts.

A pattern compiles to sub-rules, of which any may match; a sub-rule is a field per dotted path, all of which must match.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NoReturn, TypeAlias

from eip.errors import InvalidPattern
from eip.matching import _operators as operators
from eip.matching._complexity import check_wildcards
from eip.matching._operators import Field
from eip.matching._tokens import Token, Tokens
from eip.matching._values import Opaque, address, number
from eip.matching._work import MAX_TEXT

__all__ = ["Dialect", "SubRule", "compile_pattern", "pattern_text"]

Dialect: TypeAlias = Literal["eventbridge", "sns"]
SubRule: TypeAlias = dict[str, Field]

MOST_RULES: Final = 1000
"""Combinations of ``$or`` branches (EventBridge user guide)."""
_MAX_FIELDS: Final = 50_000
"""Fields of all combinations together."""
_MAX_SEGMENTS: Final = 200
"""Names in a path, those in a name with dots included; as deep as patterns may nest."""

_OPERATIONS: Final = (
    *("exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr"),
    *("=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case"),
    *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
    *("ip-address-in-range", "ip-address-not-in-range"),
)
_RESERVED: Final = frozenset(_OPERATIONS)
_ONE_KEY: Final = "Only one key allowed in match expression"
_NUMERIC_ONE_KEY: Final = "Too many elements in numeric expression"


def pattern_text(pattern: Any) -> str:
    """A pattern given as dict, text or bytes, as text."""
    if isinstance(pattern, (bytes, bytearray)):
        try:
            return bytes(pattern).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidPattern("pattern is not UTF-8") from error
    if isinstance(pattern, str):
        return pattern
    try:
        return json.dumps(pattern, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPattern(f"pattern is not JSON: {error}") from error


def _check_size(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise InvalidPattern(f"pattern of {len(text):,} characters; at most {MAX_TEXT:,} are supported")


def compile_pattern(text: str, dialect: Dialect = "eventbridge") -> list[SubRule]:
    """The sub-rules of a pattern; raises `InvalidPattern`.

    Where it fails and uses ``$or``, that is tried as an ordinary field name; the error is that of the first attempt.
    """
    _check_size(text)
    try:
        rules = _Compiler(text, dialect).compile()
    except InvalidPattern:
        if '"$or"' not in text:
            raise
        try:
            rules = _Compiler(text, dialect, or_is_a_field=True).compile()
        except InvalidPattern:
            pass
        else:
            return rules
        raise
    return rules


class _Compiler:
    """One pass over a pattern's tokens."""

    def __init__(self, text: str, dialect: Dialect, *, or_is_a_field: bool = False) -> None:
        self._tokens = Tokens(text)
        self._next = self._tokens.next
        self._fail: Callable[[str], NoReturn] = self._tokens.fail
        self._sns = dialect == "sns"
        self._or_is_a_field = or_is_a_field
        self._wildcards: dict[str, list[str]] = {}
        self._fields = 0

    def compile(self) -> list[SubRule]:
        if self._next().kind != "{":
            self._fail("Filter is not an object")
        rules: list[SubRule] = []
        self._object(rules, (), inside_or=False)
        self._tokens.end()
        if not check_wildcards(self._wildcards.values()):
            raise InvalidPattern(
                "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences "
                "after a wildcard character"
            )
        return rules

    def _object(self, rules: list[SubRule], path: tuple[str, ...], *, inside_or: bool) -> None:
        empty = True
        while (token := self._next()).kind != "}":
            empty = False
            self._member(rules, path, token.text, inside_or=inside_or)
        if empty:
            self._fail("Empty objects are not allowed")

    def _member(self, rules: list[SubRule], path: tuple[str, ...], name: str, *, inside_or: bool) -> None:
        if name == "$or" and not self._or_is_a_field:
            if self._next().kind != "[":
                self._fail("It must be an Array followed with $or.")
            self._or(rules, path)
            return
        if inside_or and name in _RESERVED:
            self._fail(f"{name} is Ruler reserved fieldName which cannot be used inside $or.")
        kind = self._next().kind
        if kind == "{":
            self._object(rules, (*path, name), inside_or=inside_or)
        elif kind == "[":
            dotted = ".".join((*path, name))
            if dotted.count(".") >= _MAX_SEGMENTS:
                self._fail(f"Paths of more than {_MAX_SEGMENTS} names are not supported")
            field = self._field(dotted)
            if not rules:
                rules.append({})
            self._count(len(rules))
            for rule in rules:
                rule[dotted] = field
        else:
            self._fail(f'"{name}" must be an object or an array')

    def _or(self, rules: list[SubRule], path: tuple[str, ...]) -> None:
        before = rules[:] or [{}]
        found: list[SubRule] = []
        branches = 0
        while (token := self._next()).kind != "]":
            if token.kind != "{":
                self._fail("Only JSON object is allowed in array of $or relationship.")
            branches += 1
            self._count(sum(map(len, before)))
            branch = [dict(rule) for rule in before]
            self._object(branch, path, inside_or=True)
            found += branch
            if len(found) > MOST_RULES:
                self._fail(f"Rule is too complex - $or gives more than {MOST_RULES:,} combinations")
        if branches < 2:
            self._fail("There must have at least 2 Objects in $or relationship.")
        rules[:] = found

    def _count(self, fields: int) -> None:
        """Bound the fields that ``$or`` multiplies."""
        self._fields += fields
        if self._fields > _MAX_FIELDS:
            self._fail(f"Rule is too complex - $or gives more than {_MAX_FIELDS:,} fields")

    def _field(self, path: str) -> Field:
        field = Field()
        count = 0
        while (token := self._next()).kind != "]":
            count += 1
            if token.kind == "{":
                self._expression(field, path)
            elif token.kind == "string":
                self._plain_string(field, token.text)
            elif token.kind == "number":
                self._plain_number(field, token.text)
            elif token.kind == "literal":
                field.literals.add(token.value)
            else:
                self._fail("Match value must be String, number, true, false, or null")
        if not count:
            self._fail("Empty arrays are not allowed")
        return field

    @staticmethod
    def _plain_string(field: Field, text: str) -> None:
        wanted = address(text)
        if wanted is None:
            field.strings.add(text)
        else:
            field.add_address(wanted)

    @staticmethod
    def _plain_number(field: Field, text: str) -> None:
        value = number(text)
        if isinstance(value, Opaque):
            field.texts.add(value)
        else:
            field.numbers.add(value)

    # Match expressions: {"operator": operand}.

    def _expression(self, field: Field, path: str) -> None:
        token = self._next()
        if token.kind != "name":
            self._fail("Match expression name not found")
        operator = token.text
        handler = self._OPERATORS.get(operator)
        if handler is None or (self._sns and operator == "wildcard"):
            self._fail(f"Unrecognized match type {operator}")
        handler(self, field, path)
        if self._next().kind != "}":
            self._fail(_NUMERIC_ONE_KEY if operator in ("numeric", "anything-but") else _ONE_KEY)

    def _text(self, operator: str) -> str:
        token = self._next()
        if token.kind != "string":
            self._fail(f"{operator} match pattern must be a string")
        return token.text

    def _exactly(self, field: Field, _: str) -> None:
        field.strings.add(self._text("exact"))

    def _equals_ignore_case(self, field: Field, _: str) -> None:
        text = self._text("equals-ignore-case")
        key = operators.folded_key("both", text)
        field.add_test("equals-ignore-case", operators.equals_ignore_case, text, key=key)

    def _prefix(self, field: Field, _: str) -> None:
        self._end(field, "prefix", operators.prefix)

    def _suffix(self, field: Field, _: str) -> None:
        self._end(field, "suffix", operators.suffix)

    def _end(self, field: Field, operator: str, make: Callable[[str], operators.Test]) -> None:
        token = self._next()
        if token.kind == "{" and not self._sns:
            text = self._nested_ignore_case(operator)
            field.add_test(
                f"{operator}-ignore-case",
                lambda wanted: operators.equals_ignore_case(wanted, end=operator),
                text,
                key=operators.folded_key(operator, text),
            )
        elif token.kind != "string":
            self._fail(f"{operator} match pattern must be a string")
        else:
            field.add_test(operator, make, token.text, key=(operator, (token.text,)) if token.text else None)

    def _nested_ignore_case(self, operator: str) -> str:
        token = self._next()
        if token.kind != "name":
            self._fail(f"{operator.capitalize()} expression name not found")
        if token.text != "equals-ignore-case":
            self._fail(f"Unsupported {operator} pattern: {token.text}")
        text = self._text("equals-ignore-case")
        if self._next().kind != "}":
            self._fail(_ONE_KEY)
        return text

    def _wildcard(self, field: Field, path: str) -> None:
        text = self._text("wildcard")
        self._check_wildcard(text)
        self._wildcards.setdefault(path, []).append(text)
        field.add_test("wildcard", operators.wildcard, text, key=operators.wildcard_key(text))

    def _check_wildcard(self, text: str) -> None:
        """Positions count bytes of UTF-8 from the opening quote."""
        at, escaped, before = 1, 0, ""
        for each in text:
            if escaped:
                if each not in "*\\":
                    self._fail(f"Invalid escape character at pos {escaped}")
                escaped, before = 0, ""
            elif each == "\\":
                escaped = at
            elif each == "*" and before == "*":
                self._fail(f"Consecutive wildcard characters at pos {at - 1}")
            else:
                before = each
            at += len(each.encode("utf-8", "surrogatepass"))
        if escaped:
            self._fail(f"Invalid escape character at pos {escaped}")

    def _exists(self, field: Field, _: str) -> None:
        token = self._next()
        if token.text not in ("true", "false") or token.kind != "literal":
            self._fail("exists match pattern must be either true or false.")
        if token.value:
            field.present = True
        else:
            field.absent = True

    # numeric

    def _numeric(self, field: Field, _: str) -> None:
        if self._next().kind != "[":
            self._fail("Value of numeric must be an array.")
        token = self._next()
        if token.kind != "string":
            self._fail(f"Invalid member in numeric match: {token.text}")
        operator = token.text
        if operator == "=":
            field.numbers.add(self._operand("equals"))
            self._no_more(_NUMERIC_ONE_KEY)
        elif operator in ("<", "<="):
            self._add_range(field, None, self._operand(operator), open_high=operator == "<")
            self._no_more(_NUMERIC_ONE_KEY)
        elif operator in (">", ">="):
            self._range(field, operator)
        else:
            self._fail(f"Unrecognized numeric range operator: {operator}")

    def _range(self, field: Field, operator: str) -> None:
        low = self._operand(operator)
        token = self._next()
        if token.kind == "]":
            self._add_range(field, low, None, open_low=operator == ">")
            return
        if token.kind != "string":
            self._fail(f"Bad value in numeric range: {token.text}")
        if token.text not in ("<", "<="):
            self._fail(f"Bad numeric range operator: {token.text}")
        high = self._operand(token.text)
        if low >= high:
            self._fail("Bottom must be less than top")
        self._add_range(field, low, high, open_low=operator == ">", open_high=token.text == "<")
        self._no_more("Too many terms in numeric range expression")

    @staticmethod
    def _add_range(
        field: Field, low: float | None, high: float | None, *, open_low: bool = False, open_high: bool = False
    ) -> None:
        field.add_test("numeric", operators.numeric, low, high, open_low, open_high, key=("range", (low, high)))

    def _operand(self, operator: str) -> float:
        token = self._next()
        if token.kind != "number":
            self._fail(f"Value of {operator} must be numeric")
        return self._comparable(token.text)

    def _comparable(self, text: str) -> float:
        value = number(text)
        if isinstance(value, Opaque):
            self._fail(f"Cannot compare number : {text}")
        return value

    def _no_more(self, reason: str) -> None:
        if self._next().kind != "]":
            self._fail(reason)

    # cidr

    def _cidr(self, field: Field, _: str) -> None:
        text = self._text("prefix")
        if text.count("/") != 1:
            self._fail("Malformed CIDR, one '/' required")
        ip, bits = text.split("/")
        if not (bits.removeprefix("-").isdecimal() and bits.isascii() and len(bits) < 10):
            self._fail("Malformed CIDR, mask bits must be an integer")
        if int(bits) < 0:
            self._fail("Malformed CIDR, mask bits must not be negative")
        if not _looks_like_an_address(ip):
            self._fail(f"Nonstandard IP address: {ip}")
        parsed = address(ip)
        if parsed is None:
            self._fail(f"Invalid IP address: {ip}")
        if int(bits) >= parsed.max_prefixlen:
            self._fail(f"IPv{parsed.version} mask bits must be < {parsed.max_prefixlen}")
        network = ipaddress.IPv4Network if parsed.version == 4 else ipaddress.IPv6Network
        block = network((int(parsed), int(bits)), strict=False)
        field.add_test("cidr", operators.cidr, block, key=("network", (block,)))

    # anything-but

    def _anything_but(self, field: Field, path: str) -> None:
        token = self._next()
        if token.kind == "{":
            self._anything_but_pattern(field, path)
        elif token.kind == "[":
            self._anything_but_values(field, self._values())
        elif token.kind == "string":
            self._anything_but_values(field, [token.text])
        elif token.kind == "number":
            self._anything_but_values(field, [self._comparable(token.text)])
        else:
            self._fail("Value of anything-but must be an array or single string/number value.")

    @staticmethod
    def _anything_but_values(field: Field, values: Sequence[str | float]) -> None:
        unwanted = frozenset(values)
        field.add_test("anything-but", operators.anything_but, unwanted, key=("but", tuple(unwanted)))

    def _values(self) -> Sequence[str | float]:
        values: list[str | float] = []
        while (token := self._next()).kind != "]":
            if token.kind == "string":
                values.append(token.text)
            elif token.kind == "number":
                values.append(self._comparable(token.text))
            else:
                self._fail("Inside anything but list, start|null|boolean is not supported.")
        if len({type(each) for each in values}) != 1:
            self._fail("Inside anything but list, either all values are number or string, mixed type is not supported")
        return values

    def _anything_but_pattern(self, field: Field, path: str) -> None:
        token = self._next()
        if token.kind != "name":
            self._fail("Anything-But expression name not found")
        operator = token.text
        make = self._ANYTHING_BUT.get(operator)
        if make is None or (self._sns and operator != "prefix"):
            self._fail(f"Unsupported anything-but pattern: {operator}")
        texts = self._texts(operator)
        if operator == "wildcard":
            self._wildcards.setdefault(path, []).extend(texts)
        unwanted = tuple(dict.fromkeys(texts))
        field.add_test(
            f"anything-but {operator}",
            lambda wanted: operators.anything_but_text([make(text) for text in wanted]),
            unwanted,
            key=(f"but {operator}", unwanted),
        )
        if self._next().kind != "}":
            self._fail(_NUMERIC_ONE_KEY)

    def _texts(self, operator: str) -> list[str]:
        token = self._next()
        if token.kind == "[" and not self._sns:
            texts = []
            while (token := self._next()).kind != "]":
                texts.append(self._unwanted(operator, token, listed=True))
            if not texts:
                self._fail("Empty arrays are not allowed")
            return texts
        return [self._unwanted(operator, token, listed=False)]

    def _unwanted(self, operator: str, token: Token, *, listed: bool) -> str:
        if token.kind == "{" and not listed and not self._sns:
            self._fail("Value of anything-but must be an array or single string/number value.")
        if token.kind != "string":
            self._fail(self._not_a_text(operator, listed=listed))
        if operator in ("prefix", "suffix") and not token.text:
            self._fail("Null prefix/suffix not allowed")
        if operator == "wildcard":
            self._check_wildcard(token.text)
        return token.text

    def _not_a_text(self, operator: str, *, listed: bool) -> str:
        if operator == "equals-ignore-case":
            if listed:
                return "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."
            return "equals-ignore-case match pattern must be a string"
        if self._sns or operator == "wildcard":
            return f"{operator} match pattern must be a string"
        return "prefix/suffix match pattern must be a string"

    _OPERATORS: Final[dict[str, Callable[[_Compiler, Field, str], None]]] = {
        "exactly": _exactly,
        "prefix": _prefix,
        "suffix": _suffix,
        "equals-ignore-case": _equals_ignore_case,
        "wildcard": _wildcard,
        "numeric": _numeric,
        "cidr": _cidr,
        "exists": _exists,
        "anything-but": _anything_but,
    }
    _ANYTHING_BUT: Final[dict[str, Callable[[str], operators.Test]]] = {
        "prefix": operators.prefix,
        "suffix": operators.suffix,
        "wildcard": operators.wildcard,
        "equals-ignore-case": operators.equals_ignore_case,
    }


def _looks_like_an_address(text: str) -> bool:
    characters = set(text)
    v4 = characters <= set("0123456789.") and text.count(".") == 3
    return v4 or (":" in characters and characters <= set("0123456789abcdefABCDEF:"))
