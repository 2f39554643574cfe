"""What the HTTP edge accepts and answers for stations."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from emdi.encoding import b64u_decode
from emdi.errors import EmdiError
from stackwitness.errors import Unprocessable
from stackwitness.stations.domain import Channel, ChannelRole, NewKey, Station

MAX_PROOF_LENGTH = 2048
STN_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
# PostgreSQL stores no NUL, and a control character in a name only serves to deceive a reader.
Words = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
StnPath = Annotated[str, Path(pattern=STN_PATTERN, description="Station id")]
EpochPath = Annotated[int, Path(ge=0, lt=2**53, description="Epoch")]
KidPath = Annotated[str, Path(pattern=STN_PATTERN, description="Key id")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Form(BaseModel):
    """A request body: a member we do not know is an error, not a shrug."""

    model_config = ConfigDict(extra="forbid")


class ChannelForm(Form):
    """A channel; `limit` and `resolution` in its own unit."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}$")]
    quantity: Words
    unit: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    role: ChannelRole
    limit: Finite | None = None
    resolution: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def to_channel(self) -> Channel:
        """Return the domain's channel."""
        return Channel(self.name, self.quantity, self.unit, self.role, self.limit, self.resolution)


class StationForm(Form):
    """A station with its channels."""

    stn: Annotated[str, StringConstraints(pattern=STN_PATTERN)]
    name: Words
    agency: Words
    industry: Words
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    utc_offset_min: Annotated[int, Field(ge=-14 * 60, le=14 * 60)] = 0
    channels: Annotated[list[ChannelForm], Field(max_length=200)] = []

    def to_station(self) -> Station:
        """Return the domain's station."""
        return Station(
            self.stn, self.name, self.agency, self.industry, self.lat, self.lon, self.utc_offset_min
        )


class ChannelsForm(Form):
    """Channels to add to a station."""

    channels: Annotated[list[ChannelForm], Field(max_length=200)]


class KeyForm(Form):
    """A public key with the proof that its secret half is there."""

    kid: Annotated[str, StringConstraints(pattern=STN_PATTERN)]
    alg: Literal["Ed25519", "ES256"]
    public_b64u: Annotated[str, StringConstraints(max_length=100)]
    proof: Annotated[str, StringConstraints(max_length=MAX_PROOF_LENGTH)]

    def to_key(self) -> NewKey:
        """Return the domain's key. Raises Unprocessable when the bytes are not canonical base64url."""
        try:
            raw = b64u_decode(self.public_b64u)
        except EmdiError as error:
            raise Unprocessable(error.code, "The public key cannot be read", detail=str(error)) from error
        return NewKey(self.kid, self.alg, raw, self.proof)


class RotationForm(Form):
    """The successor of a key; `old_proof` is the old key's JWS that names it."""

    new: KeyForm
    old_proof: Annotated[str, StringConstraints(max_length=MAX_PROOF_LENGTH)]


class WhyForm(Form):
    """Why something is done."""

    why: Words


class CompromiseForm(WhyForm):
    """Why a key is not trusted any more, and since which log index."""

    suspect_from_idx: Annotated[int, Field(ge=0, lt=2**53)]


class LimitForm(WhyForm):
    """A channel's limit, in its own unit, from a time on; null = none."""

    channel: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    limit: Finite | None
    from_at: Annotated[AwareDatetime, Field(alias="from")]


class ChannelView(BaseModel):
    """A channel as answered."""

    name: str
    quantity: str
    unit: str
    role: ChannelRole
    limit: float | None
    resolution: float | None


class StationView(BaseModel):
    """A station as answered."""

    stn: str
    name: str
    agency: str
    industry: str
    lat: float | None
    lon: float | None
    utc_offset_min: int


class StationDetail(StationView):
    """A station with its channels."""

    channels: list[ChannelView]


class StationList(BaseModel):
    """Every station."""

    stations: list[StationView]


class KeyView(BaseModel):
    """A key as answered; a suspect one names the compromised key: itself, or one it follows by rotation."""

    kid: str
    alg: str
    public_b64u: str
    revoked: bool
    suspect_from_idx: int | None
    compromised_kid: str | None


class KeyRequestView(BaseModel):
    """A key that waits for a second officer; `account_id` asked for it."""

    kid: str
    alg: str
    public_b64u: str
    account_id: str


class KeyList(BaseModel):
    """The keys of a station, and those asked for."""

    keys: list[KeyView]
    requested: list[KeyRequestView]


class KeyStateView(BaseModel):
    """What became of a request for a key."""

    kid: str
    state: Literal["requested", "registered"]


class LimitView(BaseModel):
    """A channel's limit; `from` is null for the one the channel was registered with.

    `why` is null where the database was made again from the log, which holds the words' salted hash alone.
    """

    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)

    channel: str
    limit: float | None
    from_at: datetime | None = Field(alias="from")
    why: str | None


class LimitList(BaseModel):
    """The limits of a station's channels."""

    limits: list[LimitView]


class EpochView(BaseModel):
    """An epoch that followed another; `env_id` is its first envelope, lowercase hex."""

    ep: int
    prev_ep: int
    env_id: str
    opened_ms: int
    acknowledged_by: str | None


class EpochList(BaseModel):
    """The epochs of a station."""

    epochs: list[EpochView]


class HeadView(BaseModel):
    """Where a station's chain stands; `env_id` is lowercase hex."""

    ep: int
    seq: int
    env_id: str
