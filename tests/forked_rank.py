"""forked_rank.py SOCKET COMMAND…: a process that a launcher starts, and whose work is done in a fork of another one.

The other one has imported distbp, and listens at SOCKET (`rank_forks.py`).  It gets all that a process inherits: the
directory, the environment, the open files, the CPUs, the limits, the mask of new files, which signals are ignored, and
what it sees of the system (namespaces).  Signals that come here are passed on to the fork, and this process ends as the
fork has ended.  If this process is killed, the fork is killed as well.  Where a fork would not be as a new process is,
this process becomes that new process.

It imports no more than it needs: it is started for each rank.
"""

import _socket
import os
import resource
import signal
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGCONT)
LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)


def open_files() -> list[int]:
    """The descriptors that this process was started with."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)) or int(name) < 3:
                found.append(int(name))
        except OSError:  # the one with which the directory was read
            continue
    return found


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    files = open_files()
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(sys.argv[1])
    mask = os.umask(0o077)
    words = {
        "umask": mask,
        "command": sys.argv[2:],
        "files": files,
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "ignored": [int(number) for number in PASSED_ON if signal.getsignal(number) == signal.SIG_IGN],
        "cpus": sorted(os.sched_getaffinity(0)),
        "limits": {limit: resource.getrlimit(limit) for limit in LIMITS},
        "client": os.getpid(),
    }
    os.umask(mask)
    text = repr(words).encode("utf-8", "surrogateescape")
    descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in files)
    server.sendmsg([len(text).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
    server.sendall(text)
    said = server.recv(100)
    if said == b"afresh":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.execv(sys.argv[2], sys.argv[2:])
    fork, _, said = said.partition(b"\n")

    def pass_on(number: int, frame: object) -> None:
        try:
            os.kill(int(fork), number)
        except ProcessLookupError:  # it has ended, and its exit code is on the way
            return

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = int(said or server.recv(100) or b"1")
    if code >= 0:
        os._exit(code)
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main()
