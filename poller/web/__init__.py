"""The hook: how orders come in, and how they are read and commanded over HTTP."""

from poller.web.desk import Desk
from poller.web.intake import Terms
from poller.web.routes import application

__all__ = ["Desk", "Terms", "application"]
