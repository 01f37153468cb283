"""What all models have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A model that is built when it is first used: importing all of them costs a third of a second otherwise."""

    model_config = ConfigDict(defer_build=True, populate_by_name=True)
