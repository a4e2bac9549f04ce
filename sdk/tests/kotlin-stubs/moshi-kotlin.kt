// As moshi.kt, of moshi-kotlin.
package com.squareup.moshi.kotlin.reflect

class KotlinJsonAdapterFactory
