"""Revocation lists of others (RFC 5280, 5): whose they are, what they say, and when they are too old.

A list is believed when a trust root signed it, or an intermediate whose certificate stands in the same file
and leads to a trust root. Whoever has no list here is not asked for one.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import stat
from time import time
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from twisted.logger import Logger

from mfserver.errors import ConfigurationError, NotAuthorized

__all__ = ["MAX_SIZE", "REFUSE", "WARN", "RevocationList", "RevocationLists", "read_lists"]

#: What becomes of the certificates of an authority whose list is too old.
REFUSE: Final = "refuse"
WARN: Final = "warn"
#: Bytes of a file: some 450,000 certificates, which half a second is spent on.
MAX_SIZE: Final = 16 << 20

_OPTION: Final = "--crl"
_BEGIN: Final = re.compile(rb"-----BEGIN ")
_BLOCK: Final = re.compile(rb"-----BEGIN (X509 CRL|CERTIFICATE)-----\r?\n[^-]*-----END \1-----")
#: In DER: the object identifier 2.5.29.29, certificateIssuer, which stands in indirect lists alone. That a
#: serial number holds it by chance happens once in a trillion.
_CERTIFICATE_ISSUER: Final = b"\x06\x03\x55\x1d\x1d"
# What cryptography may raise for what it cannot read or use: not all of it is a ValueError.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

#: A distinguished name as RFC 5280, 7.1 compares it: without case, types of string and doubled blanks.
_Name: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]
_Stamp: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list. Times are seconds since 1970.

    :ivar issuer: who signed it.
    :ivar key_id: the signer's subject key identifier, where it has one.
    :ivar scope: in DER, which part of the issuer's certificates it is about, where it is not about all.
    :ivar next_update: after this it is too old.
    :ivar serials: the revoked serial numbers.
    """

    path: str
    issuer: _Name
    key_id: bytes | None
    scope: bytes
    this_update: float
    next_update: float
    serials: frozenset[int]

    def is_about(self, certificate: x509.Certificate) -> bool:
        """Whether the list's signer may have issued a certificate that has the same issuer's name."""
        key_id = _authority_key_id(certificate)
        return key_id is None or self.key_id is None or key_id == self.key_id

    def is_same(self, other: "RevocationList") -> bool:
        """Whether one of the two replaces the other."""
        return (self.issuer, self.key_id, self.scope) == (other.issuer, other.key_id, other.scope)


class RevocationLists:
    """The lists of all files that were named, in memory.

    :param paths: files in PEM, which may hold several lists and the certificates of intermediates, or DER.
    :param roots: today's trust roots.
    :param stale: :data:`REFUSE` or :data:`WARN`.
    :param now: the time in seconds since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Sequence[str],
        roots: Callable[[], Sequence[x509.Certificate]],
        *,
        stale: str = REFUSE,
        now: Callable[[], float] = time,
    ) -> None:
        if stale not in (REFUSE, WARN):
            raise ConfigurationError(f"{stale} is neither {REFUSE} nor {WARN}", "--crl-stale")
        self._roots = roots
        self._refuses = stale == REFUSE
        self._now = now
        self._files: dict[str, list[RevocationList]] = {path: [] for path in paths}
        self._stamps: dict[str, _Stamp] = {}
        self._by_issuer: Mapping[_Name, Sequence[RevocationList]] = {}
        self._told: set[RevocationList] = set()

    def __len__(self) -> int:
        """How many lists there are."""
        return sum(map(len, self._by_issuer.values()))

    def load(self) -> None:
        """Read every file; to be called once, when the trust roots are there.

        :raises ConfigurationError: a file cannot be read or believed.
        """
        for path in self._files:
            self._read(path)
        self._arrange()

    def reload(self) -> bool:
        """Read every file again. Of one that cannot be read or believed the old lists stay; the log says why.

        To be called when the trust roots have changed, or when somebody asks for it. Never raises.

        :return: whether there is something new.
        """
        return self._reload(self._files)

    def poll(self) -> bool:
        """Take up the files that changed, and tell the log of lists that have become too old.

        :return: whether certificates may be judged otherwise now.
        """
        is_new = self._reload([path for path in self._files if _stamp(path) != self._stamps.get(path)])
        return self._tell_of_old_ones() or is_new

    def check(self, certificate: x509.Certificate, now: float) -> None:
        """Look a certificate up in the lists of its issuer.

        :param now: seconds since 1970.
        :raises NotAuthorized: it is revoked, or a list that has to be asked is too old.
        """
        if not self._by_issuer:
            return
        try:
            known = self._by_issuer.get(_canonical(certificate.issuer), ())
        except _UNREADABLE as error:  # parsed only now
            raise NotAuthorized("the certificate's issuer cannot be read") from error
        lists = [each for each in known if each.is_about(certificate)]
        if any(certificate.serial_number in each.serials for each in lists):
            raise NotAuthorized("the certificate is revoked by its authority")
        if self._refuses and any(each.next_update < now for each in lists):
            raise NotAuthorized("the revocation list of the certificate's authority is too old")

    def _reload(self, paths: Iterable[str]) -> bool:
        is_new = False
        for path in list(paths):
            before = self._files[path]
            try:
                self._read(path)
            except ConfigurationError as error:
                self._log.warn("the revocation lists stay as they were: {reason}", reason=str(error))
            else:
                is_new = is_new or self._files[path] != before
        if is_new:
            self._arrange()
            self._log.info("{count} revocation lists are in use", count=len(self))
        return is_new

    def _read(self, path: str) -> None:
        # Before reading: a change during it is seen as one after it.
        self._stamps[path] = _stamp(path)
        fresh = read_lists(path, self._roots())
        for old in self._files[path]:
            if any(old.is_same(new) and new.this_update < old.this_update for new in fresh):
                # Whoever can put an old file in the place of a new one must not give back what was revoked.
                raise ConfigurationError(f"{path} is older than what it held before", _OPTION)
        self._files[path] = fresh

    def _arrange(self) -> None:
        """Find lists by their issuers; of those that replace each other the youngest counts."""
        by_issuer: dict[_Name, list[RevocationList]] = {}
        every = [each for lists in self._files.values() for each in lists]
        for each in sorted(every, key=lambda each: each.this_update, reverse=True):
            known = by_issuer.setdefault(each.issuer, [])
            if not any(each.is_same(younger) for younger in known):
                known.append(each)
        self._by_issuer = by_issuer
        self._tell_of_old_ones()

    def _tell_of_old_ones(self) -> bool:
        """Log each list that is too old, once.

        :return: whether certificates are refused for it from now on.
        """
        now = self._now()
        current = {each for lists in self._by_issuer.values() for each in lists}
        old = {each for each in current if each.next_update < now} - self._told
        for each in old:
            self._log.warn(
                "a revocation list in {path} should have been replaced by {end}: {consequence}",
                path=each.path,
                end=datetime.fromtimestamp(each.next_update, UTC),
                consequence="the certificates of its authority are refused"
                if self._refuses
                else "certificates that were revoked since are accepted",
            )
        self._told = (self._told & current) | old
        return self._refuses and bool(old)


def read_lists(path: str, roots: Sequence[x509.Certificate]) -> list[RevocationList]:
    """Read a file and verify what stands in it.

    :param roots: who is trusted.
    :raises ConfigurationError: it cannot be read, is larger than :data:`MAX_SIZE`, or holds something that is
        no complete list of its own certificates with the signature of somebody trusted.
    """
    data = _read_file(path)
    try:
        if not _BEGIN.search(data):
            return [_read_list(path, x509.load_der_x509_crl(data), roots)]
        blocks = list(_BLOCK.finditer(data))
        if len(blocks) != len(_BEGIN.findall(data)):
            raise _refused(path, "holds half a list, or something else besides lists and certificates")
        signers = _trusted(
            [x509.load_pem_x509_certificate(block[0]) for block in blocks if block[1] == b"CERTIFICATE"],
            roots,
        )
        lists = [
            _read_list(path, x509.load_pem_x509_crl(block[0]), signers)
            for block in blocks
            if block[1] == b"X509 CRL"
        ]
    except _UNREADABLE as error:
        raise _refused(path, "holds no revocation list in PEM or DER") from error
    if not lists:
        raise _refused(path, "holds no revocation list")
    return lists


def _read_list(
    path: str, crl: x509.CertificateRevocationList, signers: Sequence[x509.Certificate]
) -> RevocationList:
    scope = _scope(path, crl)
    issuer = _canonical(crl.issuer)
    signer = next((each for each in signers if _has_signed(each, issuer, crl)), None)
    if signer is None:
        raise _refused(path, "holds a revocation list that nobody trusted has signed")
    if crl.next_update_utc is None:
        raise _refused(path, "holds a revocation list that does not say when the next one comes")
    return RevocationList(
        path,
        issuer,
        _subject_key_id(signer),
        scope,
        crl.last_update_utc.timestamp(),
        crl.next_update_utc.timestamp(),
        # An entry with extensions that we do not know is revoked for us, too.
        frozenset(entry.serial_number for entry in crl),
    )


def _scope(path: str, crl: x509.CertificateRevocationList) -> bytes:
    """Refuse what is not a complete list of its signer's own certificates (RFC 5280, 5.2)."""
    scope = b""
    if _CERTIFICATE_ISSUER in crl.tbs_certlist_bytes:
        raise _refused(path, "holds an indirect list, which is about the certificates of others")
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise _refused(
                path, "holds a delta list, which is none without another one: give the complete one"
            )
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl:
                raise _refused(path, "holds an indirect list, which is about the certificates of others")
            if value.only_contains_attribute_certs or value.only_some_reasons is not None:
                raise _refused(path, "holds a list of attribute certificates, or of some reasons only")
            scope = value.public_bytes()
        elif extension.critical:
            raise _refused(path, f"holds a list with the unknown extension {extension.oid.dotted_string}")
    return scope


def _has_signed(signer: x509.Certificate, issuer: _Name, crl: x509.CertificateRevocationList) -> bool:
    if _canonical(signer.subject) != issuer:
        return False
    key = signer.public_key()
    return _may(signer, "crl_sign") and crl.is_signature_valid(key)  # type: ignore[arg-type]


def _trusted(candidates: list[x509.Certificate], roots: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The roots, and those candidates that lead to one of them."""
    trusted = list(roots)
    for signer in trusted:  # which grows
        for candidate in candidates:
            if candidate not in trusted and _is_authority(candidate) and _is_issued_by(candidate, signer):
                trusted.append(candidate)
    return trusted


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        is_one = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    return is_one and _may(certificate, "key_cert_sign")


def _may(certificate: x509.Certificate, usage: str) -> bool:
    """Whether its key may be used so; where no usages are present none is forbidden (RFC 5280, 6.3.3 f)."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool(getattr(usages, usage))


def _subject_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _authority_key_id(certificate: x509.Certificate) -> bytes | None:
    """None also where the extensions cannot be read: every list of that name is asked then."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return None
    return extension.value.key_identifier


def _canonical(name: x509.Name) -> _Name:
    return tuple(
        tuple(
            sorted((part.oid.dotted_string, " ".join(str(part.value).casefold().split())) for part in parts)
        )
        for parts in name.rdns
    )


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", _OPTION) from error
    if len(data) > MAX_SIZE:
        raise _refused(path, f"has more than {MAX_SIZE >> 20} MiB")
    return data


def _refused(path: str, words: str) -> ConfigurationError:
    return ConfigurationError(f"{path} {words}", _OPTION)


def _stamp(path: str) -> _Stamp:
    try:
        status = stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
