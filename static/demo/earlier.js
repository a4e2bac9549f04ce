// What became of an upload of an earlier session: asked of the server, shown on its card.

import { Chunks } from "../upflow/chunks.js";
import * as format from "./format.js";

const WATCH_PAUSE_MS = 2_000;

/**
 * Watches an upload that is being assembled until it is not.
 *
 * @param {import("../upflow.js").UpFlow} client
 * @param {import("./remembered.js").Remembered} entry
 * @param {string|undefined} token the entry's, or none
 * @param {import("./card.js").Card} card
 * @param {() => boolean} stopped whether nobody wants to know any more
 * @returns {Promise<{state: "unfinished"|"completed"|"over"|"unknown"|"left", upload: ?object}>} rejects where
 *   it takes another token or key
 */
export async function look(client, { uploadId, uploadToken, size, since }, token, card, stopped) {
  card.error("");
  card.status("Asking the server how far it is");
  try {
    for (;;) {
      const upload = await client.get(uploadId, { token });
      if (stopped()) return { state: "left" };
      card.lifecycle(upload.status);
      if (upload.status === "completed") return { state: "completed", upload };
      if (upload.status === "aborted" || upload.status === "expired") return over(card, upload.status);
      const chunks = new Chunks({ size }, upload);
      chunks.reset(upload.uploaded_chunks);
      card.chunks(chunks);
      const numbers = `${format.bytes(upload.uploaded_bytes)} of ${format.bytes(size)} arrived · begun ${format.moment(since)}`;
      if (upload.status !== "pending_assembly") {
        card.progress(format.percent(upload.uploaded_bytes, size), "paused", numbers);
        return { state: "unfinished", upload };
      }
      card.status("Everything is sent; S3 puts the file together");
      card.progress(100, "busy", numbers);
      card.actions("cancel");
      await new Promise((resolve) => setTimeout(resolve, WATCH_PAUSE_MS));
    }
  } catch (error) {
    if (stopped()) return { state: "left" };
    if (error.status === 401) throw error;
    // Of another owner's key the server says the same; the upload's own token would know.
    if (error.code === "upload_not_found" && token === uploadToken) return over(card, "unknown");
    card.status("Its state is not known");
    card.error(error.detail);
    return { state: "unknown" };
  }
}

function over(card, end) {
  const ends = {
    aborted: "It has been cancelled; what was sent is removed",
    expired: "It has expired; what was sent is removed",
    unknown: "The server does not know this upload any more",
  };
  card.status(ends[end]);
  card.progress(0, "gone");
  card.chunks(null);
  return { state: "over" };
}
