"""Chat templates of backends; an engine takes its model's own."""

from ..language.role_template import RoleTemplate as ChatTemplate
from ..language.role_template import get_chat_template

__all__ = ["ChatTemplate", "get_chat_template"]
