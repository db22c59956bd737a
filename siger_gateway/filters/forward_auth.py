from typing import Any

Answer = Any


class ForwardAuth:
    def __init__(self, *args: Any) -> None: ...
    def identify(self, call: Any, now: float) -> Any: ...
