"""A stand-in for CHILI GraFx: shops develop against it, the demonstration runs on it, tests script it.

It speaks the token endpoint and the output tasks of the Environment API: start, check,
download, error report. Renders take as long, become as large and go as wrong as the knobs
of a ``Render`` say; their files are made while they are sent, and always the same for the
same task, so whoever scripts it can compare byte for byte.
"""

from poller.sandbox.addresses import elsewhere
from poller.sandbox.command import PORT, serve, usage
from poller.sandbox.content import Content
from poller.sandbox.render import KNOBS, Failure, Knob, Render, tuned
from poller.sandbox.stand_in import Sandbox

__all__ = ["KNOBS", "PORT", "Content", "Failure", "Knob", "Render", "Sandbox", "elsewhere", "serve", "tuned", "usage"]
