// Whether a file is the one that an upload of an earlier session was sending.

import { count, moment } from "./format.js";

const INSTEAD = "Choose the original, or cancel this upload and send the file anew.";

/**
 * Name, size and date, then a checksum of pieces from all over the file.
 * @param {import("./remembered.js").Remembered} entry
 * @param {File} file
 * @param {import("../upflow.js").UpFlow} client
 * @returns {Promise<?string>} why it is not, or `null`
 */
export async function refusal({ name, size, lastModified, sample }, file, client) {
  if (file.name !== name) return `This is “${file.name}”; the upload is of “${name}”. ${INSTEAD}`;
  if (file.size !== size) {
    return `The file has changed: it has ${count(file.size)} bytes now; the one that was being sent had ${count(size)}. ${INSTEAD}`;
  }
  if (file.lastModified !== lastModified) {
    const [is, was] = [moment(file.lastModified), moment(lastModified)];
    if (is === was) return `The file has changed within the second after it was being sent. ${INSTEAD}`;
    return `The file has changed: it was last written ${is}; the one that was being sent, ${was}. ${INSTEAD}`;
  }
  try {
    if ((await client.sample(file)) === sample) return null;
  } catch (error) {
    return error.detail;
  }
  return `This file has the same name, size and date, but other contents. ${INSTEAD}`;
}
