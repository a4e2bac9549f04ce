// Computes checksums off the page's thread, one blob after the other: `{id, blob, size}` in,
// `{id, checksums}` or `{id, name, message}` out.

import { checksumsOf } from "./crc64nvme.js";

let queue = Promise.resolve();

self.onmessage = ({ data: { id, blob, size } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, checksums: await checksumsOf(blob, size) });
    } catch (error) {
      self.postMessage({ id, name: error.name, message: error.message });
    }
  });
};
