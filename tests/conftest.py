"""Fixtures that every folder may use."""

from control_plane.fixtures import bare_control_plane, control_plane, namespace

__all__ = ["bare_control_plane", "control_plane", "namespace"]
