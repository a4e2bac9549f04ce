// What the samples of sdk/README.md leave to the app.

import java.util.UUID

const val SERVER = "https://upflow.example"

interface Tokens {
    fun of(id: UUID): String
    fun forget(id: UUID)
}

val tokens: Tokens get() = throw UnsupportedOperationException()
