"""What cffi generates. ``Any`` for C lives here; ``context`` has real types on both sides."""

from typing import Any

ffi: Any
lib: Any
