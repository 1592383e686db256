import stat

from hostvm.agent.log import AgentLog


def test_lines_and_turning_over(tmp_path):
    path = tmp_path / "agent.log"
    log = AgentLog(str(path), most=200)
    log("one")
    log("two\nlines")
    assert "two\n    lines\n" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log("x" * 300)
    log("after")
    assert "after" in path.read_text()
    assert "one" not in path.read_text()
    assert "one" in (tmp_path / "agent.log.1").read_text()
