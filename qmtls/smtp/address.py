"""Mail addresses as SMTP paths carry them (RFC 5321 section 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """`local_part` as written (quotes kept where they are needed); `domain` as written, "" only for <postmaster>.

    The null reverse-path is None wherever a reverse-path is expected, never an Address.
    """

    local_part: str
    domain: str

    @property
    def host(self) -> str:
        """The domain for comparisons: lower case, without a final dot."""
        return self.domain.lower().rstrip(".")

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part
