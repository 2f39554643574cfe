"""Every setting of the server, read from STACKWITNESS_* or given by a test; nothing else reads the env."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEV_ORIGIN = "stackwitness.local/log/dev"


class Settings(BaseSettings):
    """Hold the settings of one process; sizes in bytes, durations in the unit of the name."""

    model_config = SettingsConfigDict(env_prefix="STACKWITNESS_", frozen=True, extra="ignore")

    mode: Literal["development", "production", "test"] = Field(
        "development", description="production refuses every insecure stand-in"
    )
    home: Path = Field(Path(".stackwitness"), description="folder of everything the service keeps on disk")
    database_url: str | None = Field(
        None, description="PostgreSQL address; without it `up` runs its own server inside the home folder"
    )
    owner_database_url: str | None = Field(
        None,
        description="PostgreSQL address of the user who migrates and repairs; that of database_url when unset",
    )
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int | None = Field(None, ge=0, le=65535, description="port of the API; a free one when unset")
    data: Path = Field(
        Path("../shared/data"), description="folder of the public data sets used by demo and bench"
    )
    timescale: Path = Field(
        Path("../shared/timescale"), description="folder of the TimescaleDB test server (make test-timescale)"
    )
    log_origin: str = Field(DEV_ORIGIN, description="the log's name, first line of every checkpoint")
    dev_links: bool | None = Field(
        None, description="print sign-in links at start; on in development, refused in production"
    )
    test_keys: bool = Field(
        False, description="accept published test keys of stations; refused in production"
    )
    key_approvals: int = Field(
        2, ge=1, le=2, description="officers behind a new station key; 1 only outside production"
    )
    max_body_bytes: int = Field(16 * 2**20, gt=0, description="largest request body")
    max_future_ms: int = Field(300_000, ge=0, description="how far ahead of our clock a station may be")
    integrate_ms: int = Field(250, gt=0, description="pause between two integrations of pending leaves")
    checkpoint_ms: int = Field(500, gt=0, description="pause between two checkpoints")
    pending_limit: int = Field(4096, gt=0, description="unsequenced leaves above which ingest answers 503")
    policy_file: Path | None = Field(
        None, description="policy that names this log and its witnesses; the policy logged last when unset"
    )
    require_quorum: bool = Field(
        False, description="publish nothing the policy's quorum of witnesses has not cosigned (fail closed)"
    )
    witness_timeout_ms: int = Field(1000, gt=0, description="how long a checkpoint waits for its witnesses")
    tsa_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="time-stamp authorities (RFC 3161) that anchor checkpoints; addresses between spaces"
    )
    tsa_root_file: Path | None = Field(
        None, description="PEM of their roots, to refuse at once what a verifier would; unchecked when unset"
    )
    anchor_ms: int = Field(3_600_000, gt=0, description="pause between two anchors of one authority")
    log_json: bool = Field(False, description="write logs as JSON lines")
    signer_user: str | None = Field(
        None, description="OS user of the signer when root starts it; `daemon` when unset, where there is one"
    )
    signer_passphrase_file: Path | None = Field(
        None, description="file whose first line encrypts the log's key on disk; needed in production"
    )
    signer_pkcs11_module: Path | None = Field(
        None, description="PKCS#11 library of the token that holds the log's key, instead of a file"
    )
    signer_pkcs11_token: str = Field("stackwitness", description="label of that token")
    signer_pkcs11_pin_file: Path | None = Field(None, description="file whose first line is its user PIN")
    signer_allow_plaintext_key: bool = Field(
        False, description="let the log's key lie open on the disk in production too"
    )

    @field_validator("tsa_urls", mode="before")
    @classmethod
    def split_addresses(cls, value: object) -> object:
        """Read addresses written between spaces or commas."""
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def refuse_insecure_production(self) -> Self:
        """Refuse what only a development machine may do."""
        if self.mode != "production":
            return self
        if self.dev_links:
            raise ValueError("dev_links are insecure sign-in links: not in production")
        if self.test_keys:
            raise ValueError("test_keys accepts keys whose secret is public: not in production")
        if self.key_approvals != 2:
            raise ValueError("key_approvals must be 2 in production: no officer registers a key alone")
        if self.log_origin == DEV_ORIGIN:
            raise ValueError("log_origin must be set in production: checkpoints are signed under this name")
        return self

    @property
    def prints_dev_links(self) -> bool:
        """Tell whether sign-in links may be printed."""
        return self.mode == "development" if self.dev_links is None else self.dev_links

    @property
    def log_dir(self) -> Path:
        """Return the folder of checkpoint and tiles."""
        return self.home / "log"

    @property
    def signer_dir(self) -> Path:
        """Return the folder only the signer process may read."""
        return self.home / "signer"

    @property
    def signer_socket(self) -> Path:
        """Return the signer's Unix socket."""
        return self.home / "sockets" / "signer.sock"

    @property
    def plaintext_key_allowed(self) -> bool:
        """Tell whether the log's key may lie open on the disk."""
        return self.mode != "production" or self.signer_allow_plaintext_key

    @property
    def export_dir(self) -> Path:
        """Return the folder of finished bundles."""
        return self.home / "exports"

    @property
    def key_dir(self) -> Path:
        """Return the folder of the service's own keys."""
        return self.home / "keys"

    @property
    def postgres_dir(self) -> Path:
        """Return the folder of the embedded cluster."""
        return self.home / "postgres"

    @property
    def logs_dir(self) -> Path:
        """Return the folder of the processes' own logs."""
        return self.home / "logs"

    @property
    def run_file(self) -> Path:
        """Return the file that tells where a running `up` listens."""
        return self.home / "run.json"
