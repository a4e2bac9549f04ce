// The line between the browser and everything else: an HTTP proxy that the whole browser is behind. It
// counts what really passes, and can be slow, cut, or answer in place of a server as servers do when they
// are overloaded. Nothing that the browser asks for goes past it, so it also knows every host, and nothing
// leaves this machine.

import http from "node:http";

/** What Chromium asks for on its own account, whatever page it shows and whatever it is told. */
export const OWN = new Set([
  "accounts.google.com",
  "clients2.google.com",
  "content-autofill.googleapis.com",
  // Dictionaries, for pages with text fields.
  "redirector.gvt1.com",
  "update.googleapis.com",
]);

export class Line {
  /** Every host that the browser asked for, with its port. */
  hosts = new Set();
  /** Each request: `{method, host, path, query, status, bytes}`; `status` 0 as long as there was no answer. */
  requests = [];
  /** Bytes of request bodies that have passed, by host. */
  #bytes = new Map();
  #open = new Map();
  #sockets = new Set();
  #cut = false;
  #server;
  #agent = new http.Agent({ keepAlive: true });
  /** Bytes a second: for each request, and for all together. */
  perRequest = Infinity;
  together = Infinity;
  #freeAt = 0;
  /** `(request) => null | {status, headers, body}`: an answer in place of the server's. */
  instead = () => null;
  /** `(request) => milliseconds` that a request is held before it goes on. */
  delay = () => 0;

  async start() {
    this.#server = http.createServer((request, response) => this.#pass(request, response));
    // HTTPS: no host of a test.
    this.#server.on("connect", (request, socket) => {
      this.hosts.add(request.url.replace(/:443$/, ""));
      socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    });
    this.#server.on("connection", (socket) => {
      if (this.#cut) return socket.destroy();
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
    });
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this.#server.address().port;
  }

  stop() {
    this.cut();
    this.#agent.destroy();
    this.#server.close();
  }

  /** Ends every connection, and every new one. */
  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#cut = false;
  }

  bytesTo(host) {
    return this.#bytes.get(host) ?? 0;
  }

  /** PUTs to a host that are under way. */
  openTo(host) {
    return this.#open.get(host) ?? 0;
  }

  /** The PUTs of chunks so far: `{chunk, status, bytes}`. */
  get chunks() {
    const puts = this.requests.filter(({ method }) => method === "PUT");
    const chunk = ({ path }) => Number(/\/chunks\/(\d+)$/.exec(path)?.[1]);
    return puts.map((put) => ({ ...put, chunk: chunk(put) }));
  }

  #pass(request, response) {
    const url = new URL(request.url, "http://no-proxy-request");
    const seen = { method: request.method, host: url.host, path: url.pathname, query: url.search, status: 0, bytes: 0 };
    this.hosts.add(url.host);
    this.requests.push(seen);
    if (request.method === "PUT") {
      this.#open.set(url.host, this.openTo(url.host) + 1);
      response.on("close", () => this.#open.set(url.host, this.openTo(url.host) - 1));
    }
    const instead = OWN.has(url.host) ? { status: 502 } : this.instead(seen);
    if (instead) {
      // The body is read to its end first, as servers do that refuse.
      request.resume().on("end", () => {
        seen.status = instead.status;
        response.writeHead(instead.status, instead.headers ?? {}).end(instead.body ?? "");
      });
      return;
    }
    const headers = { ...request.headers };
    delete headers["proxy-connection"];
    const { hostname, port, pathname, search } = url;
    const { method } = request;
    const onward = http.request({ hostname, port, path: pathname + search, method, headers, agent: this.#agent });
    onward.on("response", (answer) => {
      seen.status = answer.statusCode;
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    this.#send(request, onward, seen).catch(() => onward.destroy());
  }

  async #send(request, onward, seen) {
    const held = this.delay(seen);
    if (held > 0) await new Promise((resolve) => setTimeout(resolve, held));
    let freeAt = 0;
    let wake = () => {};
    onward.on("drain", () => wake()).on("close", () => wake());
    for await (const piece of request) {
      const now = performance.now();
      this.#freeAt = Math.max(this.#freeAt, now) + (piece.length / this.together) * 1000;
      freeAt = Math.max(freeAt, now) + (piece.length / this.perRequest) * 1000;
      const wait = Math.max(freeAt, this.#freeAt) - now;
      if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait));
      if (onward.destroyed) return;
      seen.bytes += piece.length;
      this.#bytes.set(seen.host, this.bytesTo(seen.host) + piece.length);
      if (!onward.write(piece)) await new Promise((resolve) => (wake = resolve));
    }
    onward.end();
  }
}
