"""A real Slurm on this machine for tests: one node, two GPUs that are only devices, no systemd, no accounts.

munged, slurmctld and slurmd run from a folder of their own, listen on the loopback alone, and are stopped by their pids.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
SBIN = "/usr/sbin:/sbin"
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={socket}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerParameters=batch_sched_delay=0,bf_interval=1,requeue_setup_env_fail
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
KillWait=30
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00 DefMemPerCPU=500 State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def install() -> str | None:
    """Install Debian's packages where that is possible; returns why not."""
    if not missing():
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{', '.join(missing())} not found: apt-get install {' '.join(PACKAGES)}"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    lock = ["-o", "DPkg::Lock::Timeout=300"]
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *lock, *PACKAGES]):
        done = subprocess.run(["apt-get", *words], env=quiet, capture_output=True, text=True, check=False)
    return f"{', '.join(missing())} could not be installed: {done.stderr.strip()[-300:]}" if missing() else None


class LocalSlurm:
    """Start with ``start``, stop with ``stop``; ``env`` is what a process needs to reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "munge" / "socket"
        # Snakemake's Slurm executor drops SLURM_CONF before it calls srun.
        shims = folder / "bin"
        self.env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{shims}:{os.environ['PATH']}:{SBIN}"}
        self.host = socket.gethostname().split(".")[0]

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait until the node is idle."""
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self._munge()
        user, ports = self._run("id", "-un").strip(), _free_ports(2)
        text = CONF.format(host=self.host, user=user, socket=self.socket, ports=ports, folder=self.folder)
        (self.folder / "slurm.conf").write_text(text)
        devices = "".join(f"NodeName={self.host} Name=gpu Type=fake File={self._device(i)}\n" for i in range(2))
        (self.folder / "gres.conf").write_text(devices)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\nConstrainDevices=no\n")
        srun = shutil.which("srun", path=self.env["PATH"])
        shim = self.folder / "bin" / "srun"
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {srun} "$@"\n')
        shim.chmod(0o755)
        self._run("slurmctld", "-c")
        self._run("slurmd", "-N", self.host)
        self._wait(lambda: self._run("sinfo", "-h", "-o", "%T", check=False).strip() == "idle", "an idle node")

    def stop(self) -> None:
        """Cancel all jobs, and stop what was started."""
        self._run("scancel", "--full", "-u", self._run("id", "-un").strip(), check=False)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.folder / name
            if path.exists():
                _stopped(int(path.read_text()))

    def job(self, number: str) -> dict[str, str]:
        """What scontrol knows of a job."""
        words = self._run("scontrol", "show", "job", "-d", "-o", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def jobs(self) -> list[str]:
        """The numbers of all jobs, those that have ended too."""
        return self._run("squeue", "-h", "--states=all", "-o", "%A").split()

    def run(self, *words: str) -> str:
        """The output of a Slurm command."""
        return self._run(*words)

    def _munge(self) -> None:
        home = self.folder / "munge"
        home.chmod(0o700 if os.geteuid() else 0o711)
        key = home / "key"
        key.write_bytes(secrets.token_bytes(256))
        key.chmod(0o400)
        places = [f"--{name}-file={home / name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--force", f"--socket={self.socket}", *places)

    def _device(self, number: int) -> Path:
        """Something that Slurm takes for a GPU: a character device whose name ends in a number."""
        made = self.folder / f"nvidia{number}"
        try:
            os.mknod(made, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            return Path(f"/dev/tty{number}")
        return made

    def _run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}{self._logs()}")
        return done.stdout

    def _logs(self) -> str:
        return "".join(f"\n{path.name}: {path.read_text()[-1000:]}" for path in sorted(self.folder.glob("*.log")))

    def _wait(self, there, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not there():
            if time.monotonic() > end:
                raise RuntimeError(f"no {what} after {seconds:g} s{self._logs()}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def _stopped(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
