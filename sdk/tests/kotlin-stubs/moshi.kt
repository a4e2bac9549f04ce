// What the generated client uses of Moshi, by its signatures alone; as okhttp3.kt.
package com.squareup.moshi

annotation class Json(val name: String = "")
annotation class JsonClass(val generateAdapter: Boolean)
annotation class ToJson
annotation class FromJson

open class JsonAdapter<T> {
    fun nullSafe(): JsonAdapter<T> = throw UnsupportedOperationException()
    fun toJson(value: T?): String = throw UnsupportedOperationException()
    fun fromJson(text: String): T? = throw UnsupportedOperationException()
}

class Moshi {
    fun <T> adapter(type: Class<T>): JsonAdapter<T> = throw UnsupportedOperationException()
    class Builder {
        fun <T> add(type: Class<T>, adapter: JsonAdapter<T>): Builder = throw UnsupportedOperationException()
        fun add(adapter: Any): Builder = throw UnsupportedOperationException()
        fun addLast(adapter: Any): Builder = throw UnsupportedOperationException()
        fun build(): Moshi = throw UnsupportedOperationException()
    }
}

inline fun <reified T> Moshi.adapter(): JsonAdapter<T> = throw UnsupportedOperationException()
