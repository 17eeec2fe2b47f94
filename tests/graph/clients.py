"""The registered applications: their secrets and certificates, and what they may do."""

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.graph.items import App
from tests.graph.problems import GraphError
from tests.graph.tree import Drive

# Application permissions, as the tables of the pages name them, least privileged first.
READ = {"Files.Read.All", "Files.ReadWrite.All", "Sites.Read.All", "Sites.ReadWrite.All"}
WRITE = {"Files.ReadWrite.All", "Sites.ReadWrite.All"}
SESSION = {"Sites.ReadWrite.All"}  # "driveItem: createUploadSession", Application: no higher privileged one
STRONGER = {"Sites.Manage.All", "Sites.FullControl.All"}


@dataclass
class Client:
    """One application. `secrets` maps a secret to the moment of the trusted clock at which it ends, or None."""

    id: str
    name: str = "simulated application"
    secrets: dict[str, float | None] = field(default_factory=dict)
    certificates: list[x509.Certificate] = field(default_factory=list)
    roles: set[str] = field(default_factory=lambda: {"Sites.ReadWrite.All"})
    grants: dict[str, str] = field(default_factory=dict)  # site id: read or write, for Sites.Selected

    @property
    def app(self) -> App:
        return App(self.id, self.name)

    def may(self, needed: set[str], drive: Drive) -> bool:
        """Tell whether the token's roles or, with Sites.Selected, the grant for this site are enough."""
        if self.roles & needed:
            return True
        if needed is READ and self.roles & STRONGER:
            return True
        grant = self.grants.get(drive.site.id, "") if "Sites.Selected" in self.roles else ""
        return grant in {"write", "owner", "fullcontrol"} or (grant == "read" and needed is READ)

    def require(self, needed: set[str], drive: Drive) -> None:
        if not self.may(needed, drive):
            raise GraphError(
                403, "accessDenied", "The caller does not have permission to perform the action."
            )

    def certificate_for(self, header: dict[str, str]) -> x509.Certificate | None:
        """Find the certificate whose thumbprint the header of an assertion names."""
        for certificate in self.certificates:
            if header.get("x5t#S256") and header["x5t#S256"].rstrip("=") == thumbprint(
                certificate, hashes.SHA256()
            ):
                return certificate
            if header.get("x5t") and header["x5t"].rstrip("=") == thumbprint(certificate, hashes.SHA1()):
                return certificate
        return None


def thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    return encoded(certificate.fingerprint(algorithm))


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
