// As moshi.kt, of moshi-adapters and moshi-kotlin.
package com.squareup.moshi.adapters

import com.squareup.moshi.JsonAdapter

class EnumJsonAdapter<T : Enum<T>> : JsonAdapter<T>() {
    fun withUnknownFallback(fallback: T?): EnumJsonAdapter<T> = throw UnsupportedOperationException()
    companion object {
        fun <T : Enum<T>> create(type: Class<T>): EnumJsonAdapter<T> = throw UnsupportedOperationException()
    }
}
