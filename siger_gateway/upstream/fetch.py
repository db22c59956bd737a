from typing import Any


async def fetch(*args: Any) -> Any: ...
