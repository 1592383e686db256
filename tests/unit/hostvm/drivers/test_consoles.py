from __future__ import annotations

from hostvm.drivers.consoles import previous_console, rotate_console


def test_the_boot_before_is_kept(tmp_path):
    console = tmp_path / "console.log"
    for text in ("first", "second"):
        rotate_console(console)
        console.write_text(text)
    rotate_console(console)
    assert console.read_text() == ""
    assert console.stat().st_mode & 0o777 == 0o600
    assert previous_console(console) == tmp_path / "console.log.1"
    assert previous_console(console).read_text() == "second"


def test_a_boot_that_said_nothing_does_not_push_out_the_one_before(tmp_path):
    console = tmp_path / "console.log"
    console.write_text("text")
    rotate_console(console)
    rotate_console(console)
    assert previous_console(console).read_text() == "text"
