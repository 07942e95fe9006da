"""The device that an exported network names itself: this machine, as onnxruntime is to run it."""

from __future__ import annotations

from aebnas.devices.profile import HardwareProfile
from aebnas.export.manifest import Manifest


def implied_profile(manifest: Manifest, provider: str | None = None) -> HardwareProfile:
    """Return this machine with the manifest's provider, its options and threads.

    Args:
        manifest: Of an exported network.
        provider: An onnxruntime execution provider instead of the manifest's, without options.
    """
    own = provider is None or provider == manifest.provider
    return HardwareProfile(
        name="local",
        description="this machine, as the manifest says",
        provider=provider or manifest.provider,
        provider_options=manifest.provider_options if own else {},
        threads=manifest.threads,
        connection="local",
    )
