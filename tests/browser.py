"""
Drive headless Chromium over its DevTools protocol.

The browser is told what to do through two pipes (``--remote-debugging-pipe``), so that tests need
neither a package nor a port.  Nothing sleeps or polls: `Page.wait_for` waits in the page itself,
which looks again when its document changes.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
    # No other host exists.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: The descriptors of the pipes in the browser: it reads commands, and writes what happens.
_COMMANDS, _EVENTS = 3, 4

#: Waits until a condition is true, and returns its value; fails with what the page shows after a
#: time that is long enough for a busy machine.
_WAIT = """
new Promise((resolve, reject) => {
  const condition = () => (%s);
  const look = () => {
    let value = null;
    try {
      value = condition();
    } catch {
      // The elements that it reads are not there yet.
    }
    if (!value) return;
    observer.disconnect();
    clearTimeout(deadline);
    resolve(value === true || typeof value !== "object" ? value : true);
  };
  const fail = () => reject(new Error(`it did not come true on:\n${document.body.innerText}`));
  const deadline = setTimeout(fail, 60000);
  const observer = new MutationObserver(look);
  const all = { subtree: true, childList: true, characterData: true, attributes: true };
  observer.observe(document, all);
  document.addEventListener("toggle", look, true);
  look();
})
"""


def find_chromium() -> str | None:
    """
    Return the path of Chromium or Chrome; None if neither is installed.
    """
    return shutil.which("chromium") or shutil.which("google-chrome")


class BrowserError(Exception):
    """
    Raised when the browser refuses a command, or a script in the page fails.
    """


class Browser(ProcessProtocol):
    """
    Represent a running browser.

    Attributes:
        ended: Fires when the browser has exited.
    """

    transport: IProcessTransport

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._replies: dict[int, Deferred[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._received = bytearray()

    def start(self, reactor: IReactorProcess, program: str, profile: Path) -> None:
        """
        Start the browser `program` with a new profile.
        """
        command = [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        descriptors: dict[int, int | str] = {0: "w", 1: "r", 2: "r", _COMMANDS: "w", _EVENTS: "r"}
        reactor.spawnProcess(self, program, command, env=None, childFDs=descriptors)

    async def stop(self) -> None:
        """
        End the browser.
        """
        if not self.ended.called:
            self.transport.signalProcess("KILL")
        await self.ended

    async def open_page(self, address: str) -> Page:
        """
        Open a new page at `address`, in a profile of its own.
        """
        context = await self.command("Target.createBrowserContext")
        target = await self.command(
            "Target.createTarget",
            url="about:blank",
            browserContextId=context["browserContextId"],
        )
        attached = await self.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.command(f"{domain}.enable")
        await page.navigate(address)
        return page

    def command(
        self, method: str, session: str | None = None, /, **parameters: Any
    ) -> Deferred[dict[str, Any]]:
        """
        Send a command; return a Deferred of its result.
        """
        number = len(self._replies) + 1
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        reply = self._replies[number] = Deferred()
        self.transport.writeToChild(_COMMANDS, json.dumps(message).encode() + b"\0")
        return reply

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """
        Receive what the browser writes; only its messages matter.
        """
        if descriptor != _EVENTS:
            return
        *messages, rest = (self._received + data).split(b"\0")
        self._received = rest
        for message in messages:
            self._receive(json.loads(message))

    def _receive(self, message: dict[str, Any]) -> None:
        match message:
            case {"id": number, "error": {"message": reason}}:
                self._replies[number].errback(BrowserError(reason))
            case {"id": number, "result": result}:
                self._replies[number].callback(result)
            case {"sessionId": session, "method": method, "params": parameters}:
                if session in self._pages:
                    self._pages[session].receive(method, parameters)
            case _:
                pass

    def processEnded(self, reason: Failure) -> None:
        """
        Note that the browser has exited; what waits for a reply fails.
        """
        for reply in self._replies.values():
            if not reply.called:
                reply.errback(BrowserError("the browser has exited"))
        self.ended.callback(None)


class Page:
    """
    Represent a page of the browser.

    Attributes:
        complaints: What the console reported: errors, warnings, and exceptions.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._loaded: Deferred[None] = Deferred()
        self.complaints: list[str] = []

    def command(self, method: str, **parameters: Any) -> Deferred[dict[str, Any]]:
        """
        Send a command about this page; return a Deferred of its result.
        """
        return self._browser.command(method, self._session, **parameters)

    def receive(self, method: str, parameters: dict[str, Any]) -> None:
        """
        Take note of an event of the page.
        """
        match method, parameters:
            case "Page.loadEventFired", _:
                if not self._loaded.called:
                    self._loaded.callback(None)
            case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                thrown = details.get("exception", {}).get("description", "")
                self.complaints.append(f"{details['text']} {thrown}")
            case "Runtime.consoleAPICalled", {"type": "error" | "warning" | "assert", "args": args}:
                text = " ".join(str(arg.get("value", arg.get("description"))) for arg in args)
                self.complaints.append(text)
            case "Log.entryAdded", {"entry": {"level": "error", **entry}}:
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            case _:
                pass

    async def navigate(self, address: str) -> None:
        """
        Load `address`, and wait until the page is loaded.
        """
        self._loaded = Deferred()
        await self.command("Page.navigate", url=address)
        await self._loaded

    async def evaluate(self, script: str) -> Any:
        """
        Run an expression in the page, wait for it if it is a promise, and return its value.

        Raises:
            BrowserError: The expression throws.
        """
        result = await self.command(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", details["text"])
            raise BrowserError(f"{script[:200]}: {thrown}")
        return result["result"].get("value")

    async def wait_for(self, condition: str) -> Any:
        """
        Wait until the expression `condition` is true in the page, and return its value.
        """
        return await self.evaluate(_WAIT % condition)

    async def wait_for_text(self, selector: str, text: str) -> None:
        """
        Wait until an element that `selector` selects contains `text`.
        """
        await self.wait_for(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".some((element) => element.textContent.includes({json.dumps(text)}))"
        )

    async def click(self, selector: str) -> None:
        """
        Click on the element that `selector` selects, when it is there and enabled.
        """
        found = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(f"{found} && !{found}.disabled")
        await self.evaluate(f"{found}.click()")

    async def click_and_load(self, selector: str) -> None:
        """
        Click on the element that `selector` selects, and wait until another page is loaded.
        """
        self._loaded = Deferred()
        await self.click(selector)
        await self._loaded

    async def fill(self, selector: str, text: str) -> None:
        """
        Type `text` into the field that `selector` selects, as a person would, when it is there.
        """
        found = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(found)
        await self.evaluate(f"{found}.focus()")
        await self.command("Input.insertText", text=text)

    async def show(self, width: int, height: int, scheme: str) -> None:
        """
        Set the size of the window and the colour scheme, ``light`` or ``dark``.
        """
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            # Colours that fade would be measured in between.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.command("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """
        Return a picture of the window, or of the `whole` page, as PNG.
        """
        result = await self.command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole
        )
        return base64.b64decode(result["data"])
