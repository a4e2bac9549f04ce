// The checksums of sdk/README.md, run: what they make of "123456789", whole and as a part of a file that is read
// in several blocks.

import java.io.File
import java.nio.ByteBuffer
import java.util.Base64
import java.util.zip.CRC32C
import okio.BufferedSink

private val CHECK = "123456789".toByteArray()

private class Collected : BufferedSink {
    val bytes = java.io.ByteArrayOutputStream()
    override fun write(source: ByteArray, offset: Int, byteCount: Int) = apply { bytes.write(source, offset, byteCount) }
}

private fun crc64(vararg pieces: ByteArray): String {
    val crc = Crc64Nvme()
    for (piece in pieces) crc.update(piece, piece.size)
    return crc.base64()
}

fun main() {
    println("crc64nvme ${crc64(CHECK)}")
    check(crc64("1234".toByteArray(), "56789".toByteArray()) == crc64(CHECK))
    val crc32c = CRC32C().apply { update(CHECK, 0, CHECK.size) }
    println("crc32c " + Base64.getEncoder().encodeToString(ByteBuffer.allocate(4).putInt(crc32c.value.toInt()).array()))

    val file = File.createTempFile("slice", null)
    try {
        val bytes = ByteArray(300_000) { (it * 31 / 7).toByte() }
        file.writeBytes(bytes)
        val part = bytes.copyOfRange(70_001, 270_001)
        val slice = Slice(file, 70_001, 200_000)
        check(slice.checksum() == crc64(part)) { "the slice has another checksum" }
        val sent = Collected()
        slice.writeTo(sent)
        check(sent.bytes.toByteArray().contentEquals(part)) { "the slice sends other bytes" }
        check(slice.contentLength() == 200_000L)
        check(runCatching { Slice(file, 299_000, 2_000).checksum() }.isFailure) { "the file is shorter" }
    } finally {
        file.delete()
    }
}
