// What the generated client and the samples of sdk/README.md use of OkHttp 4, by its signatures alone: enough to compile against where no
// repository of Java libraries is at hand. Nothing here runs.
package okhttp3

import java.io.Closeable
import java.io.File
import java.io.InputStream
import java.util.concurrent.TimeUnit
import okio.BufferedSink

private fun nothing(): Nothing = throw UnsupportedOperationException()

interface Call {
    fun execute(): Response
    fun cancel()
    fun enqueue(responseCallback: Callback)
    fun interface Factory {
        fun newCall(request: Request): Call
    }
}

interface Callback {
    fun onFailure(call: Call, e: java.io.IOException)
    fun onResponse(call: Call, response: Response)
}

open class OkHttpClient : Call.Factory {
    override fun newCall(request: Request): Call = nothing()
    fun newBuilder(): Builder = nothing()
    class Builder {
        fun readTimeout(timeout: Long, unit: TimeUnit): Builder = nothing()
        fun build(): OkHttpClient = nothing()
    }
}

class MediaType {
    companion object {
        fun String.toMediaTypeOrNull(): MediaType? = nothing()
        fun String.toMediaType(): MediaType = nothing()
    }
}

class Headers : Iterable<Pair<String, String>> {
    override fun iterator(): Iterator<Pair<String, String>> = nothing()
    fun toMultimap(): Map<String, List<String>> = nothing()
    operator fun get(name: String): String? = nothing()
    class Builder {
        fun add(name: String, value: String): Builder = nothing()
        operator fun set(name: String, value: String): Builder = nothing()
        fun build(): Headers = nothing()
    }
    companion object {
        fun Map<String, String>.toHeaders(): Headers = nothing()
        fun headersOf(vararg namesAndValues: String): Headers = nothing()
    }
}

abstract class RequestBody {
    abstract fun contentType(): MediaType?
    open fun contentLength(): Long = nothing()
    abstract fun writeTo(sink: BufferedSink)
    companion object {
        fun String.toRequestBody(contentType: MediaType? = null): RequestBody = nothing()
        fun ByteArray.toRequestBody(contentType: MediaType? = null): RequestBody = nothing()
        fun File.asRequestBody(contentType: MediaType? = null): RequestBody = nothing()
    }
}

class FormBody : RequestBody() {
    override fun contentType(): MediaType? = nothing()
    override fun writeTo(sink: BufferedSink) = nothing()
    class Builder {
        fun add(name: String, value: String): Builder = nothing()
        fun build(): FormBody = nothing()
    }
}

class MultipartBody : RequestBody() {
    override fun contentType(): MediaType? = nothing()
    override fun writeTo(sink: BufferedSink) = nothing()
    class Builder {
        fun setType(type: MediaType): Builder = nothing()
        fun addPart(headers: Headers?, body: RequestBody): Builder = nothing()
        fun build(): MultipartBody = nothing()
    }
    companion object {
        val FORM: MediaType get() = nothing()
    }
}

class HttpUrl {
    fun newBuilder(): Builder = nothing()
    val encodedPathSegments: List<String> get() = nothing()
    class Builder {
        fun scheme(scheme: String): Builder = nothing()
        fun host(host: String): Builder = nothing()
        fun addEncodedPathSegments(segments: String): Builder = nothing()
        fun addPathSegments(segments: String): Builder = nothing()
        fun addPathSegment(segment: String): Builder = nothing()
        fun addQueryParameter(name: String, value: String?): Builder = nothing()
        fun build(): HttpUrl = nothing()
    }
    companion object {
        fun String.toHttpUrlOrNull(): HttpUrl? = nothing()
    }
}

class Request {
    class Builder {
        fun url(url: HttpUrl): Builder = nothing()
        fun url(url: String): Builder = nothing()
        fun get(): Builder = nothing()
        fun head(): Builder = nothing()
        fun delete(body: RequestBody? = null): Builder = nothing()
        fun patch(body: RequestBody): Builder = nothing()
        fun put(body: RequestBody): Builder = nothing()
        fun post(body: RequestBody): Builder = nothing()
        fun method(method: String, body: RequestBody?): Builder = nothing()
        fun headers(headers: Headers): Builder = nothing()
        fun header(name: String, value: String): Builder = nothing()
        fun addHeader(name: String, value: String): Builder = nothing()
        fun build(): Request = nothing()
    }
}

abstract class ResponseBody : Closeable {
    fun string(): String = nothing()
    fun bytes(): ByteArray = nothing()
    fun byteStream(): InputStream = nothing()
    override fun close() {}
}

class Response : Closeable {
    val body: ResponseBody? get() = nothing()
    val code: Int get() = nothing()
    val message: String get() = nothing()
    val headers: Headers get() = nothing()
    val isRedirect: Boolean get() = nothing()
    val isSuccessful: Boolean get() = nothing()
    fun header(name: String, defaultValue: String? = null): String? = nothing()
    override fun close() {}
}
