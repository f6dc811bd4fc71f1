"""A headless Chromium, driven through its debugging pipe; nothing is mocked and nothing listens."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# Generous: what is measured is that things happen, on machines that may be busy.
_PATIENCE_SECONDS = 240

_OPTIONS = (
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  # No name is ever resolved, and so nothing of the network reached.
  "--host-resolver-rules=MAP * ~NOTFOUND",
)


def chromium() -> str | None:
  """Returns the path of a Chromium or Chrome, None where there is none."""
  names = ("chromium", "chromium-browser", "google-chrome", "chrome")
  return next((path for name in names if (path := shutil.which(name))), None)


class Page:
  """One page, and what it has printed, broken and asked for."""

  def __init__(self, to_browser: int, from_browser: int):
    self._to_browser = to_browser
    self._from_browser = from_browser
    self._buffer = b""
    self._number = 0
    self._session: str | None = None
    self.problems: list[str] = []
    self.requests: list[str] = []
    self._loaded = False
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
      self.call(f"{domain}.enable")

  def call(self, method: str, **parameters: object) -> dict:
    """Calls a method of the DevTools protocol and returns its result."""
    self._number += 1
    message = {"id": self._number, "method": method, "params": parameters}
    if self._session:
      message["sessionId"] = self._session
    self._send(json.dumps(message).encode() + b"\0")
    while True:
      answer = self._receive()
      if answer.get("id") == self._number:
        assert "error" not in answer, answer
        return answer["result"]

  def open(
    self,
    path: Path,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    scripts: bool = True,
  ) -> None:
    """Opens a file and waits until it is loaded."""
    self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
    self.call(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    self.call("Emulation.setEmulatedMedia", features=[scheme])
    self._loaded = False
    self.problems.clear()
    self.requests.clear()
    self.call("Page.navigate", url=path.resolve().as_uri())
    while not self._loaded:
      self._receive()

  def wait_for(self, condition: str) -> None:
    """Waits until a JavaScript expression is true."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not self.evaluate(condition):
      assert time.monotonic() < deadline, condition
      time.sleep(0.05)

  def evaluate(self, expression: str) -> object:
    """Returns the value of a JavaScript expression, awaited where it is a promise."""
    result = self.call(
      "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
    )
    assert "exceptionDetails" not in result, result["exceptionDetails"]
    return result["result"].get("value")

  def click(self, selector: str) -> None:
    """Clicks with the mouse in the middle of an element."""
    x, y = self.evaluate(
      f"""(() => {{
        const element = document.querySelector({json.dumps(selector)});
        element.scrollIntoView({{block: "center", inline: "center"}});
        const box = element.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      }})()"""
    )
    for kind in ("mousePressed", "mouseReleased"):
      self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

  def press(self, key: str) -> None:
    """Presses a key, Enter for example."""
    text = {"Enter": "\r"}.get(key)
    down = {"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": 13}
    self.call("Input.dispatchKeyEvent", **down, **({"text": text} if text else {}))
    self.call("Input.dispatchKeyEvent", **{**down, "type": "keyUp"})

  def screenshot(self, path: Path, whole: bool = True) -> None:
    shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
    path.write_bytes(base64.b64decode(shot["data"]))

  def _send(self, data: bytes) -> None:
    while data:
      data = data[os.write(self._to_browser, data) :]

  def _receive(self) -> dict:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while b"\0" not in self._buffer:
      ready, _, _ = select.select([self._from_browser], [], [], deadline - time.monotonic())
      assert ready, "Chromium gave no answer"
      data = os.read(self._from_browser, 1 << 20)
      assert data, "Chromium has ended"
      self._buffer += data
    text, _, self._buffer = self._buffer.partition(b"\0")
    message = json.loads(text)
    self._note(message.get("method"), message.get("params", {}))
    return message

  def _note(self, method: str | None, parameters: dict) -> None:
    if method == "Page.loadEventFired":
      self._loaded = True
    elif method == "Network.requestWillBeSent":
      self.requests.append(parameters["request"]["url"])
    elif method == "Log.entryAdded":
      self.problems.append(parameters["entry"]["text"])
    elif method == "Runtime.exceptionThrown":
      self.problems.append(str(parameters["exceptionDetails"]))
    elif method == "Runtime.consoleAPICalled":
      self.problems.append(str(parameters["args"]))


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
  """Starts a Chromium and yields an empty page of it; at the end it is gone.

  Args:
    profile: folder for what it keeps, fresh.
  """
  to_read, to_write = _pipe()
  from_read, from_write = _pipe()
  # The browser takes its orders from descriptor 3 and answers on 4.
  redirect = f'exec "$@" 3<&{to_read} 4>&{from_write}'
  options = (*_OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank")
  browser = subprocess.Popen(
    ["bash", "-c", redirect, "bash", chromium(), *options],
    pass_fds=(to_read, from_write),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read)
  os.close(from_write)
  try:
    page = Page(to_write, from_read)
    yield page
    page._session = None
    page.call("Browser.close")
    browser.wait(timeout=_PATIENCE_SECONDS)
  finally:
    browser.kill()
    browser.wait()
    os.close(to_write)
    os.close(from_read)


def _pipe() -> tuple[int, int]:
  """Returns a pipe whose ends are not the descriptors that the browser is to find something at."""
  ends = os.pipe()
  moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
  for end in ends:
    os.close(end)
  return moved
