"""A host joins a site: with a token it gets a certificate, and learns whom to believe."""

from __future__ import annotations

from pathlib import Path

import httpx2
import msgspec

from serai.agent import spool
from serai.agent.identity import Addresses, Identity, IdentityError
from serai.agent.link.memory import MemoryFile
from serai.agent.renew import problem, told
from serai.wire import api
from serai.wire.jointoken import JoinToken, JoinTokenError
from serai.wire.keypair import PkiError
from serai.wire.pki import HostIdentity, ca_hash
from serai.wire.tls import TlsError, blind_context, pinned_context

_SECONDS = 15.0
_CA_BYTES = 64 * 1024


class JoinError(RuntimeError):
    """The host has not joined; the message says why and what to do."""


def join(url: str, token: str, state: Path, host: str) -> HostIdentity:
    """Join this host, called ``host``, to the site of the controller at ``url`` (``https://name:port``).

    The authority is asked for without believing anybody; the token says by its hash which one is the right one, and from then on
    nobody else is talked to. What has been learnt is kept below ``state``; an agent that runs finds it there by itself.

    Raises:
        JoinError: it has not joined, and is what it was before.
    """
    try:
        pinned = JoinToken.parse(token)
    except JoinTokenError as error:
        raise JoinError(str(error)) from error
    url = url.rstrip("/")
    if not url.startswith("https://"):
        raise JoinError(f"{url} is no address of a controller: write https://NAME:PORT")
    ca = _authority(url, pinned)
    identity = Identity(state / "identity")
    try:
        request = api.JoinRequest(token=token.strip(), csr=identity.request(host), host=host)
        with _client(pinned_context(ca)) as client:
            answer = client.post(
                f"{url}/v1/join", content=msgspec.json.encode(request), headers={"content-type": "application/json"}
            )
        if not answer.is_success:
            raise JoinError(f"the controller does not let this host join: {problem(answer)}")
        sent = msgspec.json.decode(answer.content, type=api.Certificate)
        if sent.host != host:
            raise JoinError(
                f"the token is for host {sent.host}, and this host is called {host}: join with '--host {sent.host}', "
                "or ask for a token for this one"
            )
        if ca_hash(_known(state, ca)) != ca_hash(ca):
            MemoryFile(state / "link.json").forget()
            spool.forget(state / "records")
        installed = identity.install(sent.certificate, host, ca=ca)
        identity.write_addresses(Addresses(controllers=[url], agents=list(sent.agents)))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise JoinError(f"the controller at {url} cannot be reached: {told(error)}") from error
    except (IdentityError, TlsError, PkiError) as error:
        raise JoinError(str(error)) from error
    except ValueError as error:
        raise JoinError(f"what answers at {url} is no controller of this version: {error}") from error
    return installed


def _authority(url: str, token: JoinToken) -> str:
    """Return the certificate of the site's authority: whoever gives it, its hash is the token's."""
    try:
        with _client(blind_context()) as client, client.stream("GET", f"{url}/v1/ca") as answer:
            raw = b""
            for piece in answer.iter_bytes():
                raw += piece
                if len(raw) > _CA_BYTES:
                    break
        if not answer.is_success:
            raise JoinError(f"what answers at {url} is no controller: it has status {answer.status_code} for /v1/ca")
        ca = raw.decode("ascii")
        found = ca_hash(ca)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise JoinError(f"the controller at {url} cannot be reached: {told(error)}") from error
    except (PkiError, UnicodeDecodeError) as error:
        raise JoinError(f"what answers at {url} is no controller: it shows no authority") from error
    if found != token.ca_hash:
        raise JoinError(
            f"what answers at {url} is another controller than the one that gave the token, or somebody is in between: "
            "nothing was told to it; check the address"
        )
    return ca


def _known(state: Path, otherwise: str) -> str:
    try:
        return Identity(state / "identity").ca()
    except OSError:
        return otherwise


def _client(context: object) -> httpx2.Client:
    return httpx2.Client(verify=context, trust_env=False, timeout=_SECONDS)  # type: ignore[arg-type]
