"""A Jupyter server with two kernels. A cell of the first one takes all memory; its kernel dies, the server starts it again,
and the second one still knows what it held."""

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid

import websocket

TOKEN = "presets"
LEAK = """
import time
held = bytearray()
for _ in range(2000):
    held += b"x" * (1 << 20)
    time.sleep(0.01)
"""


def start():
    """The server and its address, when it answers: that is in a file of the server's."""
    runtime = os.path.join(os.getcwd(), "runtime")
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-m", "jupyter_server", *options]
    server = subprocess.Popen(command, env={**os.environ, "JUPYTER_RUNTIME_DIR": runtime})
    while server.poll() is None:
        time.sleep(0.1)
        try:
            with open(os.path.join(runtime, f"jpserver-{server.pid}.json")) as file:
                address = f"127.0.0.1:{json.load(file)['port']}"
            urllib.request.urlopen(f"http://{address}/api", timeout=30).close()
            return server, address
        except (OSError, ValueError):
            pass
    raise SystemExit("the server ended")


class Kernel:
    """One kernel of the server, by the server alone."""

    def __init__(self, address):
        self.address = address
        self.id = self._ask("/api/kernels", data=b"{}")["id"]
        self._connect()

    def _ask(self, path, data=None):
        headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def _connect(self):
        url = f"ws://{self.address}/api/kernels/{self.id}/channels?token={TOKEN}"
        self.socket = websocket.create_connection(url, timeout=90)

    def state(self):
        return self._ask(f"/api/kernels/{self.id}")["execution_state"]

    def send(self, code):
        header = {"msg_id": uuid.uuid4().hex, "username": "u", "session": uuid.uuid4().hex, "version": "5.3"}
        message = {
            "header": {**header, "msg_type": "execute_request"},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False, "store_history": True, "allow_stdin": False},
            "channel": "shell",
        }
        self.socket.send(json.dumps(message))

    def until(self, what):
        """The first message of which `what` says something."""
        while True:
            found = what(json.loads(self.socket.recv()))
            if found is not None:
                return found

    def value(self, code):
        """What an expression is."""
        self.send(code)
        return self.until(lambda m: m["content"]["data"]["text/plain"] if m["msg_type"] == "execute_result" else None)

    def restarted(self):
        """The server says that the kernel died."""

        def died(message):
            state = message["content"].get("execution_state") if message["msg_type"] == "status" else None
            return state if state in ("restarting", "autorestarting") else None

        return self.until(died)

    def wait_until_it_answers(self):
        """What is sent to a kernel that only begins may be lost: the server says "starting" of both."""
        while True:
            self.socket.close()
            self._connect()
            self.socket.settimeout(2)
            try:
                self.value("0")
            except websocket.WebSocketTimeoutException:
                continue
            self.socket.settimeout(90)
            return


if __name__ == "__main__":
    server, address = start()
    first, second = Kernel(address), Kernel(address)
    print("first:", first.value("1 + 1"), flush=True)
    second.value("kept = 41; kept")
    sys.stdin.readline()
    first.send(LEAK)
    print("the server says:", first.restarted(), flush=True)
    first.wait_until_it_answers()
    print("again:", first.value("2 + 2"), "held" if first.value("'held' in dir()") == "True" else "empty", flush=True)
    print("second:", second.value("kept + 1"), flush=True)
    print("server lives:", server.poll() is None, flush=True)
    server.terminate()
    server.wait()
