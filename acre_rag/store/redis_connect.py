"""From a URL to a client: one server, a cluster, or whatever Sentinels say is the primary.

redis://user:password@host:port/number                       rediss:// where TLS is wished
unix://user:password@/path?db=number
redis+sentinel://user:password@host:port,host:port/name/number   name of the primary; Sentinels
                  that want a password have it as ?sentinel_password=, or ?sentinel_username= too
redis+cluster://user:password@host:port                      any of its servers
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from acre_rag.errors import StoreOptionError
from acre_rag.store.redis_server import TIMEOUT_SECONDS, Client

_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads.

    Attributes:
        url: The same, without user, password and options.
        connect: Makes the client.
    """

    url: str
    connect: Callable[[], Client]


def target_of_url(url: str) -> Target:
    """Make sense of a URL, without connecting yet.

    Raises:
        StoreOptionError: The URL is malformed, or asks for answers that are decoded.
    """
    if "decode_responses" in url.partition("?")[2]:
        raise _decoding()
    scheme, _, rest = url.partition("://")
    kind, _, variant = scheme.lower().partition("+")
    try:
        match variant:
            case "sentinel":
                client: Client = _sentinel_client(f"{kind}://", rest)
            case "cluster":
                return _cluster(f"{kind}://{rest}")
            case _:
                client = redis.Redis.from_url(url, **_patience())
                pool = client.connection_pool
                # Options that do not exist come to light in the class of the connection.
                pool.connection_class(**pool.connection_kwargs)
                _check_port(pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        # The words of the error, and those of its causes, may hold a password.
        pass
    else:
        return Target(url_of_client(client), lambda: client)
    raise StoreOptionError(
        "found a malformed Redis URL; expected redis://user:password@host:port/number, "
        "rediss://, unix:///path, redis+sentinel://host:port,host:port/name or "
        "redis+cluster://host:port, with known options: correct it, and escape what is special "
        "in the password"
    )


def target_of_client(client: object) -> Target:
    """Take a client as it is.

    Raises:
        StoreOptionError: The client is none of redis-py's, is asynchronous, or decodes answers.
    """
    if not isinstance(client, (redis.Redis, redis.RedisCluster)):
        raise StoreOptionError(
            f"found a client of {type(client)}; expected redis.Redis or redis.RedisCluster: pass "
            "one"
        )
    if client.get_encoder().decode_responses:
        raise _decoding()
    return Target(url_of_client(client), lambda: client)


def url_of_client(client: Client) -> str:
    """Name the server that a client talks to, without user, password and options."""
    if isinstance(client, redis.RedisCluster):
        node: Any = client.get_default_node()
        tls = bool(client.get_connection_kwargs().get("ssl"))
        return f"{'rediss' if tls else 'redis'}+cluster://{_address(node.host, node.port)}"
    pool: Any = client.connection_pool
    options = pool.connection_kwargs
    number = options.get("db", 0)
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    if isinstance(pool, SentinelConnectionPool):
        watchers = [s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels]
        hosts = ",".join(_address(w["host"], w["port"]) for w in watchers)
        return f"{scheme}+sentinel://{hosts}/{pool.service_name}/{number}"
    if options.get("path"):
        return f"unix://{options['path']}?db={number}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"{scheme}://{_address(host, port)}/{number}"


def _decoding() -> StoreOptionError:
    return StoreOptionError(
        "found a client that decodes answers; expected one that gives bytes: leave out "
        "decode_responses"
    )


def _patience() -> dict[str, Any]:
    # The same on every version of the client; what the URL says goes before it.
    return {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def _connection_options(url: str) -> dict[str, Any]:
    """Read a URL of one server; only those of Redis itself may follow from it.

    Raises:
        ValueError: The URL is malformed.
        TypeError: It has an option that does not exist.
    """
    options: dict[str, Any] = _patience() | dict(parse_url(url))
    made_by = options.pop("connection_class", redis.Connection)
    made_by(**options)
    _check_port(options)
    return options | ({"ssl": True} if made_by is redis.SSLConnection else {})


def _check_port(options: dict[str, Any]) -> None:
    # The client would find out when it connects, as if the server were away.
    if not 1 <= options.get("port", 1) <= 65535:
        raise ValueError("ports go from 1 to 65535")


def _cluster(url: str) -> Target:
    options = _connection_options(url)
    if options.pop("db", 0) or "host" not in options:
        raise ValueError("a cluster has a host, and one database, number 0")

    def connect() -> Client:
        # It tries each server that it knows, and asks a second one where the first is lost.
        client: Any = redis.RedisCluster(**options)
        client.cluster_error_retry_attempts = 0  # of versions before 6
        made: Client = client
        return made

    scheme = "rediss" if options.get("ssl") else "redis"
    address = _address(options["host"], options.get("port", 6379))
    return Target(f"{scheme}+cluster://{address}", connect)


def _sentinel_client(scheme: str, rest: str) -> Client:
    """Make a client that asks Sentinels for the primary each time that it connects."""
    address, _, query = rest.partition("?")
    place, _, path = address.partition("/")
    login, at, hosts = place.rpartition("@")
    name, _, number = path.partition("/")
    if not name or not hosts:
        raise ValueError("a Sentinel URL names hosts and a primary")
    asked = dict(parse_qsl(query))
    # Sentinels have users of their own, or none.
    login_there = {
        part: asked.pop(f"sentinel_{part}")
        for part in ("username", "password")
        if f"sentinel_{part}" in asked
    }
    tail = f"/{number or 0}?{urlencode(asked)}"
    options = _connection_options(f"{scheme}{login}{at}{hosts.partition(',')[0]}{tail}")
    for part in ("host", "port"):
        options.pop(part, None)
    watching = {k: v for k, v in options.items() if k not in ("username", "password", "db")}
    watchers = [_host_and_port(host) for host in hosts.split(",")]
    sentinel = Sentinel(watchers, sentinel_kwargs=watching | login_there)
    client: redis.Redis = sentinel.master_for(name, **options)
    return client


def _host_and_port(address: str) -> tuple[str, int]:
    parsed = parse_url(f"redis://{address}")
    _check_port(dict(parsed))
    return parsed.get("host", "localhost"), parsed.get("port", _SENTINEL_PORT)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
