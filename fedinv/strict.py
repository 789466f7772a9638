"""The base of a scenario's tables: frozen, and an unknown key is refused."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen table of a scenario in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
