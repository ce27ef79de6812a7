"""Every setting there is, in one frozen typed tree: `cauda.toml`, then `CAUDA_*`, then the command line.

Nested keys use two underscores in the environment: ``CAUDA_NODE__AET=CAUDA``. Secrets may lie as files in the
directory named by ``CREDENTIALS_DIRECTORY`` (systemd) or ``CAUDA_SECRETS_DIR``, one file a key
(``cauda_ledger__url``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cauda.core import passwords
from cauda.core.destinations import Destination, is_loopback
from cauda.core.errors import Misconfigured
from cauda.core.fields import AeTitle, Network, PageModality, Port, ProxyNetwork, Seconds, Timezone
from cauda.core.fields import Section as _Section
from cauda.core.masks import masked

_TOKEN_CHARACTERS = 20  # a shorter one can be guessed, however slowly guesses are answered


class Node(_Section):
    """Who we are on the DICOM network."""

    aet: AeTitle = "CAUDA"
    host: str = "0.0.0.0"  # noqa: S104  a hospital node listens on its network; who may talk is `peers`
    port: Port = 11112


class Tls(_Section):
    """The TLS door beside the plain one (PS3.15 B.12); shut without a certificate."""

    certificate: Path | None = None  # PEM: ours, then the chain up to the authority
    key: Path | None = None
    ca: Path | None = None  # PEM: callers must show a certificate of one of these authorities
    in_place_of_network: bool = False  # who has shown a certificate is checked by AE title alone
    only: bool = False  # no plain port
    port: Port = 2762
    minimum: Literal["1.2", "1.3"] = "1.2"
    handshake_timeout_s: Seconds = 15
    warn_days: float = Field(default=30, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are set together")
        if self.certificate is None and (self.ca or self.only):
            raise ValueError("ca and only need a certificate and key of our own")
        if self.in_place_of_network and self.ca is None:
            raise ValueError("in_place_of_network needs ca: without it nobody shows a certificate")
        return self


class User(_Section):
    """Who may log in to the pages: a name, and the hash that ``cauda config user NAME`` prints."""

    name: str = Field(min_length=1, max_length=64)
    hash: SecretStr

    @model_validator(mode="after")
    def _hashed(self) -> User:
        if not passwords.FORM.fullmatch(self.hash.get_secret_value()):
            raise ValueError("hash: not one of ours; `cauda config user NAME` makes one")
        return self


class Http(_Section):
    """The pages and probes. Without users the pages are for loopback alone, and need no login there."""

    host: str = "127.0.0.1"
    port: Port = 8080
    max_connections: int = Field(default=200, ge=2)  # half of them from one address
    head_timeout_s: Seconds = 15
    users: tuple[User, ...] = ()
    trusted_proxies: tuple[ProxyNetwork, ...] = ()  # whose X-Forwarded-For or Forwarded is believed; nobody's otherwise
    names: tuple[str, ...] = ()  # host names by which /metrics and /readyz are asked, beside addresses and our own


class Peer(_Section):
    """Who may open an association: an AE title (`*` for any) from a network, and bounds in place of `limits`'."""

    aet: AeTitle = "*"
    network: Network
    max_associations: int | None = Field(default=None, ge=1)  # of one address at once
    max_object_bytes: int | None = Field(default=None, ge=1024)  # this and the next can only be less than `limits`'
    max_pdu_bytes: int | None = Field(default=None, ge=4096)


class Limits(_Section):
    """Bounds at the door."""

    max_associations: int = Field(default=50, ge=1)
    max_associations_per_peer: int = Field(default=20, ge=1)
    max_object_bytes: int = Field(default=2 * 1024**3, ge=1024)
    max_pdu_bytes: int = Field(default=262_144, ge=4096)
    # of one object, beyond which it is refused; what is accepted costs no more than this, here and in a worker
    max_inflated_bytes: int = Field(default=512 * 1024**2, ge=1024)  # of a deflated data set
    max_inflated_ratio: int = Field(default=200, ge=1)  # to one, once it has come to 16 MiB
    max_element_bytes: int = Field(default=256 * 1024**2, ge=1024)  # of any value but pixels
    max_items: int = Field(default=100_000, ge=1)  # of all sequences together
    max_nesting: int = Field(default=32, ge=1, le=100)
    max_pixel_bytes: int = Field(default=1024**3, ge=1024)  # frames x rows x columns x samples x bits / 8, as stated
    min_free_bytes: int = Field(default=5 * 1024**3, ge=0)
    acse_timeout_s: Seconds = 30
    dimse_timeout_s: Seconds = 60
    network_timeout_s: Seconds = 120
    drain_s: Seconds = 20


class Listener(_Section):
    """How the DIMSE door works inside."""

    data_path: Literal["replaced", "stock"] = "replaced"  # stock: pynetdicom's own, slower, as fall-back
    # prepared: into files that are ready, one sync; portable: two; one: one, on ext4 with a journal and XFS alone
    sync: Literal["prepared", "portable", "one"] = "prepared"
    slots: int = Field(default=512, ge=8, le=16384)  # files of 1 MiB that "prepared" keeps ready for a burst


class Dicomweb(_Section):
    """The STOW-RS door, on the port of `http`."""

    stow: bool = True
    token: SecretStr | None = None  # as Bearer, or as Basic's password; without one STOW is open on loopback alone

    @model_validator(mode="after")
    def _long_enough(self) -> Dicomweb:
        if self.token is not None and len(self.token.get_secret_value()) < _TOKEN_CHARACTERS:
            raise ValueError(f"token: at least {_TOKEN_CHARACTERS} characters; `openssl rand -hex 24` makes one")
        return self


class Expected(_Section):
    """How many series of a kind a study is waited for, by what their headers say; only ever a delay."""

    axial: int = Field(default=0, ge=0)  # T2-possible
    sagittal: int = Field(default=0, ge=0)  # T2-possible
    sagittal_t1: int = Field(default=0, ge=0)


class Completeness(_Section):
    """When a study counts as complete (CLINICAL.md 3)."""

    after_release_s: Seconds = 600
    quiet_s: Seconds = 600
    hard_age_s: Seconds = 5400
    agree_s: Seconds = 180  # the archive's list has stood for so long, and nothing came meanwhile
    stale_s: Seconds = 300  # an older answer of the archive says nothing
    max_study_age_days: int | None = Field(default=None, ge=1)  # by StudyDate; older waits for an operator (29)
    expected: Expected = Expected()


class Source(_Section):
    """The archive that is asked what a study should hold; without a url nobody is."""

    url: str | None = None  # dimse://AET@HOST:PORT, dicomweb+http(s)://HOST:PORT/PATH
    calling_aet: AeTitle | None = None  # toward it; the node's own otherwise
    authorization: SecretStr | None = None  # for dicomweb, the value of the Authorization header
    ask_every_s: Seconds = 30
    timeout_s: Seconds = 10

    @model_validator(mode="after")
    def _known(self) -> Source:
        if self.url is None:
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in {"dimse", "dicomweb+http", "dicomweb+https"} or not parts.hostname:
            raise ValueError(f"{self.url!r}: allowed are dimse://AET@HOST:PORT and dicomweb+http(s)://HOST:PORT/PATH")
        self.archive()
        return self

    def archive(self) -> Destination:
        """The source as an archive client takes it; ValueError without a url."""
        url = (self.url or "").replace("dicomweb+http", "stow+http", 1)
        return Destination.model_validate(
            {"url": url, "calling_aet": self.calling_aet, "authorization": self.authorization}
        )


class Asker(_Section):
    """Where a sender that asked for commitment takes reports."""

    aet: AeTitle
    host: str
    port: Port


class Commitment(_Section):
    """Storage commitment for senders (PS3.4 J): a modality takes it as leave to delete its copy (CLINICAL.md 2)."""

    enabled: bool = False
    wait_s: Seconds = 60
    askers: tuple[Asker, ...] = ()


class Grading(_Section):
    """The bundle that grades, and how long a study may take."""

    bundle: Path | None = None
    bundle_digest: str | None = None
    lease_s: Seconds = 60
    time_limit_s: Seconds = 600
    max_deaths: int = Field(default=3, ge=1)
    memory_bytes: int = Field(default=6 * 1024**3, ge=1024**3)  # of the process that grades; beyond it the study fails
    not_analysed_page: bool = True  # CLINICAL.md 24
    heat_map_page: bool = False  # CLINICAL.md 20
    page_modality: PageModality = "OT"  # of the Secondary Capture (CLINICAL.md 26)
    deny_exams: tuple[str, ...] = (
        "pelvis", "becken", "bassin", "sacroiliac", "si joint", "isg", "abdomen", "prostate", "prostata",
        "enterography", "enterographie", "rectum", "hip", "huefte",
    )  # fmt: skip


class Decoding(_Section):
    """What decoding an image may cost a worker; compressed ones are decoded in a process of their own."""

    memory_bytes: int = Field(default=2 * 1024**3, ge=512 * 1024**2)  # address space of that process
    frame_timeout_s: Seconds = 10  # processor time of a frame
    study_timeout_s: Seconds = 300  # wall clock of all images of a study
    max_image_bytes: int = Field(default=1024**3, ge=1024)  # of one image, decoded, by its header


class Delivery(_Section):
    """How results leave."""

    lease_s: Seconds = 60
    retry_s: Seconds = 15  # first wait after a passing failure; doubles
    retry_max_s: Seconds = 900
    network_timeout_s: Seconds = 30
    threads: int = Field(default=4, ge=1)
    deliver_within_s: Seconds = 86_400  # older results are parked until an operator releases them (CLINICAL.md 29)
    confirm_after_s: Seconds = 60  # after the archive said success, it is asked whether it has the object
    confirm_within_s: Seconds = 86_400  # no commitment report until then: read back; not listed: stays accepted
    report_wait_s: Seconds = 3  # for a commitment report on the association that asked


class Site(_Section):
    """Facts about the hospital."""

    timezone: Timezone | None = None


class Logging(_Section):
    """Log output: JSON unless a terminal."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


def _port(url: str) -> int | None:
    return urlsplit(url).port


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="CAUDA_", env_nested_delimiter="__")

    data: Path = Path("data")
    ledger_url: SecretStr | None = None  # sqlite in the data folder when unset
    broker_url: SecretStr | None = None  # none: workers find work by their own tick
    node: Node = Node()
    tls: Tls = Tls()
    http: Http = Http()
    peers: tuple[Peer, ...] = (Peer(network="127.0.0.0/8"), Peer(network="::1/128"))
    limits: Limits = Limits()
    listener: Listener = Listener()
    dicomweb: Dicomweb = Dicomweb()
    completeness: Completeness = Completeness()
    source: Source = Source()
    commitment: Commitment = Commitment()
    grading: Grading = Grading()
    decoding: Decoding = Decoding()
    delivery: Delivery = Delivery()
    destinations: tuple[Destination, ...] = ()
    site: Site = Site()
    log: Logging = Logging()

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        names = [d.name for d in self.destinations]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"destinations: two are named {name!r}; give each its own name")
        return self

    @model_validator(mode="after")
    def _urls_can_be_read(self) -> Settings:
        """Of what cannot be read, a driver's words would repeat the password."""
        for key, read, secret in (("ledger_url", make_url, self.ledger_url), ("broker_url", _port, self.broker_url)):
            try:
                _ = secret is None or read(secret.get_secret_value())
            except (ValueError, ArgumentError):
                words = f"{key}: not a URL that can be read; in a password / @ : ? # are written as %2F %40 %3A %3F %23"
                raise ValueError(words) from None
        return self

    @model_validator(mode="after")
    def _archive_to_ask(self) -> Settings:
        if self.commitment.enabled and self.source.url is None:
            raise ValueError("commitment.enabled needs source.url: only what that archive holds is committed")
        return self

    @property
    def ledger(self) -> str:
        """The ledger's database URL."""
        if self.ledger_url is not None:
            return self.ledger_url.get_secret_value()
        return f"sqlite:///{self.data.resolve() / 'ledger.sqlite'}"

    @property
    def broker(self) -> str | None:
        """The message broker's URL, or None."""
        return self.broker_url.get_secret_value() if self.broker_url else None


def load(
    config: Path | None = None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from overrides, then the environment, then secret files, then the configuration file.

    Raises Misconfigured naming the key and what is allowed.
    """
    if config is not None and not config.is_file():
        raise Misconfigured(f"configuration file {config} is not there")
    secrets = environ.get("CAUDA_SECRETS_DIR") or environ.get("CREDENTIALS_DIRECTORY")

    class _Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del env_settings, dotenv_settings, file_secret_settings
            sources: list[PydanticBaseSettingsSource] = [init_settings, _Environment(settings_cls, environ)]
            if secrets:
                sources.append(_Environment(settings_cls, _secret_files(Path(secrets))))
            if config is not None:
                sources.append(TomlConfigSettingsSource(settings_cls, config))
            return tuple(sources)

    try:
        loaded = _Loaded(**dict(overrides or {}))
    except ValidationError as error:
        raise Misconfigured(masked(_explain(error))) from None  # the values may be secrets
    except ValueError as error:  # tomllib's, with line and column
        raise Misconfigured(f"{config}: {error}") from None
    return Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})


class _Environment(EnvSettingsSource):
    """The environment given as an argument instead of the process's own."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = {k.lower(): v for k, v in environ.items()}
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str]:
        return self._environ


def _secret_files(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text().strip() for p in folder.iterdir() if p.is_file()} if folder.is_dir() else {}


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        allowed = _keys_beside(problem["loc"]) if problem["type"] == "extra_forbidden" else ()
        words = f"there is no such key; allowed are {', '.join(allowed)}" if allowed else problem["msg"]
        lines.append(f"{key}: {words.removeprefix('Value error, ')}")
    return "; ".join(lines)


def _keys_beside(path: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of the section in which a key stands."""
    section: type[BaseModel] = Settings
    for part in path[:-1]:
        if part == "destinations":
            section = Destination
        elif part == "peers":
            section = Peer
        elif part == "users":
            section = User
        elif part == "askers":
            section = Asker
        elif isinstance(part, str):
            default = section.model_fields[part].default
            section = type(default)
    return tuple(section.model_fields)


__all__ = ["Destination", "Settings", "is_loopback", "load"]
