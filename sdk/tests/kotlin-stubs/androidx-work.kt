// What the samples of sdk/README.md use of WorkManager, as okhttp3.kt.
package androidx.work

import android.content.Context
import java.util.concurrent.TimeUnit

private fun nothing(): Nothing = throw UnsupportedOperationException()

class Data {
    fun getString(key: String): String? = nothing()
}

fun workDataOf(vararg pairs: Pair<String, Any?>): Data = nothing()

class WorkerParameters

abstract class ListenableWorker(context: Context, parameters: WorkerParameters) {
    val inputData: Data get() = nothing()
    val isStopped: Boolean get() = nothing()
    open fun onStopped() {}
    abstract class Result {
        companion object {
            fun success(): Result = nothing()
            fun retry(): Result = nothing()
            fun failure(): Result = nothing()
            fun failure(outputData: Data): Result = nothing()
        }
    }
}

abstract class Worker(context: Context, parameters: WorkerParameters) : ListenableWorker(context, parameters) {
    abstract fun doWork(): Result
}

enum class NetworkType { CONNECTED }
enum class BackoffPolicy { EXPONENTIAL }
enum class ExistingWorkPolicy { KEEP }

class Constraints {
    class Builder {
        fun setRequiredNetworkType(networkType: NetworkType): Builder = nothing()
        fun build(): Constraints = nothing()
    }
}

class OneTimeWorkRequest {
    class Builder {
        fun setInputData(inputData: Data): Builder = nothing()
        fun setConstraints(constraints: Constraints): Builder = nothing()
        fun setBackoffCriteria(policy: BackoffPolicy, delay: Long, unit: TimeUnit): Builder = nothing()
        fun build(): OneTimeWorkRequest = nothing()
    }
}

inline fun <reified W : ListenableWorker> OneTimeWorkRequestBuilder(): OneTimeWorkRequest.Builder =
    throw UnsupportedOperationException()

class WorkManager {
    fun enqueueUniqueWork(name: String, policy: ExistingWorkPolicy, request: OneTimeWorkRequest): Any = nothing()
    companion object {
        fun getInstance(context: Context): WorkManager = nothing()
    }
}
