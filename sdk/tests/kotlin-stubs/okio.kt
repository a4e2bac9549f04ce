// As okhttp3.kt, of Okio.
package okio

interface BufferedSink {
    fun write(source: ByteArray, offset: Int, byteCount: Int): BufferedSink
}
