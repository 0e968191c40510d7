"""IP addresses as the limits see them: one name for one neighbour."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

__all__ = ["is_loopback", "network", "subject"]


@lru_cache(maxsize=4096)  # who is here asks often, and parsing takes longer than most answers
def network(host: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 that an IPv6 host can choose addresses from.

    An IPv4 address mapped into IPv6, as dual-stack sockets give it, is the IPv4 address. Text that is no IP
    address (a UNIX socket has none) is returned as it is.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def subject(host: str) -> str:
    """What failures from an address are counted by, in every room that counts them alike."""
    return f"address {network(host)}"


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's for itself: in IPv4, in IPv6, or IPv4 mapped into IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
