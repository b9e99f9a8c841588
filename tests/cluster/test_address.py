"""
Tests for `kiroworkers.cluster.address`.
"""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.address import describe, read_address
from kiroworkers.errors import InvalidSetting


class AddressTests(SynchronousTestCase):
    """
    Tests for `read_address` and `describe`.
    """

    def file(self, text: str) -> Path:
        file = Path(self.mktemp())
        file.write_text(text)
        return file

    def test_read(self) -> None:
        """
        An address is completed with limits for broken connections, unless it has its own.
        """
        text = (
            " postgresql://ann:s%20ecret@db1,db2:6000/kiro?connect_timeout=9&sslmode=verify-full\n"
        )
        read = conninfo_to_dict(read_address(self.file(text), "kiroworkers a"))
        self.assertEqual(
            {name: str(value) for name, value in read.items()},
            {
                "user": "ann",
                "password": "s ecret",
                "host": "db1,db2",
                "port": ",6000",
                "dbname": "kiro",
                "connect_timeout": "9",
                "sslmode": "verify-full",
                "keepalives_idle": "5",
                "keepalives_interval": "2",
                "keepalives_count": "3",
                "tcp_user_timeout": "10000",
                "client_encoding": "utf8",
                "fallback_application_name": "kiroworkers a",
            },
        )

    def test_described(self) -> None:
        """
        A description has neither the user nor the password.
        """
        address = read_address(self.file("postgresql://ann:secret@db1/kiro"))
        self.assertEqual(describe(address), "kiro on db1")
        self.assertEqual(
            describe(read_address(self.file("postgres://"))),
            "the default database on the default host",
        )

    def test_refused(self) -> None:
        """
        What is no address, or has a password that is not escaped, is refused without being quoted.
        """
        for text in (
            *("", "mysql://secret@db1", "postgresql://a?secret=1", "postgresql://[secret"),
            *("postgresql://ann:pass@secret@db1/kiro", "postgresql://ann:secret/pass@db1/kiro"),
            *("postgresql://ann:pass%secret@db1/kiro", "postgresql://db1:54x2/secret"),
        ):
            file = self.file(text)
            error = self.assertRaises(InvalidSetting, read_address, file)
            self.assertNotIn("secret", str(error))
            self.assertIn(f"--database-file {file}: ", str(error))
        folder = self.mktemp()
        self.assertRaises(InvalidSetting, read_address, Path(folder))
        unreadable = Path(self.mktemp())
        unreadable.write_bytes(b"postgresql://\xff")
        self.assertRaises(InvalidSetting, read_address, unreadable)
