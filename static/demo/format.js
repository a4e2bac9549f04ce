// Numbers and states in words.

const UNITS = ["KiB", "MiB", "GiB", "TiB"];
const whole = new Intl.NumberFormat("en");

export function count(n) {
  return whole.format(n);
}

export function bytes(n) {
  if (n === 1) return "1 byte";
  if (n < 1024) return `${count(n)} bytes`;
  let unit = -1;
  do {
    n /= 1024;
    unit++;
  } while (n >= 1023.95 && unit < UNITS.length - 1);
  return `${n.toFixed(n < 10 && n % 1 ? 1 : 0)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (seconds < 1.5) return "a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(seconds / 360) / 10;
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

export function moment(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** 100 only for what is whole. */
export function percent(part, all) {
  return all === 0 ? 0 : Math.min(99, Math.floor((part / all) * 100));
}

/** What a running upload does, in words. */
export function status({ phase, paused, trouble, chunks, assembledChunks }) {
  if (paused && (phase === "starting" || phase === "sending")) return "Paused";
  if (trouble?.offline) return "Offline: it goes on by itself when the connection is back";
  if (trouble) {
    const seconds = Math.max(0, Math.round((trouble.retryAt - Date.now()) / 1000));
    return `${trouble.detail} Trying again ${seconds > 0 ? `in ${seconds} s` : "now"}.`;
  }
  switch (phase) {
    case "starting":
      return "Preparing";
    case "sending":
      return "Sending";
    case "assembling":
      return assembledChunks > 0 && assembledChunks < chunks.total
        ? `Everything is sent; S3 puts the file together: ${count(assembledChunks)} of ${count(chunks.total)} chunks`
        : "Everything is sent; S3 puts the file together";
    case "verifying":
      return "Comparing the finished file's checksum with the file here";
    case "cancelling":
      return "Cancelling";
    case "cancelled":
      return "Cancelled; what was sent is being removed from the bucket";
    case "completed":
      return "Complete";
    default:
      return "Stopped";
  }
}

export function numbers({ phase, trouble, sentBytes, totalBytes, bytesPerSecond, secondsLeft }) {
  const parts = [`${bytes(sentBytes)} of ${bytes(totalBytes)}`];
  if (phase === "sending" && !trouble && bytesPerSecond > 0) {
    parts.push(`${bytes(Math.round(bytesPerSecond))}/s`);
    if (secondsLeft !== null && sentBytes < totalBytes) parts.push(`${duration(secondsLeft)} left`);
  }
  return parts.join(" · ");
}

/** What is known of the finished file, in one line: `verified` is this browser's own comparison. */
export function integrity(upload, verified) {
  if (upload.file_size === 0) return "The file is empty, here and in the bucket.";
  if (verified) return "Identical to your file: the finished file's checksum is the one this browser computed.";
  const levels = {
    storage_verified: "Checked by checksum from the sender's disk to the finished file.",
    client_checksums: "Checked by checksum: the finished file is made of exactly the chunks that were sent.",
    size_only: "Only sizes could be compared: not every chunk has a checksum.",
  };
  return levels[upload.integrity?.level] ?? "The server says nothing about checksums.";
}

/** The status that an error with this code tells of, or `null`. */
export function statusOf(code) {
  return { upload_aborted: "aborted", upload_expired: "expired" }[code] ?? null;
}

/** @returns {Array<[string, string]>} what else there is to know of a finished upload */
export function facts({ final_s3_key, upload_id, total_chunks, chunk_size, integrity }) {
  const facts = [
    ["Key in the bucket", final_s3_key],
    ["Upload", upload_id],
    ["Chunks", total_chunks ? `${count(total_chunks)} of ${bytes(chunk_size)}` : "none"],
    ["Checked by the server", integrityLevel(integrity?.level)],
  ];
  if (integrity?.value) facts.push([integrity.algorithm.toUpperCase(), integrity.value]);
  return facts;
}

/** How the server came to its own verdict. */
function integrityLevel(level) {
  const levels = {
    storage_verified: "storage_verified: S3 refuses other bytes, chunk by chunk and for the whole file",
    client_checksums: "client_checksums: the server compared all checksums; S3 did not enforce them",
    size_only: "size_only: the server compared sizes",
  };
  return levels[level] ?? "not told";
}
