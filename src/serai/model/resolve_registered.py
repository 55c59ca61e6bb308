"""Images, and what VMs shall boot from and be made of."""

from __future__ import annotations

from serai.model import resources
from serai.model.definitions import Definition
from serai.model.references import Table
from serai.model.registered import Registered
from serai.model.tenancy import ROOT


def resolve_image(image: resources.Image) -> frozenset[str]:
    """Return the digests of an image."""
    return frozenset(image.spec.digests)


def resolve_registered(
    definition: Definition[resources.VirtualMachine], images: Table[frozenset[str]]
) -> Registered | None:
    """Return what a VM shall be, None where nothing is said; whole where there is nothing to complain about."""
    spec = definition.resource.spec
    for number, image in enumerate(spec.images):
        images.find(definition, ("spec", "images", number), image, ROOT)
    if not spec.images and spec.definition is None:
        return None
    return Registered(images=tuple(dict.fromkeys(spec.images)), definition=spec.definition)
