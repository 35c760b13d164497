"""A scope for expressions; mypy reads this file, so it imports nothing of ours."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple, TypedDict


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Item(TypedDict):
    sku: str
    count: int


class Span(NamedTuple):
    start: date
    end: date


@dataclass
class User:
    name: str
    age: int
    level: Level
    span: Span
    friend: User | None = None
    tags: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.age / 100


def rate(user: User, days: int = 1, *, kind: Literal["a", "b"] = "a") -> float:
    return user.age * 0.5 + days + (kind == "b")


def find(name: str) -> User | None:
    return None


def pick(users: list[User], at: int) -> User:
    return users[at]


price: float = 2.5
qty: int = 3
flag: bool = True
user: User = User("Ada", 36, Level.LOW, Span(date(2000, 1, 2), date(2001, 1, 1)))
maybe: float | None = None
stock: dict[str, int] = {"a": 1}
unit: Literal["km", "mi"] = "km"
users: list[User] = [user]
item: Item = {"sku": "x", "count": 2}
pair: tuple[int, str] = (1, "a")

TYPES = {
    "price": float, "qty": int, "flag": bool, "user": User, "maybe": float | None,
    "stock": dict[str, int], "unit": Literal["km", "mi"], "users": list[User], "item": Item,
    "pair": tuple[int, str],
}  # fmt: skip
FUNCTIONS = {"rate": rate, "find": find, "pick": pick, "round": round, "len": len, "max": max,
             "sqrt": math.sqrt, "sum": sum, "sorted": sorted}  # fmt: skip
sqrt = math.sqrt
