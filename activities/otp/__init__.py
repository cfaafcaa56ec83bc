"""Running OTP releases: hot code upgrades on the worker's own host or inside pods (design, section 8)."""

from activities.otp.nodes import NodeActivities

__all__ = ["NodeActivities"]
