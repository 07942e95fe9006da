"""The device that an exported network names itself: this machine, as onnxruntime is to run it."""

from __future__ import annotations

from aebnas.devices.profile import HardwareProfile
from aebnas.devices.providers import full_name
from aebnas.errors import ProfileError
from aebnas.export.manifest import Manifest


def implied_profile(manifest: Manifest, provider: str | None = None) -> HardwareProfile:
    """Return this machine with the manifest's provider, its options and threads.

    Args:
        manifest: Of an exported network.
        provider: An onnxruntime execution provider instead of the manifest's, without options; short or in full.

    Raises:
        ProfileError: that is no name of a provider.
    """
    try:
        chosen = full_name(provider or manifest.provider)
    except ValueError as error:
        raise ProfileError(str(error)) from error
    own = chosen == manifest.provider
    return HardwareProfile(
        name="local",
        description="this machine, as the manifest says",
        provider=chosen,
        provider_options=manifest.provider_options if own else {},
        threads=manifest.threads,
        connection="local",
    )
