"""A bounded memory that whoever fills it fastest does not get for itself."""

from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FairCache(Generic[_Key, _Value]):
    """Holds at most `limit` values, each for a source; when it is full, the source that has most loses its oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[_Key, _Value] = {}
        self._keys: dict[str, dict[_Key, None]] = {}
        """Of each source, the oldest first."""

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: _Key) -> _Value | None:
        """Recall a value."""
        return self._values.get(key)

    def put(self, source: str, key: _Key, value: _Value) -> None:
        """Remember a value; a key always comes from the same source."""
        self.pop(source, key)
        if len(self._values) >= self._limit:
            self._make_room(source)
        self._values[key] = value
        self._keys.setdefault(source, {})[key] = None

    def pop(self, source: str, key: _Key) -> None:
        """Forget a value, if it is there."""
        if self._values.pop(key, None) is None:
            return
        keys = self._keys[source]
        del keys[key]
        if not keys:
            del self._keys[source]

    def _make_room(self, source: str) -> None:
        mine = len(self._keys.get(source, ()))
        # At its share or above it, a source makes room for itself: nobody else need be looked at.
        if mine * len(self._keys) < self._limit:
            source = max(self._keys, key=lambda other: len(self._keys[other]))
        self.pop(source, next(iter(self._keys[source])))
