"""The process of the workflow: jobs can be interrupted, whatever the shell that started the batch ignores."""

import signal
import sys

from cryovae.batch import engine


def test_jobs_heed_interrupts_of_a_batch_that_a_shell_started_in_the_background(tmp_path, monkeypatch):
    workflow = tmp_path / "workflow"
    heeds = "signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    workflow.write_text(f"#!{sys.executable}\nimport signal, sys\nsys.exit(3 if {heeds} else 7)\n")
    workflow.chmod(0o755)
    monkeypatch.setattr(engine.sys, "executable", str(workflow))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert engine.run_workflow(tmp_path, engine.PROFILES / "local", []) == 3
    finally:
        signal.signal(signal.SIGINT, before)
