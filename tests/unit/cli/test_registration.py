"""What `serai agent describe` writes is what can be applied."""

from __future__ import annotations

import yaml

from serai.cli.registration import registration
from serai.model.decode import decode
from serai.wire.local import BootStatus, DescribeReply


def boot(path: str, number: int = 1, *, why: str = "") -> BootStatus:
    return BootStatus(what="disk vda", path=path, sha256="" if why else f"{number:064x}", why=why)


def test_an_image_is_written_and_what_is_to_stand_in_the_vm() -> None:
    reply = DescribeReply(definition="ab" * 32, boots=[boot("/srv/k", 7), boot("/srv/Alpine_3.20.qcow2")])
    text = registration("acme-web", reply)
    assert decode({"written.yaml": text}).registry.images == {"alpine-3-20": frozenset({f"{1:064x}", f"{7:064x}"})}
    comments = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# ")).partition("spec:")
    assert yaml.safe_load(comments[1] + comments[2]) == {
        "spec": {"images": ["alpine-3-20"], "definition": f"sha256:{'ab' * 32}"}
    }


def test_what_cannot_be_registered_is_told() -> None:
    reply = DescribeReply(definition="ab" * 32, boots=[boot("/srv/d.raw", why="the guest writes to it")])
    assert registration("web", reply).splitlines() == [
        "# disk vda, /srv/d.raw: the guest writes to it",
        "# And in the VirtualMachine of the domain web:",
        "# spec:",
        f"#   definition: sha256:{'ab' * 32}",
    ]


def test_names_of_files_write_nothing_into_the_file() -> None:
    reply = DescribeReply(definition="ab" * 32, boots=[boot("/srv/a\n---\nkind: Host\x1b[2J")])
    text = registration("we\nb", reply)
    assert len(decode({"written.yaml": text}).registry.images) == 1
    assert "\x1b" not in text
