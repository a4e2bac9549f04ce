// The UpFlow that a scenario runs against. It is started, stopped and looked into by the Rust side
// (cli/tests/it/browser.rs): a JSON object a line, a question on stdout, its answer on stdin.

import { createInterface } from "node:readline";

export class Stack {
  /** The page. */
  page = process.env.TEST_PAGE;
  /** `host:port` of the API and of S3. */
  api = new URL(process.env.TEST_PAGE).host;
  s3 = new URL(process.env.TEST_S3_ORIGIN).host;
  /** An API key, where the server asks for one. */
  key = process.env.TEST_KEY;
  #answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

  async ask(question, details = {}) {
    process.stdout.write(`${JSON.stringify({ ask: question, ...details })}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("the test is over");
    return JSON.parse(value);
  }

  /** That the finished file is the file at `path`, byte for byte, and that nothing else is left. */
  whole(uploadId, path) {
    return this.ask("whole", { upload_id: uploadId, path });
  }

  /** That nothing of the upload is in the bucket any more, nor any multipart upload. */
  nothing(uploadId) {
    return this.ask("nothing", { upload_id: uploadId });
  }

  async call(path) {
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    const answer = await fetch(new URL(path, this.page), { headers });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** The only upload, or the newest. */
  async upload() {
    const { uploads } = await this.call("/uploads");
    return uploads[0] && this.call(`/uploads/${uploads[0].upload_id}`);
  }
}
