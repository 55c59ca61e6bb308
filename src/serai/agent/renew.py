"""A new certificate over HTTPS, for a host whose old one opens no connection to a controller any more."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import httpx2
import msgspec

from serai.agent.identity import Addresses, Identity, IdentityError
from serai.wire import api
from serai.wire.pki import HostIdentity
from serai.wire.tls import TlsError, explain, pinned_context

_SECONDS = 10.0


class RenewError(RuntimeError):
    """There is no new certificate; the message says why."""

    def __init__(self, why: str, *, refused: bool) -> None:
        """Say why, and whether a controller has said no."""
        super().__init__(why)
        self.refused = refused


async def renew(identity: Identity, host: str, controllers: Sequence[str]) -> HostIdentity:
    """Ask controllers one after the other, install what one sends, and return what it says.

    Raises:
        RenewError: none has sent a certificate, or it cannot be used.
    """
    refused, failures = False, []
    try:
        body = msgspec.json.encode(identity.renewal(host))
        context = pinned_context(identity.ca())
    except (IdentityError, TlsError, OSError) as error:
        raise RenewError(str(error), refused=False) from error
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=_SECONDS) as client:
        for url in controllers:
            try:
                answer = await client.post(
                    f"{url.rstrip('/')}/v1/renew", content=body, headers={"content-type": "application/json"}
                )
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
                failures.append(f"{url}: {told(error)}")
                continue
            if not answer.is_success:
                refused = refused or answer.is_client_error
                failures.append(f"{url}: {problem(answer)}")
                continue
            try:
                sent = msgspec.json.decode(answer.content, type=api.Certificate)
                renewed = identity.install(sent.certificate, host)
                if sent.agents:
                    identity.write_addresses(Addresses(controllers=list(controllers), agents=list(sent.agents)))
            except (IdentityError, ValueError) as error:
                failures.append(f"{url}: {error}")
                continue
            return renewed
    raise RenewError("; ".join(failures) or "no controller is known by an https address", refused=refused)


def told(error: Exception) -> str:
    """Say in words why a controller was not reached."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"TLS has failed: {explain(cause)}"
        cause = cause.__cause__ or cause.__context__
    return str(error) or f"no answer in {_SECONDS:g} s"


def problem(answer: httpx2.Response) -> str:
    """Say in words why a controller has said no."""
    try:
        return msgspec.json.decode(answer.content, type=api.Problem).detail
    except ValueError:
        return f"it answers with status {answer.status_code}, and is perhaps no controller of this version"
