"""Whose files these are: compared so that no two patients are mixed, and never shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dicom_values import text_of
from .vocabulary import InputError

if TYPE_CHECKING:
    from .dicom_values import Header


@dataclass(frozen=True)
class Patient:
    """Who a file says it is of; only ever compared, never shown."""

    id: str
    name: str
    birth_date: str

    def may_be(self, other: Patient) -> bool:
        """Tell whether nothing that both files say makes them two patients."""
        if self.differs_in_zeros_only(other):
            return True
        same_birth = self.birth_date == other.birth_date and self.birth_date != ""
        for mine, theirs in ((self.id, other.id), (self.birth_date, other.birth_date)):
            if mine and theirs and mine != theirs:
                return False
        same_id = self.id == other.id and self.id != ""
        return not self.name or not other.name or self.name == other.name or (same_id and same_birth)

    def differs_in_zeros_only(self, other: Patient) -> bool:
        """Tell whether name and birth date are the same and the IDs differ in nothing but zeros in front: archives pad them."""
        same_person = self.name == other.name != "" and self.birth_date == other.birth_date != ""
        mine, theirs = self.id.lstrip("0"), other.id.lstrip("0")
        return same_person and self.id != other.id and mine == theirs != ""

    def is_named_in(self, text: str) -> bool:
        """Tell whether a part of the patient's name stands in a text, alone or, from three letters on, inside a word."""
        words = _person(text).split()
        return any(part in words or (len(part) > 2 and any(part in word for word in words)) for part in self.name.split())


def patient_of(header: Header) -> Patient:
    """Return who a header says it is of."""
    return Patient(text_of(header, "PatientID"), _person(text_of(header, "PatientName")), text_of(header, "PatientBirthDate"))


def refuse_two_patients(patients: Sequence[Patient]) -> None:
    """Raise InputError where two of them cannot be the same patient."""
    distinct = list(dict.fromkeys(patients))
    for index, one in enumerate(distinct):
        if any(not one.may_be(other) for other in distinct[index + 1 :]):
            raise InputError("Expected an exam of one patient, got files of two or more patients; give the folder of one patient's study.")


def _person(text: str) -> str:
    """Return a person's name, or a text that may hold one, in lower case with blanks between its parts."""
    return re.sub(r"[\s^=_,.]+", " ", text).strip().casefold()
