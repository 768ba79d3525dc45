#!/usr/bin/env python3
"""A `python` for recipes that starts at once: every command is a fork of one process that has
imported what takes long (ESPnet's tasks need 10 s or more, and a recipe has a dozen commands).

    warm_python.py --serve SOCKET                 the process that is forked
    WARM_PYTHON=SOCKET warm_python.py -m MODULE …  as python3 -m MODULE …, likewise -c CODE

The plugins are not registered in the process: a command does that itself, as in a new interpreter.
Threads are those of the serving process. A command that is killed takes its fork with it, and who
has started the serving process takes that.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading

MODULES = """torch torchaudio transformers soundfile matplotlib espnet2.tasks.asr
    espnet2.tasks.cls espnet2.tasks.diar espnet2.tasks.spk espnet2.main_funcs.average_nbest_models
    espnet_prune.structured jiwer pyannote.metrics.diarization""".split()


def serve(path: str) -> None:
    """Fork for every connection, until killed, or until who has started this process is gone."""
    import importlib

    from espnet_prune.plugin.startup import faster

    parent = os.getppid()
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, end)
    faster()
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:  # the command that needs it will say so
            print(f"{name}: {error}", file=sys.stderr)
    sys.stdout.flush()  # what imports have printed would be every fork's first words
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(1)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if os.getppid() != parent:
                    end()
                continue
            if os.fork():
                connection.close()
                continue
            listener.close()
            connection.sendall(bytes([work(connection)]))
            os._exit(0)


def end(*_) -> None:
    """End this process and the commands that run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    sys.exit(0)


def end_with(connection: socket.socket) -> None:
    """End this process when the command that waits for it is gone."""
    connection.recv(1)
    os._exit(1)


def work(connection: socket.socket) -> int:
    """Run the command that the connection describes; returns its exit status."""
    import logging
    import runpy
    import traceback

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
    request = json.loads(message)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    logging.root.handlers.clear()
    kind, target, *arguments = request["arguments"]
    sys.argv, sys.path[0] = [target, *arguments], request["cwd"]
    status = 0
    try:
        if kind == "-m":
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            exec(compile(target, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        status = ended.code
        if not isinstance(status, int | None):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return (status or 0) & 255


def ask(path: str, arguments: list[str]) -> int:
    """Have the command run; returns its exit status, 1 if it was killed."""
    request = {"arguments": arguments, "cwd": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        return (connection.recv(1) or b"\1")[0]


@contextlib.contextmanager
def serving(folder, root):
    """While this lasts, a serving process is there for the commands of this one; yields it. A
    serving process from before is there again afterwards.

    Args:
        folder: path that gets its socket.
        root: path of the checkout whose package the commands import.
    """
    import subprocess  # not for every command that asks
    import tempfile
    import time

    path, log = folder / "socket", tempfile.TemporaryFile("w+")
    before = os.environ.get("WARM_PYTHON")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        while not path.exists():
            if server.poll() is not None:
                log.seek(0)
                raise RuntimeError(log.read())
            time.sleep(0.2)
        os.environ["WARM_PYTHON"] = str(path)
        yield server
    finally:
        os.environ.pop("WARM_PYTHON", None)
        if before is not None:
            os.environ["WARM_PYTHON"] = before
        server.terminate()
        with contextlib.suppress(ChildProcessError):
            server.wait()
        log.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"] and len(sys.argv) == 3:
        serve(sys.argv[2])
    if "WARM_PYTHON" not in os.environ:
        sys.exit(__doc__)
    sys.exit(ask(os.environ["WARM_PYTHON"], sys.argv[1:]))
