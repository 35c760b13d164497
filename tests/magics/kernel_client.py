"""A kernel in a process of its own and what a front end would receive from it."""

import re
import time
from typing import NamedTuple

from jupyter_client.manager import start_new_kernel

TIMEOUT = 60
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Reply(NamedTuple):
    status: str
    outputs: list

    def text(self):
        """All text of all outputs, without colours."""
        parts = []
        for kind, content in self.outputs:
            if kind == "stream":
                parts.append(content["text"])
            elif kind == "error":
                parts += content["traceback"]
            elif kind in ("display_data", "execute_result"):
                parts.append(content["data"].get("text/plain", ""))
        return ANSI.sub("", "\n".join(parts))

    def data(self, kind):
        """The mime bundles of one kind of message."""
        return [content["data"] for k, content in self.outputs if k == kind]


class Kernel:
    def __init__(self, env=None):
        self.manager, self.client = start_new_kernel(**({"env": env} if env else {}))

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def start(self, code):
        return self.client.execute(code)

    def wait_for_print(self, msg_id):
        """Returns when the cell, still running, has printed something."""
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == msg_id and message["msg_type"] == "stream":
                return

    def finish(self, msg_id):
        outputs = []
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind in ("stream", "error", "display_data", "execute_result"):
                outputs.append((kind, content))
        while True:
            reply = self.client.get_shell_msg(timeout=TIMEOUT)
            if reply["parent_header"].get("msg_id") == msg_id:
                return Reply(reply["content"]["status"], outputs)

    def run(self, code):
        return self.finish(self.start(code))

    # -- what a page does --
    def watch(self, msg_id, enough):
        """Collect what the running cell ``msg_id`` sends until ``enough(messages)``."""
        seen, deadline = [], time.monotonic() + TIMEOUT
        while not enough(seen):
            assert time.monotonic() < deadline, f"only {[m['msg_type'] for m in seen]}"
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == msg_id:
                assert message["content"].get("execution_state") != "idle", "the cell is over"
                seen.append(message)
        return seen

    def open_subshell(self):
        """The id of a new subshell, as JupyterLab asks for one; None where there are none."""
        features = self.client.kernel_info(reply=True, timeout=TIMEOUT)["content"]
        if "kernel subshells" not in features.get("supported_features", []):
            return None
        request = self.client.session.msg("create_subshell_request")
        self.client.control_channel.send(request)
        return self.client.get_control_msg(timeout=TIMEOUT)["content"]["subshell_id"]

    def tell(self, comm_id, content, subshell=None):
        """Send a widget's own message, on a subshell if there is one; returns its id."""
        data = {"comm_id": comm_id, "data": {"method": "custom", "content": content}}
        message = self.client.session.msg("comm_msg", data)
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]


def customs(messages):
    """The widgets' own messages among ``messages``: ``(comm id, content)`` each."""
    return [
        (m["content"]["comm_id"], m["content"]["data"]["content"])
        for m in messages
        if m["msg_type"] == "comm_msg" and m["content"]["data"].get("method") == "custom"
    ]
